"""The namespace image: all tables without inline bytes, as one compressed stream that checks itself.

    head    72 bytes: magic, version, store, sequence, time, BLAKE3 of these
    frames  each the lengths of its bytes and of what they unpack to, the BLAKE3 of all that, and the bytes (zlib)
    end     a frame without bytes, whose BLAKE3 is that of the head and of all frames' BLAKE3s, in order

A stream without its end is none. What unpacks is lines, see `stratumfs.catalog.lines`. stratumfs-format(5) has it byte
by byte.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import apsw
from blake3 import blake3

from stratumfs.catalog.lines import WITHOUT_INLINE, Head, lines_of
from stratumfs.errors import CatalogCorrupt, ConfigError
from stratumfs.ids import StoreId
from stratumfs.limits import IMAGE_FRAME_MAX

MAGIC, VERSION = b"sfNI", 1

_FIELDS = struct.Struct("<4sB3x16sQQ")
_HASH = 32
HEAD_SIZE = _FIELDS.size + _HASH
_LENGTHS = struct.Struct("<II")
_FRAME_HEAD = _LENGTHS.size + _HASH
_LEVEL = 3
assert HEAD_SIZE == 72


@dataclass(frozen=True, slots=True)
class ImageHead:
    """sequence: of the last transaction that it shows."""

    store: StoreId
    sequence: int
    created_ns: int


def image_of(db: apsw.Connection, head: Head) -> Iterator[bytes]:
    """The stream, a piece at a time: a few milliseconds each. See `lines_of`."""
    fields = _FIELDS.pack(MAGIC, VERSION, bytes.fromhex(head.store), head.sequence, head.created_ns)
    yield fields + blake3(fields).digest()
    whole = blake3(fields)
    for lines in lines_of(db, head, WITHOUT_INLINE):
        for start in range(0, len(lines), IMAGE_FRAME_MAX):
            piece = lines[start : start + IMAGE_FRAME_MAX]
            packed = zlib.compress(piece, _LEVEL)
            lengths = _LENGTHS.pack(len(packed), len(piece))
            digest = blake3(lengths + packed).digest()
            whole.update(digest)
            yield lengths + digest + packed
    yield _LENGTHS.pack(0, 0) + whole.digest()


def unpack_head(data: bytes) -> ImageHead:
    """Raises: CatalogCorrupt if it is no head; ConfigError if it is one of a newer program."""
    if len(data) < HEAD_SIZE or data[:4] != MAGIC:
        raise CatalogCorrupt("no namespace image")
    fields, digest = data[: _FIELDS.size], data[_FIELDS.size : HEAD_SIZE]
    if blake3(fields).digest() != digest:
        raise CatalogCorrupt("the head of a namespace image is damaged")
    _, version, store, sequence, created_ns = _FIELDS.unpack(fields)
    if version != VERSION:
        raise ConfigError(f"a namespace image of version {version}; this program knows {VERSION}")
    return ImageHead(StoreId(store), sequence, created_ns)


def lines_in(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """What a stream unpacks to, verified; what follows its end is not looked at.

    Raises: CatalogCorrupt if it is damaged, or ends too early; ConfigError; what *pieces* raises.
    """
    source = _Source(pieces)
    head = source.take(HEAD_SIZE)
    unpack_head(head)
    whole = blake3(head[: _FIELDS.size])
    while True:
        frame = source.take(_FRAME_HEAD)
        lengths, digest = frame[: _LENGTHS.size], frame[_LENGTHS.size :]
        packed_length, length = _LENGTHS.unpack(lengths)
        if packed_length == 0:
            if length or digest != whole.digest():
                raise CatalogCorrupt("a namespace image whose frames are not those of its end")
            return
        if length > IMAGE_FRAME_MAX or packed_length > 2 * IMAGE_FRAME_MAX:
            raise CatalogCorrupt("a frame of a namespace image that is too long")
        packed = source.take(packed_length)
        if blake3(lengths + packed).digest() != digest:
            raise CatalogCorrupt("a frame of a namespace image is damaged")
        whole.update(digest)
        yield zlib.decompressobj().decompress(packed, length)


class _Source:
    """Bytes out of pieces of any length."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces, self._have = iter(pieces), bytearray()

    def take(self, count: int) -> bytes:
        while len(self._have) < count:
            piece = next(self._pieces, None)
            if piece is None:
                raise CatalogCorrupt("a namespace image without an end")
            self._have += piece
        found = bytes(self._have[:count])
        del self._have[:count]
        return found
