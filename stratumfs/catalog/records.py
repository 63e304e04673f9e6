"""Values that live in one column: an ETag, and what a writer said of an object."""

import msgspec

from stratumfs.values import Checksum, ObjectSpec

EMPTY_MD5 = bytes.fromhex("d41d8cd98f00b204e9800998ecf8427e")
MD5_BYTES = 16


class _Record(msgspec.Struct, omit_defaults=True):
    """Short names, because one is stored with each object."""

    t: str | None = None
    h: dict[str, str] = {}
    m: dict[str, str] = {}
    c: str = "STANDARD"
    s: tuple[str, str, bool] | None = None


class _Listed(msgspec.Struct):
    """What of it a listing shows."""

    c: str = "STANDARD"
    s: tuple[str, str, bool] | None = None


_listed = msgspec.json.Decoder(_Listed)
_decoder = msgspec.json.Decoder(_Record)
_encoder = msgspec.json.Encoder()
_sizes = msgspec.json.Decoder(tuple[int, ...])
_checksum = msgspec.json.Decoder(tuple[str, str, bool])
_DEFAULT = ObjectSpec()


def pack_spec(spec: ObjectSpec) -> bytes | None:
    """The column ``object``; None for a spec that says nothing."""
    if spec == _DEFAULT:
        return None
    sum_ = spec.checksum
    return _encoder.encode(
        _Record(
            spec.content_type,
            dict(spec.headers),
            dict(spec.metadata),
            spec.storage_class,
            (sum_.algorithm, sum_.value, sum_.composite) if sum_ else None,
        )
    )


def unpack_spec(column: bytes | None) -> ObjectSpec:
    if column is None:
        return _DEFAULT
    r = _decoder.decode(column)
    return ObjectSpec(r.t, r.h, r.m, r.c, Checksum(*r.s) if r.s else None)


NOTHING_LISTED = "STANDARD", None
"""`unpack_listed` of a column that says nothing."""


def unpack_listed(column: bytes) -> tuple[str, Checksum | None]:
    """Storage class and checksum."""
    found = _listed.decode(column)
    return found.c, Checksum(*found.s) if found.s else None


def pack_etag(etag: str) -> bytes:
    """MD5s as 16 bytes, all else as text."""
    return bytes.fromhex(etag) if len(etag) == 32 else etag.encode()


def unpack_etag(column: bytes) -> str:
    return column.hex() if len(column) == 16 else column.decode()


def pack_checksum(checksum: Checksum | None) -> bytes | None:
    return _encoder.encode((checksum.algorithm, checksum.value, checksum.composite)) if checksum else None


def unpack_checksum(column: bytes | None) -> Checksum | None:
    return Checksum(*_checksum.decode(column)) if column else None


def pack_sizes(sizes: tuple[int, ...]) -> bytes:
    return _encoder.encode(sizes)


def unpack_sizes(column: bytes) -> tuple[int, ...]:
    return _sizes.decode(column)


def without_checksum(column: bytes | None) -> bytes | None:
    """The same spec without the checksum of bytes that are no longer those."""
    spec = unpack_spec(column)
    return column if spec.checksum is None else pack_spec(spec.with_checksum(None))
