"""Names that make trouble, and how each door spells them: written out by hand, beside the rules of the product."""

from blake3 import blake3

LONG = b"L" * 300
_MARK = b"_-_"
_SHOWN_LONG = _MARK + b"d" + blake3(LONG).digest(16).hex().encode()

SEGMENTS = (
    b"a",
    b"b",
    b"c",
    b"",
    b".",
    b"..",
    b".versions",
    LONG,
    "ü".encode(),
    b"_-_x",
    b"_-_b=FF",
    b"_-_k..",
    b"%2F +",
)
"""What stands between the slashes of the keys that S3 is asked to store."""

POSIX_NAMES = (
    b"a",
    b"b",
    b"c",
    b"\xff",
    b"x\xfe=",
    b"n\nl",
    b"N" * 255,
    b"_-_k",
    b"_-_k..",
    b"_-_oa",
    b"_-_x",
    _SHOWN_LONG,
    "ü".encode(),
    b".versions",
)
"""What the mount is asked to create."""

_STORED = {
    b"\xff": b"_-_b=FF",
    b"x\xfe=": b"_-_bx=FE=3D",
    b"_-_k": b"",
    b"_-_k..": b"..",
    b"_-_oa": b"_-_b_-_oa",
    b"_-_x": b"_-_b_-_x",
    _SHOWN_LONG: b"_-_b" + _SHOWN_LONG,
}
_SHOWN = {segment: name for name, segment in _STORED.items()}
_RESERVED = (b".", b".versions", b".snapshot")
MOUNTS_OWN = (b".versions", b".snapshot")
"""Names that the mount keeps for itself."""


def stored(posix: bytes) -> bytes:
    """The segment of S3's key that creating a POSIX name makes."""
    return _STORED.get(posix, posix)


def shown(segment: bytes, *, beside_directory: bool) -> bytes:
    """How the mount shows a segment; *beside_directory*: an object, and a directory of its name is visible."""
    digest = blake3(segment).digest(16).hex().encode()
    if beside_directory:
        return _MARK + (b"o" + segment if len(segment) <= 251 else b"e" + digest)
    if segment in _SHOWN:
        return _SHOWN[segment]
    if segment in _RESERVED or segment.startswith(_MARK):
        return _MARK + b"k" + segment
    return segment if len(segment) <= 255 else _MARK + b"d" + digest
