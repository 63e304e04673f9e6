"""A server of S3 on loopback, and heads of requests for it, signed by version 4."""

import hashlib
import hmac
import time
from dataclasses import dataclass, field

REGION = "us-east-1"
UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_SIGNED = "host;x-amz-content-sha256;x-amz-date"


@dataclass
class Endpoint:
    """Signing costs some 10 µs: a measurement signs its requests before its clock starts."""

    port: int
    access_key: str
    secret_key: str
    _keys: dict[str, bytes] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def head(self, method: str, path: str, query: str = "", sha256: str = EMPTY_SHA256, length: int = 0) -> bytes:
        """Request line and headers. *path* and *query* are encoded and in order already."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{now[:8]}/{REGION}/s3/aws4_request"
        canonical = (
            f"{method}\n{path}\n{query}\nhost:{self.host}\nx-amz-content-sha256:{sha256}\nx-amz-date:{now}\n\n"
            f"{_SIGNED}\n{sha256}"
        )
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = hmac.digest(self._key(now[:8]), text.encode(), "sha256").hex()
        return (
            f"{method} {path}{'?' if query else ''}{query} HTTP/1.1\r\nHost: {self.host}\r\n"
            f"x-amz-content-sha256: {sha256}\r\nx-amz-date: {now}\r\nContent-Length: {length}\r\n"
            f"Authorization: AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={_SIGNED}, "
            f"Signature={signature}\r\n\r\n"
        ).encode()

    def put(self, path: str, body: bytes) -> bytes:
        """A whole request with a signed body."""
        return self.head("PUT", path, sha256=hashlib.sha256(body).hexdigest(), length=len(body)) + body

    def _key(self, date: str) -> bytes:
        found = self._keys.get(date)
        if found is None:
            found = ("AWS4" + self.secret_key).encode()
            for step in (date, REGION, "s3", "aws4_request"):
                found = hmac.digest(found, step.encode(), "sha256")
            self._keys[date] = found
        return found
