"""Well-signed nonsense: every answer is one of S3's, none an accident, and nothing is changed by a refusal."""

import http.client
import os
from typing import Any
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from gateway.limits import REQUEST_XML_SETTING_MAX
from tests.s3.door import ACCESS_KEY, REGION, SECRET_KEY, Gateway

pytestmark = pytest.mark.client
NASTY = st.sampled_from(["", "0", "-1", "x", "ü", "a/b", "%00", "null", "bytes=0-1", "*", '"', "9" * 40, "\x01", "url"])
NAMES = [
    "acl",
    "attributes",
    "continuation-token",
    "delete",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "list-type",
    "location",
    "marker",
    "max-keys",
    "max-parts",
    "max-uploads",
    "part-number-marker",
    "partNumber",
    "prefix",
    "response-content-type",
    "start-after",
    "tagging",
    "upload-id-marker",
    "uploadId",
    "uploads",
    "version-id-marker",
    "versionId",
    "versioning",
    "versions",
    "x-id",
]
HEADERS = [
    "content-encoding",
    "content-md5",
    "content-type",
    "expires",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
    "x-amz-acl",
    "x-amz-checksum-algorithm",
    "x-amz-checksum-crc32",
    "x-amz-checksum-mode",
    "x-amz-checksum-type",
    "x-amz-copy-source",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-range",
    "x-amz-meta-a",
    "x-amz-metadata-directive",
    "x-amz-mp-object-size",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-website-redirect-location",
]
BODIES = st.sampled_from([b"", b"body", b"<Delete/>", b"<a><b/>", b"<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>", b"\xff"])
PATHS = st.sampled_from(["/", "/nonsense", "/nonsense/", "/nonsense/k", "/nonsense/%2e%2e", "/no-such/k", "/X_/k"])
_CODES_OF_REFUSAL = range(300, 600)


@pytest.fixture(scope="module")
def kept(s3: Any) -> str:
    name = f"nonsense-{os.urandom(8).hex()}"  # the door lasts longer than a module, which may come twice
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="kept", Body=b"as it was")
    return name


def ask(served: Gateway, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: bytes) -> Any:
    """Status and body of the answer to one signed request."""
    text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    url = f"{served.url}{path}" + (f"?{text}" if text else "")
    sent = {name: value for name, value in headers.items() if value.isprintable() and value.isascii()}
    request = AWSRequest(method, url, headers=sent, data=body)
    S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION).add_auth(request)
    connection = http.client.HTTPConnection(served.address, timeout=60)
    try:
        target = url.removeprefix(served.url)
        connection.request(method, target, body, dict(request.headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE"]),
    path=PATHS,
    query=st.dictionaries(st.sampled_from(NAMES), NASTY, max_size=3),
    headers=st.dictionaries(st.sampled_from(HEADERS), NASTY, max_size=3),
    body=BODIES,
)
def test_nonsense_is_answered_by_the_book(
    served: Gateway,
    s3: Any,
    kept: str,
    method: str,
    path: str,
    query: dict[str, str],
    headers: dict[str, str],
    body: bytes,
) -> None:
    status, answer = ask(served, method, path, query, headers, body if method in ("PUT", "POST") else b"")
    assert status != 500, answer
    assert served.door.statistics().unexpected_errors == 0
    if status in _CODES_OF_REFUSAL and method != "HEAD" and status != 304:
        assert etree.fromstring(answer).findtext("Code")
    assert s3.get_object(Bucket=kept, Key="kept")["Body"].read() == b"as it was"


@pytest.mark.parametrize("path", ["/too-long", "/nonsense?versioning"])
def test_a_setting_is_a_short_document(served: Gateway, kept: str, path: str) -> None:
    place, _, name = path.partition("?")
    status, answer = ask(served, "PUT", place, {name: ""} if name else {}, {}, b" " * (REQUEST_XML_SETTING_MAX + 1))
    assert (status, etree.fromstring(answer).findtext("Code")) == (400, "MaxMessageLengthExceeded")


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("query", ["uploads", "versionId", "tagging", "policy", "x-nonsense"])
def test_a_write_with_another_meaning_writes_no_object(
    served: Gateway, s3: Any, bucket: str, method: str, query: str
) -> None:
    status, _ = ask(served, method, f"/{bucket}/k", {query: "v"}, {}, b"body")
    if query != "x-nonsense":
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert status != 500
