"""Tables of contents."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratumfs.erasure.code import Code
from stratumfs.errors import ShardCorrupt
from stratumfs.ids import CellIndex, DeviceId, InodeNo, Nonce, StripeNo, VolumeId
from stratumfs.location import Location
from stratumfs.volumes.block import BLOCK_SIZE
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.toc import TocEntry, pack, unpack, unpack_head
from tests.suites.tier import STORE

VOLUME = VolumeInfo(VolumeId(b"V" * 16), "hot", Code(2, 1), tuple(DeviceId(bytes([at]) * 16) for at in range(3)))

u64 = st.integers(0, 2**64 - 1)
u32 = st.integers(0, 2**32 - 1)
entries = st.builds(
    TocEntry,
    u64.map(InodeNo),
    st.binary(min_size=16, max_size=16),
    u64,
    u64,
    st.builds(Location, st.just(VOLUME.id), u64.map(StripeNo), u64, u32, u32, u64.map(Nonce)),
    st.binary(max_size=40),
)


def written(contents: list[TocEntry], position: int = 77) -> bytearray:
    return bytearray(b"".join(pack(contents).parts(STORE, VOLUME, CellIndex(2), position)))


def read(block: bytearray) -> list[TocEntry]:
    return unpack(unpack_head(block[:BLOCK_SIZE]), memoryview(block)[BLOCK_SIZE:])


def many(count: int) -> list[TocEntry]:
    source = random.Random(count)
    return [
        TocEntry(
            InodeNo(at),
            source.randbytes(16),
            0,
            100,
            Location(VOLUME.id, StripeNo(at), at, 25, 0, Nonce(source.getrandbits(64))),
            b"bucket/a/long/key/%d" % at,
        )
        for at in range(count)
    ]


@given(st.lists(entries, max_size=20))
def test_what_is_packed_is_unpacked(contents: list[TocEntry]) -> None:
    assert read(written(contents)) == contents


def test_head_and_trailer_say_where_the_table_lies() -> None:
    block = written(many(50), position=123456)
    head = unpack_head(block[-BLOCK_SIZE:])
    assert block[:BLOCK_SIZE] == block[-BLOCK_SIZE:]
    assert (head.position, head.index, head.volume, head.store) == (123456, 2, VOLUME.id, STORE)
    assert (head.total, head.entries) == (len(block), 50)


def test_a_burst_over_fifteen_rows_is_corrected() -> None:
    contents = many(100)
    block = written(contents)
    row = unpack_head(block[:BLOCK_SIZE]).row
    block[BLOCK_SIZE + 40 : BLOCK_SIZE + 40 + 15 * row] = bytes(15 * row)
    assert read(block) == contents


def test_scattered_damage_is_corrected_in_parity_too() -> None:
    contents = many(30)
    block = written(contents)
    for place in random.Random(1).sample(range(BLOCK_SIZE, len(block) - BLOCK_SIZE), 20):
        block[place] ^= 0xFF
    assert read(block) == contents


def test_too_much_damage_is_refused() -> None:
    block = written(many(30))
    block[BLOCK_SIZE : len(block) // 2] = bytes(len(block) // 2 - BLOCK_SIZE)
    with pytest.raises(ShardCorrupt):
        read(block)


def test_a_table_that_is_cut_short_is_refused() -> None:
    block = written(many(3))
    with pytest.raises(ShardCorrupt):
        unpack(unpack_head(block[:BLOCK_SIZE]), block[BLOCK_SIZE : BLOCK_SIZE + 10])


def test_a_cell_header_is_no_table() -> None:
    with pytest.raises(ShardCorrupt):
        unpack_head(bytes(128))


def test_long_paths_are_cut_to_what_the_field_holds() -> None:
    entry = many(1)[0]
    long = TocEntry(entry.inode, b"", entry.offset, entry.length, entry.location, b"x" * 70000)
    found = read(written([long]))[0]
    assert (len(found.path), found.version) == (65535, bytes(16))
