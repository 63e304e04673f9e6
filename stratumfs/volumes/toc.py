"""A volume's table of contents: which file's which bytes lie where in it, so that a volume can speak for itself.

Written at sealing behind the cells of m+1 shards: a head block, the compressed entries with Reed-Solomon parity of
their own, and the head block once more as a trailer at the file's end. Data and parity are laid out as 255 rows of
equal length (223 of data, 32 of parity), and byte *i* of all rows is a codeword: up to 16 flipped bytes in each
codeword, or one burst over 15 rows, are corrected even where nobody knows which they are.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from stratumfs.erasure.checksum import digest
from stratumfs.erasure.code import Code, codec_for
from stratumfs.erasure.field import correct
from stratumfs.errors import ShardCorrupt
from stratumfs.ids import Buffer, CellIndex, InodeNo, Nonce, StoreId, StripeNo, VolumeId
from stratumfs.location import Location
from stratumfs.volumes.block import BLOCK_SIZE, open_block, seal_blocks
from stratumfs.volumes.format import FORMAT_VERSION, VolumeInfo

TOC_MAGIC = b"sfTC"
TOC_CODE = Code(223, 32)
PACKED_MAX = 1 << 30
"""No table is longer: a volume holds VOLUME_PAYLOAD_SEAL bytes, and an entry needs a byte of payload at least."""

NO_INODE = InodeNo(0)
_PATH_MAX = 65_535

_HEAD = struct.Struct("<4sBBBB16s16sQIIII32s4x")
_ENTRY = struct.Struct("<Q16sQQQQIIQH")
assert _HEAD.size == 100


@dataclass(frozen=True, slots=True)
class TocEntry:
    """*length* bytes at *offset* of a file, and where in this volume they lie.

    version  16 bytes: id of the version that the bytes belong to, zeros if none
    path     bucket and key as the catalog spells them, without a leading slash, at most 65,535 bytes of it

    One of no length tells something else in the place of a path: see `about`, `attributes`. Inode 0 is no file, but the
    namespace image that the volume holds.
    """

    inode: InodeNo
    version: bytes
    offset: int
    length: int
    location: Location
    path: bytes


class About(msgspec.Struct, frozen=True):
    """When a table was made, by the catalog's count of transactions and by the clock."""

    sequence: int
    written_ns: int


