"""A copy of a running catalog is looked into where it is, and what is folded meanwhile is read again."""

import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio

from stratumfs.catalog.chains import LOOK, ChainDamaged, copy_files
from stratumfs.catalog.snapshot import CopyAt, Snapshot
from stratumfs.catalog.transaction import Transaction
from stratumfs.errors import StoreBusy
from stratumfs.store.store import Store
from tests.faults.run import make_here, opened


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    for slot in range(6):
        (tmp_path / f"d{slot}").mkdir()
    make_here(tmp_path)
    async with opened(tmp_path) as found:
        await _insert(found, 1)
        yield found


async def _insert(store: Store, number: int) -> None:
    await store.catalog.write(partial(_insert_row, number=number))
    await store.catalog.sync()


def _insert_row(tx: Transaction, number: int) -> None:
    tx.run("insert into xattr values (1, ?, x'00')", (b"%04d" % number,))


def _count(tx: Transaction) -> int:
    found = tx.one("select count(*) from xattr where ino = 1")
    assert found is not None
    return int(found[0])


def _left(copy: CopyAt) -> list[Path]:
    return list(copy.folder.glob(f"{LOOK}*"))


async def test_it_shows_one_moment_and_needs_no_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert await store.catalog.checkpoint()
    for number in (2, 3):
        await _insert(store, number)
    copy = store.catalog.copies[0]
    files = {path.name: path.stat().st_size for path in copy.folder.iterdir()}
    found = Snapshot(copy)
    try:
        assert found.read(_count) == 3
        await _insert(store, 4)
        assert found.read(_count) == 3
        assert {path.name: path.stat().st_size for path in copy.folder.iterdir()}.keys() == files.keys()
    finally:
        found.close()
    assert _left(copy) == []
    found = Snapshot(copy)
    assert found.read(_count) == 4
    found.close()
    await _insert(store, 5)  # who looked has let go of no lock, and folds nothing


async def test_what_is_folded_while_it_is_read_is_read_again(store: Store) -> None:
    copy = store.catalog.copies[0]
    trio_token, seen = trio.lowlevel.current_trio_token(), list[int]()

    async def fold() -> None:
        await _insert(store, 100 + len(seen))
        assert await store.catalog.checkpoint()

    def read(tx: Transaction) -> int:
        seen.append(_count(tx))
        if len(seen) < 3:
            trio.from_thread.run(fold, trio_token=trio_token)
        return seen[-1]

    found = await trio.to_thread.run_sync(Snapshot, copy)
    assert await trio.to_thread.run_sync(found.read, read) == 3
    assert seen == [1, 2, 3]
    await trio.to_thread.run_sync(found.close)


async def test_a_base_that_is_none_is_damaged(store: Store) -> None:
    assert await store.catalog.checkpoint()
    copy = store.catalog.copies[0]
    base = copy.folder / f"base.{copy_files(copy.folder).base}"
    base.write_bytes(b"no database" * 1000)
    with pytest.raises(ChainDamaged):
        Snapshot(copy)
    assert _left(copy) == []


async def test_names_that_a_stop_left_go_with_the_next_fold(store: Store) -> None:
    copy = store.catalog.copies[0]
    left = copy.folder / f"{LOOK}left"
    left.mkdir()
    (left / "catalog.db").hardlink_to(copy.folder / f"base.{copy_files(copy.folder).base}")
    assert await store.catalog.checkpoint()
    assert _left(copy) == []


async def test_what_is_not_to_be_touched_is_copied_where_there_is_room(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = replace(store.catalog.copies[0], untouched=True)
    before = copy.folder.stat().st_mtime_ns
    found = Snapshot(copy)
    assert found.read(_count) == 1
    found.close()
    assert copy.folder.stat().st_mtime_ns == before
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    with pytest.raises(StoreBusy, match="no room"):
        Snapshot(copy)
