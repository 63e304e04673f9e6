"""AWS Signature Version 4: what is signed, and with which key. Pure.

Source: Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)". Two things differ from SigV4 of
other services: the path is encoded once, and the payload's hash is a header.
"""

import hashlib
import hmac
import re
from calendar import timegm
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_tz
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
SERVICE = "s3"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_CACHE = 256
_REMEMBERED_MAX = 512
"""Bytes; one client sends the same texts again and again, so that what was made of them is remembered."""
_TIMESTAMP = re.compile(r"(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z", re.ASCII)
_PLAIN_PATH = re.compile(rb"[A-Za-z0-9/_.~-]*")
_TIME_MAX = timegm((9999, 12, 31, 23, 59, 59))
_HEX_256 = re.compile(r"[0-9a-f]{64}")


class MalformedError(ValueError):
    """A part of the authorisation that has not the form it must have; the message says which."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signing key is good for. date: YYYYMMDD."""

    date: str
    region: str
    service: str

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/{TERMINATOR}"


@dataclass(frozen=True, slots=True)
class SignedHeaders:
    """Names that a signature covers: lowercase, sorted, each once."""

    names: tuple[bytes, ...]

    @property
    def text(self) -> bytes:
        return b";".join(self.names)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request claims, unproved: who, for what, and the signature (64 lowercase hex digits)."""

    access_key: str
    scope: Scope
    signed_headers: SignedHeaders
    signature: str


def parse_authorization(value: str) -> Claim:
    """The claim of an Authorization header, whose algorithm was checked. Raises: MalformedError."""
    _, _, rest = value.partition(" ")
    fields: dict[str, str] = {}
    for item in rest.split(","):
        name, equals, text = item.strip().partition("=")
        if not equals or name in fields:
            raise MalformedError("every component must be one name=value")
        fields[name] = text
    missing = {"Credential", "SignedHeaders", "Signature"} - fields.keys()
    if missing:
        raise MalformedError(f"{', '.join(sorted(missing))} is missing")
    return parse_claim(fields["Credential"], fields["SignedHeaders"], fields["Signature"])


def parse_claim(credential: str, signed_headers: str, signature: str) -> Claim:
    """A claim from its three texts. Raises: MalformedError."""
    if not _HEX_256.fullmatch(signature):
        raise MalformedError("the Signature must be 64 lowercase hexadecimal digits")
    # What is longer than any client sends is not worth a place in the cache, which strangers can fill.
    remembered = len(credential) + len(signed_headers) <= _REMEMBERED_MAX
    access_key, scope = (_parse_credential if remembered else _parse_credential.__wrapped__)(credential)
    names = (_parse_names if remembered else _parse_names.__wrapped__)(signed_headers)
    return Claim(access_key, scope, names, signature)


@lru_cache(maxsize=_CACHE)
def _parse_credential(credential: str) -> tuple[str, Scope]:
    # An access key may hold slashes; the scope's four parts may not.
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or not parts[0]:
        raise MalformedError('the Credential must be "<access key>/YYYYMMDD/<region>/<service>/aws4_request"')
    access_key, date, region, service, terminator = parts
    if terminator != TERMINATOR:
        raise MalformedError(f'the Credential must end in "{TERMINATOR}"')
    if not (len(date) == 8 and date.isascii() and date.isdigit()):
        raise MalformedError(f'invalid credential date "{date}"; it must be "YYYYMMDD"')
    return access_key, Scope(date, region, service)


@lru_cache(maxsize=_CACHE)
def _parse_names(signed_headers: str) -> SignedHeaders:
    names = signed_headers.split(";")
    if any(not name or name != name.lower() for name in names) or len(set(names)) != len(names):
        raise MalformedError("SignedHeaders must be lowercase names, each once")
    return SignedHeaders(tuple(name.encode() for name in sorted(names)))


@lru_cache(maxsize=_CACHE)
def parse_timestamp(text: str) -> int | None:
    """Seconds since the epoch of ``YYYYMMDDTHHMMSSZ``; None if it is something else."""
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = map(int, match.groups())
    if not (1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second <= 60 and year >= 1970):
        return None
    return timegm((year, month, day, hour, minute, second))


def parse_http_date(text: str) -> int | None:
    """Seconds since the epoch of an HTTP date; None if it is something else."""
    parsed = parsedate_tz(text)
    if parsed is None:
        return None
    try:
        seconds = timegm(parsed[:6]) - (parsed[9] or 0)
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds <= _TIME_MAX else None


def canonical_path(raw_path: bytes) -> str:
    """Decoded and encoded again, so that it does not matter which characters the client left as they are."""
    if _PLAIN_PATH.fullmatch(raw_path):
        return raw_path.decode("ascii")
    return quote(unquote_to_bytes(raw_path), safe="/-_.~")


def canonical_query(pairs: Sequence[tuple[str, str]]) -> str:
    """Encoded, then sorted by encoded name and value."""
    if not pairs:
        return ""
    encoded = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def canonical_request(
    method: str,
    raw_path: bytes,
    pairs: Sequence[tuple[str, str]],
    raw_headers: Sequence[tuple[bytes, bytes]],
    signed_headers: SignedHeaders,
    payload_hash: str,
) -> bytes:
    """The text whose hash is signed. A listed header that was not sent counts as empty, as AWS has it."""
    values: dict[bytes, bytes] = {}
    for name, value in raw_headers:
        folded = b" ".join(value.split())
        values[name] = values[name] + b"," + folded if name in values else folded
    lines = [method.encode(), canonical_path(raw_path).encode(), canonical_query(pairs).encode()]
    lines.extend(name + b":" + values.get(name, b"") for name in signed_headers.names)
    lines += [b"", signed_headers.text, payload_hash.encode()]
    return b"\n".join(lines)


def string_to_sign(timestamp: str, scope: Scope, canonical: bytes) -> str:
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"


def derive_key(secret: str, scope: Scope) -> bytes:
    """The signing key of one day, region and service."""
    key = ("AWS4" + secret).encode()
    for step in (scope.date, scope.region, scope.service, TERMINATOR):
        key = hmac.digest(key, step.encode(), "sha256")
    return key


def sign(key: bytes, text: str) -> str:
    """64 lowercase hex digits."""
    return hmac.digest(key, text.encode(), "sha256").hex()


def matches(key: bytes, text: str, signature: str) -> bool:
    """Whether *signature* is right, in a time that does not depend on how much of it is."""
    return hmac.compare_digest(sign(key, text).encode(), signature.encode())


@dataclass(frozen=True, slots=True)
class ChunkSigner:
    """What the signatures of an aws-chunked body's chunks build on. seed: the request's own signature."""

    key: bytes
    timestamp: str
    scope: Scope
    seed: str

    def chunk(self, previous: str, chunk_sha256: str) -> str:
        """String to sign of a chunk."""
        return f"{ALGORITHM}-PAYLOAD\n{self.timestamp}\n{self.scope}\n{previous}\n{EMPTY_SHA256}\n{chunk_sha256}"

    def trailer(self, previous: str, trailers: Iterable[tuple[str, str]]) -> str:
        """String to sign of the trailers."""
        text = "".join(f"{name}:{value}\n" for name, value in trailers)
        digest = hashlib.sha256(text.encode()).hexdigest()
        return f"{ALGORITHM}-TRAILER\n{self.timestamp}\n{self.scope}\n{previous}\n{digest}"
