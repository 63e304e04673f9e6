"""What readers of the store bring into memory, and in what pieces they get it."""

import os
from pathlib import Path

import pytest

from stratumfs.errors import NotFound
from stratumfs.ids import InodeNo
from tests.stratumfs.store.helpers import MIB, bucket, put


async def test_what_was_fetched_ahead_is_read_from_memory(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 5)
    async with bucket(tmp_path) as store:
        ino = (await put(store, b"large", data)).ino
        await store.reader.prefetch(ino, MIB, 50 * MIB)
        before = store.volume_reader.statistics()["cell_misses"]
        assert await store.reader.read(ino, MIB, 50 * MIB) == data[MIB:]
        assert store.volume_reader.statistics()["cell_misses"] == before
        await store.reader.read(ino, 0, 1)
        assert store.volume_reader.statistics()["cell_misses"] > before


async def test_nothing_is_fetched_behind_the_end_or_of_what_is_in_no_volume(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        small = (await put(store, b"small", b"inline")).ino
        for offset in (0, 3, 100 * MIB):
            await store.reader.prefetch(small, offset, MIB)
        assert store.volume_reader.statistics()["cell_misses"] == 0
        with pytest.raises(NotFound):
            await store.reader.prefetch(InodeNo(10**9), 0, 1)