class Attributes(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the row of an inode said when the table was made, see stratumfs-format(5).

    inline  (offset, length) of bytes that lay in the catalog, as far as the first extents of the file tell
    """

    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    modified_ns: int
    content: int
    etag: bytes | None = None
    object: bytes | None = None
    parts: bytes | None = None
    inline: tuple[tuple[int, int], ...] = ()


def about_entry(volume: VolumeId, sequence: int, now_ns: int) -> TocEntry:
    return _telling(volume, NO_INODE, msgspec.json.encode(About(sequence, now_ns)))


def attributes_entry(volume: VolumeId, inode: InodeNo, attributes: Attributes) -> TocEntry | None:
    """None if they are too long to be told."""
    text = msgspec.json.encode(attributes)
    return _telling(volume, inode, text) if len(text) < _PATH_MAX else None


def about(entries: Iterable[TocEntry]) -> About | None:
    """None if the table does not say."""
    for entry in entries:
        if entry.inode == NO_INODE and entry.length == 0:
            with suppress(msgspec.MsgspecError):
                return msgspec.json.decode(entry.path, type=About)
    return None


def attributes(entries: Iterable[TocEntry]) -> dict[InodeNo, Attributes]:
    """Of each inode that the table tells them of."""
    found = {}
    for entry in entries:
        if entry.inode != NO_INODE and entry.length == 0:
            with suppress(msgspec.MsgspecError):
                found[entry.inode] = msgspec.json.decode(entry.path, type=Attributes)
    return found


@dataclass(frozen=True, slots=True)
class TocHead:
    """The head block of a table. position: of the head itself in the shard; row: bytes of one of the 255 rows."""

    store: StoreId
    volume: VolumeId
    code: Code
    index: CellIndex
    position: int
    entries: int
    raw_length: int
    packed_length: int
    row: int
    digest: bytes

    @property
    def total(self) -> int:
        """Bytes of the whole table: head, rows, trailer."""
        return 2 * BLOCK_SIZE + TOC_CODE.n * self.row


@dataclass(frozen=True, slots=True)
class PackedToc:
    """A table ready to be written behind any shard of its volume."""

    entries: int
    raw_length: int
    packed_length: int
    digest: bytes
    rows: Sequence[Buffer]

    @property
    def total(self) -> int:
        return 2 * BLOCK_SIZE + sum(len(row) for row in self.rows)

    def parts(self, store: StoreId, volume: VolumeInfo, index: CellIndex, position: int) -> list[Buffer]:
        """What is to be written at *position* of shard *index*."""
        head = TocHead(
            store,
            volume.id,
            volume.code,
            index,
            position,
            self.entries,
            self.raw_length,
            self.packed_length,
            len(self.rows[0]),
            self.digest,
        )
        block = pack_head(head)
        return [block, *self.rows, block]


def pack(entries: Iterable[TocEntry]) -> PackedToc:
    """Compress *entries* and add parity. Takes some milliseconds a thousand entries: call it in a thread."""
    raw = bytearray()
    count = 0
    for entry in entries:
        raw += _pack_entry(entry)
        count += 1
    packed = zlib.compress(raw, 6)
    row = -(-len(packed) // TOC_CODE.k)
    padded = memoryview(packed + bytes(row * TOC_CODE.k - len(packed)))
    data = [padded[at * row : (at + 1) * row] for at in range(TOC_CODE.k)]
    parity = codec_for(TOC_CODE).encode(data, row)
    return PackedToc(count, len(raw), len(packed), digest(packed), [*data, *parity])


def unpack(head: TocHead, body: Buffer) -> list[TocEntry]:
    """The entries in *body*, the 255 rows that follow *head*.

    Raises: ShardCorrupt if it is too short or damaged beyond correction.
    """
    view = memoryview(body)
    if len(view) < TOC_CODE.n * head.row:
        raise ShardCorrupt("a table of contents that is cut short")
    packed = bytes(view[: head.packed_length])
    if digest(packed) != head.digest:
        packed = _corrected(head, view)
    try:
        raw = zlib.decompressobj().decompress(packed, head.raw_length)
        return _unpack_entries(raw, head)
    except (zlib.error, struct.error) as error:
        raise ShardCorrupt(f"a table of contents that is not one: {error}") from error


def is_whole(head: TocHead, body: Buffer) -> bool:
    """Whether the 255 rows that follow *head* are as they were packed, parity too: `unpack` would correct others."""
    view = memoryview(body)
    if len(view) != TOC_CODE.n * head.row or digest(view[: head.packed_length]) != head.digest:
        return False
    rows = [view[at * head.row : (at + 1) * head.row] for at in range(TOC_CODE.n)]
    parity = codec_for(TOC_CODE).encode(rows[: TOC_CODE.k], head.row)
    return all(made == found for made, found in zip(parity, rows[TOC_CODE.k :], strict=True))


def pack_head(head: TocHead) -> bytes:
    """The 128 bytes of *head*."""
    return seal_blocks(
        [
            _HEAD.pack(
                TOC_MAGIC,
                FORMAT_VERSION,
                head.code.k,
                head.code.m,
                head.index,
                head.store,
                head.volume,
                head.position,
                head.entries,
                head.raw_length,
                head.packed_length,
                head.row,
                head.digest,
            )
        ]
    )[0]


def unpack_head(block: Buffer) -> TocHead:
    """The head in the 128 bytes of *block*, corrected if need be.

    Raises: ShardCorrupt if they are none.
    """
    magic, version, k, m, index, store, volume, position, entries, raw, packed, row, hashed = _HEAD.unpack(
        open_block(block)
    )
    if magic != TOC_MAGIC or version != FORMAT_VERSION or not 1 <= k <= 255 - m:
        raise ShardCorrupt("no table of contents")
    if not 0 < packed <= min(PACKED_MAX, row * TOC_CODE.k):
        raise ShardCorrupt("a table of contents that contradicts itself")
    return TocHead(
        StoreId(store), VolumeId(volume), Code(k, m), CellIndex(index), position, entries, raw, packed, row, hashed
    )


def _corrected(head: TocHead, view: memoryview) -> bytes:
    """The compressed entries, each codeword decoded by reedsolo: slow (some 2 MB/s), and the last resort."""
    row = head.row
    data = bytearray(TOC_CODE.k * row)
    for column in range(row):
        codeword = bytes(view[column : TOC_CODE.n * row : row])
        message = correct(codeword, TOC_CODE.m)
        data[column::row] = codeword[: TOC_CODE.k] if message is None else message
    packed = bytes(data[: head.packed_length])
    if digest(packed) != head.digest:
        raise ShardCorrupt("a table of contents that is damaged beyond correction")
    return packed


def _telling(volume: VolumeId, inode: InodeNo, text: bytes) -> TocEntry:
    return TocEntry(inode, bytes(16), 0, 0, Location(volume, StripeNo(0), 0, 0, 0, Nonce(0)), text)


def _pack_entry(entry: TocEntry) -> bytes:
    at = entry.location
    path = entry.path[:_PATH_MAX]
    fixed = _ENTRY.pack(
        entry.inode,
        entry.version or bytes(16),
        entry.offset,
        entry.length,
        at.stripe,
        at.position,
        at.cell_size,
        at.skip,
        at.nonce,
        len(path),
    )
    return fixed + path


def _unpack_entries(raw: bytes, head: TocHead) -> list[TocEntry]:
    entries = []
    at = 0
    for _ in range(head.entries):
        inode, version, offset, length, stripe, position, cell_size, skip, nonce, path = _ENTRY.unpack_from(raw, at)
        at += _ENTRY.size
        location = Location(head.volume, StripeNo(stripe), position, cell_size, skip, Nonce(nonce))
        entries.append(TocEntry(InodeNo(inode), version, offset, length, location, raw[at : at + path]))
        at += path
    return entries
