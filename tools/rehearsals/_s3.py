"""What rehearsals change through S3, without the cost of a client."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from urllib.parse import quote
from xml.sax.saxutils import escape

from tests.model.s3 import Got, Reader

PART = 5 << 20


class Refused(Exception):
    """A request was answered, and not with success."""


class Client(Reader):
    """One connection that writes, too. Each call raises Refused, or what http.client raises where nobody answers."""

    def put(self, bucket: str, key: str, data: bytes, headers: Mapping[str, str] | None = None) -> Got:
        return self._must("PUT", _target(bucket, key), data, headers)

    def delete(self, bucket: str, key: str) -> Got:
        return self._must("DELETE", _target(bucket, key))

    def delete_many(self, bucket: str, keys: Sequence[str]) -> None:
        listed = "".join(f"<Object><Key>{escape(key)}</Key></Object>" for key in keys)
        body = f"<Delete>{listed}</Delete>".encode()
        sum_ = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        self._must("POST", f"/{bucket}?delete=", body, {"content-md5": sum_})

    def copy(self, bucket: str, source: str, key: str, metadata: Mapping[str, str] | None = None) -> Got:
        """*metadata* replaces that of the source; without it the copy onto itself is refused."""
        headers = {"x-amz-copy-source": quote(f"/{bucket}/{source}")}
        if metadata is not None:
            headers["x-amz-metadata-directive"] = "REPLACE"
            headers |= {f"x-amz-meta-{name}": value for name, value in metadata.items()}
        return self._must("PUT", _target(bucket, key), b"", headers)

    def upload(self, bucket: str, key: str, parts: Sequence[bytes]) -> None:
        """In parts, all but the last of PART bytes at least."""
        target = _target(bucket, key)
        begun = self._must("POST", f"{target}?uploads=", b"").data
        ident = quote(begun.partition(b"<UploadId>")[2].partition(b"</")[0])
        done = ""
        for number, part in enumerate(parts, 1):
            etag = self._must("PUT", f"{target}?partNumber={number}&uploadId={ident}", part).headers["etag"]
            done += f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{done}</CompleteMultipartUpload>".encode()
        self._must("POST", f"{target}?uploadId={ident}", body)

    def _must(self, method: str, target: str, body: bytes | None = None, extra: Mapping[str, str] | None = None) -> Got:
        got = self._ask(method, target, body, extra)
        if got.status >= 300:
            raise Refused(f"{method} {target}: {got.status} {got.data[:300]!r}")
        return got


def _target(bucket: str, key: str) -> str:
    return f"/{bucket}/{quote(key, safe='/~')}" if key else f"/{bucket}"
