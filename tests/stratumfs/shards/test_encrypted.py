"""What leaves the site: only whole, only in its place, and only by the key."""

import os

import pytest

from stratumfs.errors import ShardCorrupt
from stratumfs.ids import StoreId, VolumeId
from stratumfs.shards.encrypted import HEADER_SIZE, SEGMENT, TAG, MasterKey, Opened, encrypt, open_header

STORE, VOLUME = StoreId(b"s" * 16), VolumeId(b"v" * 16)
MASTER = MasterKey(bytes(32))
NAME = MASTER.name(VOLUME)
LENGTHS = (1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT + 1000)


def opened(whole: memoryview) -> Opened:
    return open_header(MASTER, STORE, NAME, whole[:HEADER_SIZE])


def read(whole: memoryview, position: int, length: int) -> bytes:
    found = opened(whole)
    offset, count = found.range(position, length)
    return found.decrypt(STORE, position, length, whole[offset : offset + count])


@pytest.mark.parametrize("length", LENGTHS)
def test_every_range_is_what_it_was(length: int) -> None:
    plain = os.urandom(length)
    whole = encrypt(MASTER, STORE, VOLUME, plain)
    assert (opened(whole).volume, opened(whole).length) == (VOLUME, length)
    edges = sorted({0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, length - 1, length} & set(range(length + 1)))
    for start in edges:
        for stop in edges:
            if start < stop:
                assert read(whole, start, stop - start) == plain[start:stop]
    assert opened(whole).range(0, length) == (HEADER_SIZE, len(whole) - HEADER_SIZE)


def test_a_volume_looks_like_nothing_and_never_twice_the_same() -> None:
    plain = bytes(2 * SEGMENT)
    first, second = bytes(encrypt(MASTER, STORE, VOLUME, plain)), bytes(encrypt(MASTER, STORE, VOLUME, plain))
    assert first[HEADER_SIZE:] != second[HEADER_SIZE:]
    assert first[HEADER_SIZE : HEADER_SIZE + SEGMENT] != first[HEADER_SIZE + SEGMENT + TAG :][:SEGMENT]
    assert VOLUME not in first
    assert VOLUME.hex() not in NAME
    assert MasterKey(bytes(31) + b"1").name(VOLUME) != NAME


def test_a_segment_stands_in_no_other_place() -> None:
    """Not of its own object, nor of another one, nor as the last one that it is not."""
    plain = os.urandom(3 * SEGMENT)
    whole, other = (bytes(encrypt(MASTER, STORE, VOLUME, plain)) for _ in range(2))
    found, size = opened(memoryview(whole)), SEGMENT + TAG
    pieces = [whole[HEADER_SIZE + at * size :][:size] for at in range(3)]
    for data in (pieces[1], pieces[2], other[HEADER_SIZE:][:size]):
        with pytest.raises(ShardCorrupt):
            found.decrypt(STORE, 0, SEGMENT, data)
    shorter = opened(memoryview(bytes(encrypt(MASTER, STORE, VOLUME, plain[: 2 * SEGMENT]))))
    with pytest.raises(ShardCorrupt):
        Opened(VOLUME, found.cipher, shorter.length).decrypt(STORE, SEGMENT, SEGMENT, pieces[1])
    with pytest.raises(ShardCorrupt):
        found.decrypt(STORE, 0, 2 * SEGMENT, pieces[0])  # the second one is missing
    with pytest.raises(ShardCorrupt):
        found.decrypt(StoreId(b"t" * 16), 0, SEGMENT, pieces[0])


def test_a_header_belongs_to_one_name_one_store_and_one_key() -> None:
    header = bytes(encrypt(MASTER, STORE, VOLUME, b"bytes")[:HEADER_SIZE])
    for master, store, name in (
        (MASTER, STORE, NAME[::-1]),
        (MASTER, StoreId(b"t" * 16), NAME),
        (MasterKey(b"1" * 32), STORE, NAME),
    ):
        with pytest.raises(ShardCorrupt):
            open_header(master, store, name, header)
    for at in (0, 4, 5, 8, 20, 91):
        with pytest.raises(ShardCorrupt):
            open_header(MASTER, STORE, NAME, header[:at] + bytes([header[at] ^ 1]) + header[at + 1 :])
    with pytest.raises(ShardCorrupt):
        open_header(MASTER, STORE, NAME, header[:-1])


def test_regression_one_that_ends_anywhere_is_damaged() -> None:
    """With less than a tag behind a whole segment it was an error that nobody foresaw."""
    plain = os.urandom(SEGMENT + 100)
    whole = encrypt(MASTER, STORE, VOLUME, plain)
    opened = open_header(MASTER, STORE, MASTER.name(VOLUME), whole[:HEADER_SIZE])
    start, length = opened.range(0, len(plain))
    data = bytes(whole[start : start + length])
    for end in (0, 1, SEGMENT, *range(SEGMENT + TAG, SEGMENT + 3 * TAG), length - 1):
        with pytest.raises(ShardCorrupt):
            opened.decrypt(STORE, 0, len(plain), data[:end])
