"""AWS Signature Version 2 in the query string: what botocore signs a presigned URL with, unless it is told otherwise.

Version 2 signs no region, no day and no hash of the body, and of the query string only what it knows. So what it does
not sign is refused here, and a URL that would hold for longer than one of version 4 may. The form in the header is no
client's default any more, and is not here. Pure.

Source: Amazon S3 Developer Guide, "Signing and Authenticating REST Requests"; botocore, ``auth.HmacV1QueryAuth``.
"""

import base64
import hmac
from dataclasses import dataclass

from gateway.errors import S3Error
from gateway.request import Query, Request
from gateway.routes import V2_HEADERS

PARAMETERS = ("AWSAccessKeyId", "Expires", "Signature")
_SIGNED = frozenset(
    (
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "delete",
        "inventory",
        "lifecycle",
        "location",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "partNumber",
        "policy",
        "replication",
        "requestPayment",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "restore",
        "select",
        "select-type",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
    )
)
"""Parameters that are part of the resource, as botocore has them."""


@dataclass(frozen=True, slots=True)
class Presigned:
    """What a URL claims. expires_at: seconds since the epoch; signature: base64."""

    access_key: str
    expires_at: int
    signature: str


def is_presigned(query: Query) -> bool:
    return "AWSAccessKeyId" in query or "Signature" in query


def parse(query: Query) -> Presigned:
    """Raises: S3Error AccessDenied, also for a parameter that the signature does not cover."""
    names = [name for name, _ in query.pairs]
    if any(names.count(name) != 1 for name in PARAMETERS):
        raise S3Error(
            "AccessDenied",
            "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters, each once.",
        )
    if any("\n" in value for _, value in query.pairs):
        raise S3Error("AccessDenied", "A line break in a parameter would make the text that is signed ambiguous.")
    unsigned = sorted(name for name in query if not _is_covered(name))
    if unsigned:
        raise S3Error(
            "AccessDenied",
            "Signature version 2 does not cover all parameters of the request. Please use AWS4-HMAC-SHA256.",
            ParametersNotSigned=", ".join(unsigned),
        )
    expires = query["Expires"]
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 10):
        raise S3Error("AccessDenied", "Invalid date (should be seconds since epoch): " + expires)
    return Presigned(query["AWSAccessKeyId"], int(expires), query["Signature"])


def _is_covered(name: str) -> bool:
    lower = name.lower()
    return name in PARAMETERS or name in _SIGNED or lower in V2_HEADERS or lower.startswith("x-amz-")


def string_to_sign(request: Request) -> str:
    headers = request.headers
    lines = [request.method, *(headers.get(name, "") for name in V2_HEADERS), request.query["Expires"]]
    lines.extend(f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-amz-"))
    return "\n".join((*lines, _resource(request)))


def _resource(request: Request) -> str:
    """The path with the bucket in it, also where a client addressed that in the host."""
    path = request.raw_path.decode("ascii")
    if request.in_host:
        path = f"/{request.bucket}{path}"
    pairs = sorted((pair for pair in request.query.pairs if pair[0] in _SIGNED), key=lambda pair: pair[0])
    text = "&".join(f"{name}={value}" if value else name for name, value in pairs)
    return f"{path}?{text}" if text else path


def matches(secret: str, text: str, signature: str) -> bool:
    """Whether *signature* is right, in a time that does not depend on how much of it is."""
    expected = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1"))
    return hmac.compare_digest(expected, signature.encode())
