"""The accesses of the last weeks, as far as a bounded folder has room, for questions of what another policy would do.

A folder of segments, each named by the second in which it was begun. A segment: magic, then blocks; a block: length and
CRC-32 of what follows, which is deflated: five columns of as many values as there are accesses, in the byte order of
little-endian machines: seconds since the epoch (double), inode (int64), bytes read or written (int64), the file's size
then (int64), what was done (uint8). A block that is cut off or damaged ends its segment: a crash loses the last one,
and the next owner begins a new segment. The oldest segment goes when all are larger than they may be.
"""

import struct
import sys
import zlib
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from stratumfs.limits import RECORDING_BYTES_MAX, RECORDING_SEGMENT_BYTES

RECORDING_FOLDER = "accesses"
_MAGIC = b"STRACC01"
_HEAD = struct.Struct("<II")
_SUFFIX = ".accesses"
_TYPES = "dqqqB"


class Kind(IntEnum):
    READ = 0
    WRITE = 1
    GONE = 2
    """It has no name any more."""


class Access(NamedTuple):
    """at: seconds since the epoch; length: bytes that were read or written; size: of the file, 0 where not known any
    more"""

    at: float
    ino: int
    length: int
    size: int
    kind: int


class Recording:
    """The folder as its one writer sees it; every call blocks."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segment: Path | None = None

    def append(self, accesses: Sequence[Access]) -> None:
        """One block, not synced: losing it is fine. Raises: OSError; then none or all of it is read later."""
        if not accesses:
            return
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._segment is None or not self._segment.exists():
            self._segment = self._folder / f"{int(accesses[0].at):012d}{_SUFFIX}"
            begun = _MAGIC
        else:
            begun = b""
        data = _block(accesses)
        try:
            with open(self._segment, "ab", buffering=0) as file:
                file.write(begun + data)
                size = file.tell()
        except OSError:
            self._segment = None  # what was written of it may be a part
            raise
        if size >= RECORDING_SEGMENT_BYTES:
            self._segment = None
            self._make_room()

    def _make_room(self) -> None:
        found = segments(self._folder)
        total = sum(each.stat().st_size for each in found)
        for each in found[:-1]:
            if total <= RECORDING_BYTES_MAX:
                return
            total -= each.stat().st_size
            each.unlink()


def segments(folder: Path) -> list[Path]:
    """Oldest first. Blocking."""
    with suppress(FileNotFoundError):
        return sorted(each for each in folder.iterdir() if each.suffix == _SUFFIX)
    return []


def recorded(folder: Path, since: float) -> Iterator[Access]:
    """What was recorded from *since* on, in order as far as it was recorded so. Blocking. Raises: OSError."""
    found = segments(folder)
    for number, each in enumerate(found):
        behind = found[number + 1] if number + 1 < len(found) else None
        if behind is None or int(behind.name.removesuffix(_SUFFIX)) >= since:
            yield from (access for access in _read(each) if access.at >= since)


def _block(accesses: Sequence[Access]) -> bytes:
    columns = []
    for code, values in zip(_TYPES, zip(*accesses, strict=True), strict=True):
        column = array(code, values)
        if sys.byteorder == "big":
            column.byteswap()
        columns.append(column.tobytes())
    packed = zlib.compress(b"".join(columns), 6)
    return _HEAD.pack(len(packed), zlib.crc32(packed)) + packed


def _read(segment: Path) -> Iterator[Access]:
    data = segment.read_bytes()
    if not data.startswith(_MAGIC):
        return
    at = len(_MAGIC)
    while at + _HEAD.size <= len(data):
        length, crc = _HEAD.unpack_from(data, at)
        packed = data[at + _HEAD.size : at + _HEAD.size + length]
        if zlib.crc32(packed) != crc:
            return
        at += _HEAD.size + length
        yield from _accesses(zlib.decompress(packed))


def _accesses(data: bytes) -> Iterator[Access]:
    columns = [array(code) for code in _TYPES]
    count = len(data) // sum(column.itemsize for column in columns)
    at = 0
    for column in columns:
        end = at + count * column.itemsize
        column.frombytes(data[at:end])
        if sys.byteorder == "big":
            column.byteswap()
        at = end
    return (Access(*each) for each in zip(*columns, strict=True))
