"""The bytes of a cell's header (see stratumfs-format(5)), and what names volumes and stripes.

It is one block (see ``block.py``) of 128 bytes. Integers are little endian.

    0   4  magic            40  8  stripe number        64 32  BLAKE3 of the cell
    4   1  format version   48  8  nonce                96  4  zero
    5   1  k                56  4  payload length      100 28  parity
    6   1  m                60  4  cell length
    7   1  cell index
    8  16  store id
    24 16  volume id
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from stratumfs.erasure.code import Code
from stratumfs.errors import GeometryError, ShardCorrupt
from stratumfs.ids import Buffer, CellIndex, DeviceId, Nonce, StoreId, StripeNo, VolumeId
from stratumfs.limits import STRIPE_PAYLOAD_MAX
from stratumfs.location import CELL_HEADER_SIZE, NONCE_MASK, Location
from stratumfs.volumes.block import BLOCK_SIZE, FIELDS_SIZE, open_block, seal_blocks

FORMAT_VERSION = 1
CELL_MAGIC = b"sfCE"
HEADER_SIZE = BLOCK_SIZE

_CELL = struct.Struct("<4sBBBB16s16sQQII32s4x")
_IDENTITY = struct.Struct("<4sBBBB16s16sQQ")
_CELL_LENGTH_AT, _DIGEST_AT, _DIGEST_END = 60, 64, 96
assert _CELL.size == FIELDS_SIZE
assert _IDENTITY.size == 56
assert HEADER_SIZE == CELL_HEADER_SIZE


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """What must be known of a volume to read it.

    tier     name of the tier that it lies in
    devices  by cell index: device i holds shard i
    """

    id: VolumeId
    tier: str
    code: Code
    devices: tuple[DeviceId, ...]

    def __post_init__(self) -> None:
        if len(self.devices) != self.code.n:
            raise GeometryError(f"volume {self.id.hex()}: {len(self.devices)} devices for {self.code.n} shards")


class StripeAt(NamedTuple):
    """One stripe, as a row names it: what its cells must say of themselves, and where they lie in every shard."""

    stripe: StripeNo
    position: int
    cell_size: int
    nonce: Nonce


@dataclass(frozen=True, slots=True)
class CellHeader:
    """The fields of one cell's header."""

    store: StoreId
    volume: VolumeId
    code: Code
    index: CellIndex
    stripe: StripeNo
    nonce: Nonce
    payload_length: int
    cell_length: int
    digest: bytes

    def at(self, position: int) -> StripeAt:
        """The stripe that this header, found at *position*, belongs to."""
        return StripeAt(self.stripe, position, self.cell_length, self.nonce)


def stripe_of(location: Location, ordinal: int) -> StripeAt:
    """The stripe *ordinal* (0 is the first) of the run at *location*."""
    return StripeAt(
        StripeNo(location.stripe + ordinal),
        location.position + ordinal * (HEADER_SIZE + location.cell_size),
        location.cell_size,
        Nonce((location.nonce + ordinal) & NONCE_MASK),
    )


def stripes_of(location: Location, length: int) -> Iterator[StripeAt]:
    """All stripes that hold a byte of the *length* bytes at *location*."""
    if length > 0:
        for ordinal in range((location.skip + length - 1) // STRIPE_PAYLOAD_MAX + 1):
            yield stripe_of(location, ordinal)


def pack_headers(headers: Sequence[CellHeader]) -> list[bytes]:
    """The 128 bytes of each of *headers*."""
    return seal_blocks(
        [
            _CELL.pack(
                CELL_MAGIC,
                FORMAT_VERSION,
                header.code.k,
                header.code.m,
                header.index,
                header.store,
                header.volume,
                header.stripe,
                header.nonce,
                header.payload_length,
                header.cell_length,
                header.digest,
            )
            for header in headers
        ]
    )


def unpack_header(block: Buffer) -> CellHeader:
    """The header in the 128 bytes of *block*, corrected if need be.

    Raises: ShardCorrupt if they are no header, or damaged beyond correction.
    """
    magic, version, k, m, index, store, volume, stripe, nonce, payload, cell, digest = _CELL.unpack(open_block(block))
    if magic != CELL_MAGIC or version != FORMAT_VERSION:
        raise ShardCorrupt("no cell header")
    try:
        code = Code(k, m)
    except GeometryError as error:
        raise ShardCorrupt(f"a cell header with an impossible geometry: {error}") from error
    if index >= code.n or cell == 0 or not 0 < payload <= k * cell:
        raise ShardCorrupt("a cell header that contradicts itself")
    return CellHeader(
        StoreId(store), VolumeId(volume), code, CellIndex(index), StripeNo(stripe), Nonce(nonce), payload, cell, digest
    )


def expected_digest(block: Buffer, store: StoreId, volume: VolumeInfo, index: CellIndex, at: StripeAt) -> bytes | None:
    """The hash that the header in *block* names, if it is the header of this very cell of this write; else None.

    Two comparisons, no parity: who gets None tries again with `corrected`.
    """
    code = volume.code
    want = _IDENTITY.pack(
        CELL_MAGIC, FORMAT_VERSION, code.k, code.m, index, store, volume.id, at.stripe, at.nonce
    ) + at.cell_size.to_bytes(4, "little")
    found = bytes(block)
    if found[: _IDENTITY.size] + found[_CELL_LENGTH_AT:_DIGEST_AT] == want:
        return found[_DIGEST_AT:_DIGEST_END]
    return None
