"""Checkpoints beside running writers."""

import itertools
import os
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stratumfs.catalog.connection import connect
from stratumfs.catalog.create import create_catalog
from stratumfs.catalog.durability import Checkpointer
from stratumfs.catalog.engine import Transaction
from stratumfs.errors import AlreadyExists
from tests.stratumfs.catalog.toy import SCHEMA, StoppedMember, get, listing, put, running


async def test_checkpoints_by_size_lose_nothing_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratumfs.catalog.checkpoints.CHECKPOINT_BYTES", 1 << 18)

    async def writer(task: int) -> None:
        for n in range(40):
            ident = task * 1000 + n
            await (catalog.write if n % 4 == 0 else catalog.commit)(put, ident, os.urandom(4096))

    async with running(tmp_path / "c") as catalog:
        async with trio.open_nursery() as nursery:
            for task in range(16):
                nursery.start_soon(writer, task)
        statistics = catalog.statistics()
        assert statistics.checkpoints >= 2
        assert statistics.wal_bytes < 4 << 20
        expected = sorted(task * 1000 + n for task in range(16) for n in range(40))
        assert await catalog.read(listing, 0) == expected
    async with running(tmp_path / "c") as catalog:
        assert await catalog.read(listing, 0) == expected
        assert await catalog.read(check_integrity) == [("ok",)]


def check_integrity(tx: Transaction) -> list[tuple[str]]:
    return tx.all("pragma integrity_check")


async def test_a_checkpoint_folds_only_what_every_member_holds(tmp_path: Path) -> None:
    member = StoppedMember()
    async with running(tmp_path / "c", [member]) as catalog, trio.open_nursery() as nursery:
        await catalog.write(put, 1, b"needle")
        nursery.start_soon(catalog.checkpoint)
        await wait_all_tasks_blocked()
        database = catalog._database.primary._database.number  # opened anew and closed, it would drop SQLite's locks
        assert b"needle" not in os.pread(database, 1 << 20, 0)
        member.let_go()
        await catalog.checkpoint()
        assert b"needle" in os.pread(database, 1 << 20, 0)


async def test_a_checkpoint_folds_beside_the_writers_nothing_that_came_after_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round beside it may seed a copy from the database, and ships it no more of the log than its own mark."""
    bulk, found = Checkpointer.bulk, []

    def beside_a_writer(self: Checkpointer) -> None:
        trio.from_thread.run(catalog.write, put, 2, b"came later")
        bulk(self)
        found.append(self._primary.read_database(0, 1 << 20))

    async with running(tmp_path / "c") as catalog:
        await catalog.commit(put, 1, b"was held" * 1024)  # on pages of its own
        monkeypatch.setattr(Checkpointer, "bulk", beside_a_writer)
        assert await catalog.checkpoint()
        monkeypatch.undo()
        assert b"was held" in found[0]
        assert b"came later" not in found[0]
        assert b"came later" in catalog._database.primary.read_database(0, 1 << 20)


async def test_each_checkpoint_starts_the_wal_over_with_the_next_salt(tmp_path: Path) -> None:
    member = StoppedMember()
    member.let_go()
    async with running(tmp_path / "c", [member]) as catalog:
        for ident in range(5):
            await catalog.commit(put, ident, b"v")
            assert await catalog.checkpoint()
        assert catalog.statistics().checkpoints == 5
    salts = list(dict.fromkeys(mark.salt for mark in member.marks))
    assert [(b - a) % 2**32 for a, b in itertools.pairwise(salts)] == [1] * (len(salts) - 1)
    assert len(salts) >= 6


async def test_writers_wait_at_the_end_phase_and_then_go_on(tmp_path: Path) -> None:
    member = StoppedMember()
    async with running(tmp_path / "c", [member]) as catalog, trio.open_nursery() as nursery:
        member.let_go()
        await catalog.commit(put, 1, b"v")
        async with catalog._rounds.turn:  # the end phase can't begin, the bulk can
            nursery.start_soon(catalog.checkpoint)
            await wait_all_tasks_blocked()
            await catalog.write(put, 2, b"w")
            assert await catalog.read(get, 2) == b"w"
        while not catalog.statistics().checkpoints:
            await catalog.commit(put, 10 + catalog.statistics().sequence, b"x")
        assert catalog.statistics().unsynced == 0


async def test_a_reader_that_stays_puts_the_checkpoint_off(tmp_path: Path) -> None:
    """As a dump on a connection of its own."""
    async with running(tmp_path / "c") as catalog:
        await catalog.commit(put, 1, b"v")
        with closing(connect(tmp_path / "c" / "catalog.db")) as reader:
            reader.execute("begin; select count(*) from thing").fetchall()
            await catalog.commit(put, 2, b"w")
            assert not await catalog.checkpoint()
            assert catalog.statistics().checkpoints_put_off == 1
            await catalog.commit(put, 3, b"x")
        assert await catalog.checkpoint()
        assert await catalog.read(listing, 0) == [1, 2, 3]


async def test_after_close_nothing_is_left_in_the_wal_to_fold(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog:
        await catalog.commit(put, 1, b"only in the WAL until then")
    folder = tmp_path / "c"
    assert b"only in the WAL until then" in (folder / "catalog.db").read_bytes()
    assert (folder / "catalog.db-wal").stat().st_size > 32


async def test_sqlite_keeps_its_locks_while_the_catalog_is_open(tmp_path: Path) -> None:
    """A descriptor of the database that is closed too early would drop them: another process could start over."""
    async with running(tmp_path / "c") as catalog:
        await catalog.commit(put, 1, b"v")
        await catalog.checkpoint()
        script = (
            "import apsw, sys; db = apsw.Connection(sys.argv[1], apsw.SQLITE_OPEN_READWRITE)\n"
            "try: db.execute('pragma journal_mode = delete').fetchall()\n"
            "except apsw.BusyError: print('busy')\n"
            "db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)"
        )
        run = [sys.executable, "-c", script, os.fspath(tmp_path / "c" / "catalog.db")]
        result = await trio.run_process(run, capture_stdout=True)
        assert result.stdout.strip() == b"busy"
        await catalog.commit(put, 2, b"w")


def test_the_tables_are_made_as_can_never_be_changed_later(tmp_path: Path) -> None:
    create_catalog(tmp_path / "c", SCHEMA, 1, page_size=8192)
    db = apsw.Connection(os.fspath(tmp_path / "c" / "catalog.db"))
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    assert [db.pragma(name) for name in ("page_size", "auto_vacuum", "journal_mode")] == [8192, 2, "wal"]
    db.close()
    with pytest.raises(AlreadyExists):
        create_catalog(tmp_path / "c", SCHEMA, 1, page_size=4096)
