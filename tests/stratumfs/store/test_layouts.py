"""Layouts that are remembered: whatever changes, the next read goes where the bytes lie now."""

import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from stratumfs.catalog.transaction import Touched
from stratumfs.errors import CatalogCorrupt, NoSuchObject, NotFound
from stratumfs.ids import InodeNo
from stratumfs.limits import KNOWN_LAYOUTS_MAX
from stratumfs.store.layouts import Layout, Layouts
from stratumfs.store.reader import _size_and_layout
from stratumfs.store.store import Store
from tests.stratumfs.store.helpers import MIB, bucket, put
from tests.stratumfs.store.racing import write_at
from tests.stratumfs.store.test_known import FILES, Users
from tests.stratumfs.store.test_repack import two_tiers

ENDS = (0, 1, 16_384, 30_000, 1 << 40)


async def check(store: Store, inodes: set[InodeNo]) -> None:
    """What is remembered, or read anew, is what a transaction says."""
    for ino in tuple(inodes):
        for start, stop in pairwise(ENDS):
            try:
                expected = await store.catalog.read(_size_and_layout, ino, start, stop - start)
            except NotFound:  # reaped: nobody holds it, and nobody reads it any more
                inodes.discard(ino)
                break
            assert await store.reader._size_and_extents(ino, start, stop - start) == expected


@pytest.mark.parametrize("seed", range(2))
async def test_what_is_remembered_is_what_there_is(tmp_path: Path, seed: int) -> None:
    async with two_tiers(tmp_path) as store:
        users = Users(store, seed)
        inodes: set[InodeNo] = set()
        for _ in range(150):
            await users.step()
            for key in FILES:
                with suppress(NoSuchObject):
                    inodes.add((await store.objects.info("bucket", key)).ino)
            await check(store, inodes)


async def test_a_second_read_asks_no_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(2 * MIB + 5)
    async with bucket(tmp_path) as store:
        ino = (await put(store, b"k", data)).ino
        assert await store.reader.read(ino, 0, 3 * MIB) == data

        async def never(*_: object) -> None:
            raise AssertionError("the catalog was asked")

        with monkeypatch.context() as patched:
            patched.setattr(store.catalog, "read", never)
            for start, length in ((0, 4096), (MIB - 1, 2), (2 * MIB, 100), (5 * MIB, 1)):
                assert await store.reader.read(ino, start, length) == data[start : start + length]
        await write_at(store, ino, MIB, b"x" * 20_000)
        assert await store.reader.read(ino, MIB, 20_001) == b"x" * 20_000 + data[MIB + 20_000 : MIB + 20_001]


async def test_a_damaged_row_keeps_nobody_from_the_other_bytes(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        ino = (await put(store, b"k", os.urandom(MIB))).ino
        await write_at(store, ino, MIB, os.urandom(20_000))
        database = store.catalog._writer._database.connection
        database.execute("update extent set sum = sum + 1 where ino = ? and offset = ?", (ino, MIB))
        assert len(await store.reader.read(ino, 0, MIB)) == MIB
        with pytest.raises(CatalogCorrupt):
            await store.reader.read(ino, MIB, 1)


def test_they_are_bounded_and_forgotten() -> None:
    layouts = Layouts()
    for number in range(KNOWN_LAYOUTS_MAX + 1):
        layouts.add(InodeNo(number), Layout(1, ()))
    assert (layouts.get(InodeNo(0)), layouts.get(InodeNo(1))) == (None, Layout(1, ()))
    layouts.heed(Touched(inodes=frozenset({InodeNo(1)}), moved=frozenset({InodeNo(2)})))
    assert [layouts.get(InodeNo(number)) is None for number in (1, 2, 3)] == [True, True, False]
    layouts.heed(None)
    assert layouts.get(InodeNo(3)) is None
