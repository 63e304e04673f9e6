"""AWS Signature Version 4: what is signed, and with which key. Pure.

Source: Amazon S3 API reference, "Authenticating Requests (AWS Signature Version 4)". Two things differ from SigV4 of
other services: the path is encoded once, and the payload's hash is a header.
"""

import hashlib
import hmac
import re
from calendar import timegm
from collections.abc import Iterable, Sequence
from email.utils import parsedate_tz
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

import msgspec

ALGORITHM = "AWS4-HMAC-SHA256"
TERMINATOR = "aws4_request"
SERVICE = "s3"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_CACHE = 256
_REMEMBERED_MAX = 512
"""Characters; one client sends the same texts again and again, so that what was made of them is remembered. What is
longer than any client sends is not worth a place in the cache, which strangers can fill."""
_BLOCK = 64
"""Bytes of SHA-256's block."""
_TIMESTAMP = re.compile(r"(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})Z", re.ASCII)
_PLAIN_PATH = re.compile(rb"[A-Za-z0-9/_.~-]*")
_TIME_MAX = timegm((9999, 12, 31, 23, 59, 59))
_SIGNATURE = re.compile(r",\s*Signature=([^,]*)")
"""Behind a comma; the first component of that name; of a second one its name stays behind, and is refused."""
_HEX_256 = re.compile(r"[0-9a-f]{64}")


class MalformedError(ValueError):
    """A part of the authorisation that has not the form it must have; the message says which."""


class Scope(msgspec.Struct, frozen=True):
    """What a signing key is good for. date: YYYYMMDD."""

    date: str
    region: str
    service: str

    def __str__(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/{TERMINATOR}"


class SignedHeaders(msgspec.Struct, frozen=True):
    """Names that a signature covers: lowercase, sorted, each once."""

    names: tuple[bytes, ...]

    @property
    def text(self) -> bytes:
        return b";".join(self.names)


class Claim(msgspec.Struct, frozen=True):
    """What a request claims, unproved: who, for what, and the signature (64 lowercase hex digits)."""

    access_key: str
    scope: Scope
    signed_headers: SignedHeaders
    signature: str


class SigningKey:
    """HMAC-SHA256 under one key (RFC 2104), both of its hashes begun: to copy them costs a third of beginning them."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        """*key* is a digest, which is shorter than a block."""
        block = key.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def sign(self, text: bytes) -> str:
        """64 lowercase hex digits."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text)
        outer.update(inner.digest())
        return outer.hexdigest()


def parse_authorization(value: str) -> Claim:
    """The claim of an Authorization header, whose algorithm was checked. Raises: MalformedError."""
    components = "," + value.partition(" ")[2]
    found = _SIGNATURE.search(components)
    if found is None:
        raise MalformedError("Signature is missing")
    # All but the signature is the same in a client's next request.
    rest = components[1 : found.start(1)] + components[found.end(1) :]
    remembered = len(rest) <= _REMEMBERED_MAX
    access_key, scope, names = (_parse_unsigned if remembered else _parse_unsigned.__wrapped__)(rest)
    return Claim(access_key, scope, names, _checked_signature(found[1].strip()))


@lru_cache(maxsize=_CACHE)
def _parse_unsigned(value: str) -> tuple[str, Scope, SignedHeaders]:
    """The components of an Authorization header whose signature was cut out."""
    fields: dict[str, str] = {}
    for item in value.split(","):
        name, equals, text = item.strip().partition("=")
        if not equals or name in fields:
            raise MalformedError("every component must be one name=value")
        fields[name] = text
    missing = {"Credential", "SignedHeaders"} - fields.keys()
    if missing:
        raise MalformedError(f"{', '.join(sorted(missing))} is missing")
    return *_parse_credential(fields["Credential"]), _parse_names(fields["SignedHeaders"])


def parse_claim(credential: str, signed_headers: str, signature: str) -> Claim:
    """A claim from its three texts. Raises: MalformedError."""
    return Claim(*_parse_credential(credential), _parse_names(signed_headers), _checked_signature(signature))


def _checked_signature(signature: str) -> str:
    if not _HEX_256.fullmatch(signature):
        raise MalformedError("the Signature must be 64 lowercase hexadecimal digits")
    return signature


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
    values = dict(raw_headers)
    if len(values) < len(raw_headers):
        values = _joined(raw_headers)
    lines = [method.encode(), canonical_path(raw_path).encode(), canonical_query(pairs).encode()]
    lines += [b"%b:%b" % (name, b" ".join(values.get(name, b"").split())) for name in signed_headers.names]
    lines += (b"", signed_headers.text, payload_hash.encode())
    return b"\n".join(lines)


def _joined(raw_headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers of which some came more than once: their values with commas."""
    values: dict[bytes, bytes] = {}
    for name, value in raw_headers:
        values[name] = values[name].rstrip() + b"," + value.lstrip() if name in values else value
    return values


def string_to_sign(timestamp: str, scope: Scope, canonical: bytes) -> str:
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"


def derive_key(secret: str, scope: Scope) -> SigningKey:
    """The signing key of one day, region and service."""
    key = ("AWS4" + secret).encode()
    for step in (scope.date, scope.region, scope.service, TERMINATOR):
        key = hmac.digest(key, step.encode(), "sha256")
    return SigningKey(key)


def sign(key: SigningKey, text: str) -> str:
    """64 lowercase hex digits."""
    return key.sign(text.encode())


def matches(key: SigningKey, text: str, signature: str) -> bool:
    """Whether *signature* is right, in a time that does not depend on how much of it is."""
    return hmac.compare_digest(sign(key, text), signature)


class ChunkSigner(msgspec.Struct, frozen=True):
    """What the signatures of an aws-chunked body's chunks build on. seed: the request's own signature."""

    key: SigningKey
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
