"""Names of files, between POSIX and S3: pure, and reversible in both directions.

POSIX knows names of 1 to 255 bytes without ``/`` and NUL, other than ``.`` and ``..``. S3 knows *segments*: what stands
between the slashes of a key, any UTF-8, of any length, also empty. Most names are both and are themselves. For the
others a name that begins with MARKER and a letter stands on the other side:

    POSIX name                          stored as (S3 spelling)
    not UTF-8, or begins with MARKER    MARKER b, then the name; ``=`` and bytes that are not UTF-8 as ``=XX``

    segment                             shown as (reserved spelling)
    empty . .. .versions .snapshot      MARKER k, then the segment
    begins with MARKER, is no escape    MARKER k, then the segment: the escape for the escape
    object ``a`` beside visible ``a/``  MARKER o, then the segment
    too long for that                   MARKER d (e for the object beside a directory), then 32 hex digits of its digest

What the last two stand for depends on what exists: while there is no such object, such a name is free for a file of
that very name. So it has two readings, and the first that exists is meant.
"""

import re

from blake3 import blake3

from stratumfs.limits import NAME_MAX, SEGMENT_SPELLED_MAX
from stratumfs.values import Name

MARKER = b"_-_"

_BYTES = MARKER + b"b"
_KEY = MARKER + b"k"
_OBJECT = MARKER + b"o"
_LONG = MARKER + b"d"
_LONG_OBJECT = MARKER + b"e"
_MOUNTS_OWN = frozenset((b".versions", b".snapshot"))
_NO_NAMES = frozenset((b"", b".", b".."))
_DIGEST = re.compile(rb"[0-9a-f]{32}")
_QUOTED = re.compile(rb"=([0-9A-F]{2})")

assert len(_KEY) == len(_OBJECT) == NAME_MAX - SEGMENT_SPELLED_MAX, "what has no digest can be spelled"


def digest(segment: bytes) -> bytes:
    """16 bytes that stand for a long segment; the catalog finds it by them."""
    return blake3(segment).digest(16)


def readings(posix: bytes) -> tuple[Name, ...]:
    """What a POSIX name can mean: the first that exists is meant, the last is what creating it makes.

    Empty for a name that the mount keeps for itself.
    """
    if not posix.startswith(MARKER):
        if posix in _MOUNTS_OWN:
            return ()
        return (Name(posix if _is_utf8(posix) else _escaped(posix)),)
    segment = _reserved_segment(posix)
    if segment is not None:
        return (Name(segment),)
    special = _special(posix)
    plain = Name(_escaped(posix))
    return (plain,) if special is None else (special, plain)


def spelled(name: Name) -> bytes:
    """How the mount shows a name: a POSIX name that has *name* among its readings."""
    segment = name.segment
    if name.digest is not None:
        return (_LONG_OBJECT if name.shadowed else _LONG) + name.digest.hex().encode()
    if name.shadowed:
        return shadow(segment)
    if not segment.startswith(MARKER):
        if len(segment) <= NAME_MAX and segment not in _NO_NAMES and segment not in _MOUNTS_OWN:
            return segment
    elif (posix := _unescaped(segment)) is not None:
        return posix
    if len(segment) <= SEGMENT_SPELLED_MAX:
        return _KEY + segment
    return _LONG + digest(segment).hex().encode()


def shadow(segment: bytes) -> bytes:
    """How the mount shows the object *segment* while a directory of that name is visible."""
    if len(segment) <= SEGMENT_SPELLED_MAX:
        return _OBJECT + segment
    return _LONG_OBJECT + digest(segment).hex().encode()


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _reserved_segment(posix: bytes) -> bytes | None:
    """The segment that no POSIX name can be, of which *posix* is the reserved spelling."""
    if not posix.startswith(_KEY) or not _is_utf8(posix):
        return None
    segment = posix[len(_KEY) :]
    if segment.startswith(MARKER):
        return segment if _unescaped(segment) is None else None
    return segment if segment in _NO_NAMES or segment in _MOUNTS_OWN else None


def _special(posix: bytes) -> Name | None:
    """The object beside a directory, or the long segment, that *posix* stands for if there is one."""
    rest = posix[len(_OBJECT) :]
    if posix.startswith(_OBJECT) and rest and _is_utf8(rest):
        return Name(rest, shadowed=True)
    if posix.startswith((_LONG, _LONG_OBJECT)) and _DIGEST.fullmatch(rest):
        return Name(b"", shadowed=posix.startswith(_LONG_OBJECT), digest=bytes.fromhex(rest.decode()))
    return None


def _escaped(posix: bytes) -> bytes:
    """The S3 spelling of a POSIX name that cannot be a segment itself; may be longer than 255 bytes."""
    text = posix.decode("utf-8", "surrogateescape").replace("=", "=3D")
    # Bytes that are no UTF-8 were decoded to U+DC00 + byte.
    return _BYTES + "".join(f"={ord(c) - 0xDC00:02X}" if "\udc80" <= c <= "\udcff" else c for c in text).encode()


def _unescaped(segment: bytes) -> bytes | None:
    """The POSIX name whose S3 spelling *segment* is; None if it is nobody's."""
    if not segment.startswith(_BYTES):
        return None
    posix = _QUOTED.sub(lambda match: bytes.fromhex(match.group(1).decode()), segment[len(_BYTES) :])
    if not 0 < len(posix) <= NAME_MAX or b"/" in posix or b"\0" in posix or _escaped(posix) != segment:
        return None
    if posix.startswith(MARKER):
        return posix if _reserved_segment(posix) is None else None
    return None if _is_utf8(posix) else posix
