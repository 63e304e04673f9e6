"""Presigned URLs: the claim that the query string makes, and how long it holds. Pure.

Source: Amazon S3 API reference, "Authenticating Requests: Using Query Parameters (AWS Signature Version 4)".
"""

from dataclasses import dataclass

from gateway.auth.sigv4 import ALGORITHM, Claim, MalformedError, parse_claim, parse_timestamp
from gateway.errors import S3Error
from gateway.request import Query

EXPIRES_MAX_S = 7 * 24 * 3600
PARAMETERS = (
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
)


@dataclass(frozen=True, slots=True)
class Presigned:
    """What a presigned URL claims. timestamp: as sent; signed_at, expires_at: seconds since the epoch."""

    claim: Claim
    timestamp: str
    signed_at: int
    expires_at: int


def is_presigned(query: Query) -> bool:
    return bool(query) and any(name in query for name in PARAMETERS)


def parse(query: Query) -> Presigned:
    """Raises: S3Error AuthorizationQueryParametersError."""
    names = [name for name, _ in query.pairs]
    if any(names.count(name) != 1 for name in PARAMETERS):
        raise _malformed(
            "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, "
            "X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters, each once."
        )
    if query["X-Amz-Algorithm"] != ALGORITHM:
        raise _malformed(f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    try:
        claim = parse_claim(query["X-Amz-Credential"], query["X-Amz-SignedHeaders"], query["X-Amz-Signature"])
    except MalformedError as error:
        raise _malformed(f"Error parsing the authorization query parameters; {error}.") from None
    signed_at = parse_timestamp(query["X-Amz-Date"])
    if signed_at is None:
        raise _malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
    return Presigned(claim, query["X-Amz-Date"], signed_at, signed_at + _expires(query["X-Amz-Expires"]))


def _expires(text: str) -> int:
    if text.startswith("-"):
        raise _malformed("X-Amz-Expires must be non-negative")
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise _malformed("X-Amz-Expires should be a number")
    if int(text) > EXPIRES_MAX_S:
        raise _malformed(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than "
            f"{EXPIRES_MAX_S} seconds"
        )
    return int(text)


def signed_pairs(query: Query) -> list[tuple[str, str]]:
    """The pairs that the signature covers: all but itself."""
    return [pair for pair in query.pairs if pair[0] != "X-Amz-Signature"]


def _malformed(message: str) -> S3Error:
    return S3Error("AuthorizationQueryParametersError", message)
