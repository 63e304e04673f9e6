"""How listings are cut into pages: what a request asks for, and tokens that say nothing to their bearer."""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.errors import S3Error
from gateway.numbers import bounded
from gateway.xml import Page
from stratumfs.limits import LIST_MAX

_FORM = b"\x01"
"""First byte of a token: what follows is the last name of the page before."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What all listings of a bucket are asked for."""

    prefix: bytes
    delimiter: bytes
    limit: int
    url: bool

    def page(self, bucket: str, *, truncated: bool) -> Page:
        return Page(bucket, self.prefix, self.delimiter, self.limit, truncated, self.url)


def asked_page(query: Mapping[str, str], limit: str) -> Asked:
    """*limit* is the name of the parameter that bounds the page. Raises: S3Error InvalidArgument."""
    return Asked(
        prefix=query.get("prefix", "").encode(),
        delimiter=query.get("delimiter", "").encode(),
        limit=bounded(query, limit, LIST_MAX, LIST_MAX),
        url=url_encoded(query),
    )


def url_encoded(query: Mapping[str, str]) -> bool:
    """Whether keys are to be percent-encoded in the answer. Raises: S3Error InvalidArgument."""
    asked = query.get("encoding-type") or None
    if asked not in (None, "url"):
        message = "Invalid Encoding Method specified in Request"
        raise S3Error("InvalidArgument", message, ArgumentName="encoding-type", ArgumentValue=asked or "")
    return asked is not None


def token_of(after: bytes) -> str:
    return base64.urlsafe_b64encode(_FORM + after).decode("ascii")


def after_token(token: str) -> bytes:
    """Where a listing goes on. An empty token means the beginning. Raises: S3Error InvalidArgument."""
    if not token:
        return b""
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if not raw.startswith(_FORM):
        message = "The continuation token provided is incorrect"
        raise S3Error("InvalidArgument", message, ArgumentName="continuation-token")
    return raw[1:]
