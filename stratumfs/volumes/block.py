"""Blocks of 128 bytes: 100 of fields and 28 of Reed-Solomon parity over them.

Up to 14 flipped bytes are *corrected* even where nobody knows which they are.
"""

import threading
from collections.abc import Sequence

from stratumfs.erasure.code import Code, codec_for
from stratumfs.erasure.field import correct
from stratumfs.errors import ShardCorrupt
from stratumfs.ids import Buffer

BLOCK_SIZE = 128
FIELDS_SIZE = 100
PARITY_SIZE = BLOCK_SIZE - FIELDS_SIZE
LANES = 64
"""Blocks that get their parity in one call: one byte each of a vector register."""


def seal_blocks(blocks: Sequence[bytes]) -> list[bytes]:
    """Each of *blocks* (100 bytes of fields) followed by its parity (28)."""
    bench = _local.bench
    sealed: list[bytes] = []
    for start in range(0, len(blocks), LANES):
        sealed += bench.seal(blocks[start : start + LANES])
    return sealed


def open_block(block: Buffer) -> bytes:
    """The 100 bytes of fields in *block*, corrected if their parity disagrees.

    Raises: ShardCorrupt if it can't be corrected.
    """
    whole = bytes(block)
    if len(whole) != BLOCK_SIZE:
        raise ShardCorrupt(f"a block of {len(whole)} bytes instead of {BLOCK_SIZE}")
    fields = whole[:FIELDS_SIZE]
    if seal_blocks([fields])[0] == whole:
        return fields
    fixed = correct(whole, PARITY_SIZE)
    if fixed is None:
        raise ShardCorrupt("a header that is damaged beyond correction")
    return fixed


def intact(blocks: Sequence[bytes]) -> list[bool]:
    """Whether each is as it was sealed, to the last bit: what could be corrected is not."""
    sealed = seal_blocks([block[:FIELDS_SIZE] for block in blocks])
    return [one == other for one, other in zip(blocks, sealed, strict=True)]


def corrected(block: Buffer) -> bytes | None:
    """All 128 bytes of a block with its damage corrected; None if that can't be done."""
    fields = correct(bytes(block), PARITY_SIZE)
    return None if fields is None else seal_blocks([fields])[0]


class _Bench:
    """Room for `LANES` blocks, turned so that byte *i* of all of them lies together: then one call does them all.

    One a thread, bound to its place once: the hundred addresses cost more to look up than the parity to compute.
    """

    def __init__(self) -> None:
        self._room = bytearray(BLOCK_SIZE * LANES)
        self._compute = codec_for(Code(FIELDS_SIZE, PARITY_SIZE)).encode_in_place(memoryview(self._room), LANES)

    def seal(self, blocks: Sequence[bytes]) -> list[bytes]:
        room = self._room
        for lane, fields in enumerate(blocks):
            assert len(fields) == FIELDS_SIZE
            room[lane : FIELDS_SIZE * LANES : LANES] = fields
        self._compute()
        return [bytes(room[lane::LANES]) for lane in range(len(blocks))]


class _Local(threading.local):
    def __init__(self) -> None:
        self.bench = _Bench()


_local = _Local()
