"""Presigned URLs of version 2, with botocore as the signer."""

import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import pytest
from botocore.auth import HmacV1QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from gateway.auth.gate import Gate
from gateway.errors import S3Error
from gateway.request import Request
from tests.gateway.requests import receiver, request

KEY, SECRET = "AKIATEST", "secret"
WEEK_S = 7 * 24 * 3600


class _OneKey:
    def secret(self, access_key: str) -> str | None:
        return SECRET if access_key == KEY else None


def target(method: str, path: str, headers: Mapping[str, str] | None = None, *, expires: int = 60) -> str:
    prepared = AWSRequest(method, f"http://s3.test{path}", headers or {})
    HmacV1QueryAuth(Credentials(KEY, SECRET), expires).add_auth(prepared)
    parts = urlsplit(str(prepared.url))
    return f"{parts.path}?{parts.query}"


def accept(found: Request, offset_s: float = 0) -> None:
    caller = Gate(_OneKey(), clock=lambda: time.time() + offset_s).authenticate(found, receiver())
    assert caller.principal.access_key == KEY


def refused(found: Request, offset_s: float = 0) -> S3Error:
    with pytest.raises(S3Error) as caught:
        accept(found, offset_s)
    return caught.value


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/bucket/key"),
        ("HEAD", "/bucket/a%20b/%C3%BC~+x"),
        ("DELETE", "/bucket/key?versionId=null"),
        ("GET", "/bucket?uploads"),
        ("GET", "/bucket/key?response-content-type=text%2Fplain%3B%20a%3Db&response-expires=x&partNumber=2"),
        ("PUT", "/bucket/key?uploadId=0123&partNumber=2"),
    ],
)
def test_what_botocore_presigns_is_accepted(method: str, path: str) -> None:
    accept(request(method, target(method, path), {"content-length": "0"}))


def test_headers_may_be_sent_or_stand_in_the_url() -> None:
    said = {"x-amz-meta-a": "1", "content-type": "text/x", "x-amz-storage-class": "STANDARD_IA"}
    url = target("PUT", "/bucket/key", said)
    for sent in ({}, said):
        found = request("PUT", url, {"content-length": "0", **sent})
        assert said.items() <= found.headers.items()
        accept(found)


def test_a_bucket_in_the_host_is_part_of_what_is_signed() -> None:
    prepared = AWSRequest("GET", "http://bucket.s3.test/key", auth_path="/bucket/key")
    HmacV1QueryAuth(Credentials(KEY, SECRET), 60).add_auth(prepared)
    path = f"/key?{urlsplit(str(prepared.url)).query}"
    accept(request("GET", path, {"host": "bucket.s3.test"}, domains=("s3.test",)))
    other = request("GET", path, {"host": "other.s3.test"}, domains=("s3.test",))
    assert refused(other).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("/bucket/key?", "/bucket/other?", "SignatureDoesNotMatch"),
        ("Signature=", "Signature=x", "SignatureDoesNotMatch"),
        ("Expires=", "Expires=1", "AccessDenied"),
        ("Expires=", "Expires=x", "AccessDenied"),
        ("Expires=", "Nothing=", "AccessDenied"),
        (KEY, "nobody", "InvalidAccessKeyId"),
        ("?", "?versionId=null&", "SignatureDoesNotMatch"),
        ("?", "?x-amz-acl=private&", "SignatureDoesNotMatch"),
        ("?", "?content-type=text/plain&", "SignatureDoesNotMatch"),
        ("response-content-type=a", "response-content-type=b", "SignatureDoesNotMatch"),
        ("?", "?Expires=1&", "AccessDenied"),
        # Not covered by the signature, whatever it is.
        ("?", "?prefix=a&", "AccessDenied"),
        ("?", "?x-id=GetObject&", "AccessDenied"),
        # Two lines could be read as one.
        ("?", "?x-amz-meta-a=1%0Ax-amz-meta-b:2&", "AccessDenied"),
        ("?", "?X-Amz-Signature=x&", "InvalidArgument"),
    ],
)
def test_a_url_that_was_changed_is_refused(old: str, new: str, code: str) -> None:
    url = target("GET", "/bucket/key?response-content-type=a")
    assert old in url
    assert refused(request("GET", url.replace(old, new, 1))).code == code


def test_another_method_or_another_header_is_refused() -> None:
    url = target("GET", "/bucket/key")
    assert refused(request("DELETE", url)).code == "SignatureDoesNotMatch"
    for name in ("x-amz-meta-a", "content-type", "content-md5", "x-amz-copy-source"):
        assert refused(request("GET", url, {name: "x"})).code == "SignatureDoesNotMatch"
    assert refused(request("GET", url, {"authorization": "AWS4-HMAC-SHA256 x"})).code == "InvalidArgument"


def test_a_url_holds_for_its_time_and_a_week_at_most() -> None:
    found = request("GET", target("GET", "/bucket/key"))
    assert refused(found, 62).message == "Request has expired"
    accept(request("GET", target("GET", "/bucket/key", expires=WEEK_S)), -60)
    assert "week" in refused(request("GET", target("GET", "/bucket/key", expires=WEEK_S + 1000))).message


def test_signed_chunks_build_on_a_signature_of_version_4() -> None:
    said = {"x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "x-amz-decoded-content-length": "1"}
    assert refused(request("PUT", target("PUT", "/bucket/key", said), said)).code == "InvalidRequest"
