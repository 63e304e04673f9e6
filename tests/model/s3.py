"""Reading a bucket by S3's own protocol, without the cost of a client: requests signed by botocore, and no more.

boto3 spends five times as long on each; it is used for what the model changes, where its habits matter.
"""

import http.client
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote_to_bytes, urlencode

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.doors import REGION, Doors

_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_META = "x-amz-meta-"


@dataclass(frozen=True, slots=True)
class Listed:
    """One key of a listing; *modified_s* in whole seconds since the epoch."""

    size: int
    etag: str
    modified_s: int
    storage_class: str


@dataclass(frozen=True, slots=True)
class Got:
    """Answer of a GET."""

    status: int
    data: bytes
    headers: Mapping[str, str]

    @property
    def etag(self) -> str:
        return self.headers["etag"].strip('"')

    @property
    def modified_s(self) -> int:
        return int(parsedate_to_datetime(self.headers["last-modified"]).timestamp())

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        found = {name[len(_META) :]: value for name, value in self.headers.items() if name.startswith(_META)}
        return tuple(sorted(found.items()))


class Reader:
    """One connection to a gateway."""

    def __init__(self, doors: Doors) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", doors.port, timeout=60)
        self._url = doors.url
        self._signer = S3SigV4Auth(Credentials(*doors.credentials), "s3", REGION)

    def close(self) -> None:
        self._connection.close()

    def get(self, bucket: str, key: bytes, method: str = "GET") -> Got:
        return self._ask(method, f"/{bucket}/{quote(key, safe='/~')}")

    def list(
        self, bucket: str, prefix: bytes = b"", delimiter: bytes = b"", page: int = 1000
    ) -> tuple[dict[bytes, Listed], list[bytes]]:
        """(keys in the order of the listing, common prefixes), all pages of it."""
        query = {"list-type": "2", "encoding-type": "url", "max-keys": str(page)}
        if prefix:
            query["prefix"] = prefix.decode()
        if delimiter:
            query["delimiter"] = delimiter.decode()
        keys: dict[bytes, Listed] = {}
        prefixes: list[bytes] = []
        for document in self._pages(bucket, query):
            for each in document.iter(f"{_XML}Contents"):
                key = unquote_to_bytes(_text(each, "Key").replace("+", " "))
                assert key not in keys, f"{key!r} is listed twice"
                keys[key] = _listed(each)
            for each in document.iter(f"{_XML}CommonPrefixes"):
                prefixes.append(unquote_to_bytes(_text(each, "Prefix").replace("+", " ")))
        return keys, prefixes

    def _pages(self, bucket: str, query: dict[str, str]) -> Iterator[ElementTree.Element]:
        while True:
            got = self._ask("GET", f"/{bucket}?{urlencode(sorted(query.items()), quote_via=quote)}")
            assert got.status == 200, got
            document = ElementTree.fromstring(got.data)
            yield document
            if _text(document, "IsTruncated") != "true":
                return
            query = {**query, "continuation-token": _text(document, "NextContinuationToken")}

    def _ask(self, method: str, target: str, body: bytes | None = None, extra: Mapping[str, str] | None = None) -> Got:
        headers = {"x-amz-content-sha256": "UNSIGNED-PAYLOAD", **(extra or {})}
        request = AWSRequest(method, self._url + target, headers=headers, data=body)
        request.context["payload_signing_enabled"] = False
        self._signer.add_auth(request)
        self._connection.request(method, target, body, headers=dict(request.headers.items()))
        with self._connection.getresponse() as answer:
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Got(answer.status, answer.read(), headers)


def _listed(element: ElementTree.Element) -> Listed:
    modified = datetime.fromisoformat(_text(element, "LastModified"))
    etag = _text(element, "ETag").strip('"')
    return Listed(int(_text(element, "Size")), etag, int(modified.timestamp()), _text(element, "StorageClass"))


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(_XML + name) or ""
