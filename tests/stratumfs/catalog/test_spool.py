"""Pieces of a log that wait for a backup, on a disk that hangs and beside checkpoints."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.spool import Spool
from stratumfs.limits import SPOOL_S
from tests.stratumfs.catalog.somewhere import FolderPlace, make_catalog, open_at, pass_s, places_in, until
from tests.stratumfs.catalog.toy import put


@pytest.fixture
def places(tmp_path: Path) -> list[FolderPlace]:
    found = places_in(tmp_path, 3)
    make_catalog(found)
    return found


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", lambda: 1)


async def begin(catalog: Catalog, spool: Spool) -> None:
    async with catalog.aside.kept_log() as kept:
        spool.begin("series", kept.mark.salt, kept.mark.end)
    catalog.aside.spool_to(spool)


@contextmanager
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[threading.Event, threading.Event]]:
    """The next read of the log by a spool begins, and does not return until the second is set."""
    reached, gate = threading.Event(), threading.Event()
    write = Spool._write

    def write_late(*args: object) -> None:
        monkeypatch.setattr(Spool, "_write", write)
        reached.set()
        assert gate.wait(60)
        write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Spool, "_write", write_late)
    try:
        yield reached, gate
    finally:
        gate.set()


async def test_a_piece_that_nobody_waited_for_is_none_of_the_generation_behind_it(
    places: list[FolderPlace], spool: Spool, tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = threading.Event()
    take = Spool.take

    def told(self: Spool, *args: object) -> None:
        take(self, *args)  # type: ignore[arg-type]
        taken.set()

    monkeypatch.setattr(Spool, "take", told)
    async with open_at(places) as (catalog, _):
        await begin(catalog, spool)
        await catalog.commit(put, 1, b"one")
        with hanging(monkeypatch) as (reached, gate):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(catalog.checkpoint)
                await until(reached.is_set)
                await pass_s(mock_clock, SPOOL_S)
            await catalog.commit(put, 2, b"two" * 10_000)
            assert spool.position is None
            gate.set()
            await until(taken.is_set)
        assert spool.position is None
        assert [*(tmp_path / "spool").iterdir()] == []


async def test_what_was_read_of_a_log_that_was_started_over_meanwhile_ends_the_series(
    places: list[FolderPlace], spool: Spool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_at(places) as (catalog, _):
        await begin(catalog, spool)
        await catalog.commit(put, 1, b"one")
        async with catalog.aside.kept_log() as kept:
            pass
        catalog.aside.spool_to(Spool(tmp_path / "other", lambda: 1))
        assert await catalog.checkpoint()
        await catalog.commit(put, 2, b"two" * 10_000)
        spool.take(kept.primary, kept.mark)
        assert spool.position is None
        assert [*(tmp_path / "spool").iterdir()] == []


async def test_a_generation_is_closed_once_its_log_was_started_over_and_not_before(
    places: list[FolderPlace], spool: Spool, tmp_path: Path
) -> None:
    async with open_at(places) as (catalog, _):
        await begin(catalog, spool)
        await catalog.commit(put, 1, b"one")
        async with catalog.aside.snapshot():
            assert not await catalog.checkpoint()  # all that there is was taken, and the log goes on all the same
        assert spool.position is not None
        assert not spool.position.closed
        await catalog.commit(put, 2, b"two")
        assert await catalog.checkpoint()
        assert spool.position.closed
        assert Spool(tmp_path / "spool", lambda: 1).position == spool.position
        await catalog.commit(put, 3, b"three")
        assert await catalog.checkpoint()
        pieces = [piece for piece, _ in spool.waiting()]
        assert [piece.generation for piece in pieces] == [0, 0, 1]
        assert pieces[0].end == pieces[1].start
        assert pieces[2].start == 0


async def test_a_call_that_waits_while_a_series_ends_and_another_begins_leaves_that_alone(
    places: list[FolderPlace], spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_at(places) as (catalog, _):
        await begin(catalog, spool)
        await catalog.commit(put, 1, b"one")
        async with catalog.aside.kept_log() as kept:
            late = threading.Thread(target=spool.take, args=(kept.primary, kept.mark))
            with hanging(monkeypatch) as (reached, gate):
                late.start()
                await until(reached.is_set)
                spool.give_up()
                gate.set()
            late.join()
            assert spool.waiting() == []
            spool.begin("another", kept.mark.salt, kept.mark.end)
            assert spool.position is not None
            assert spool.position.series == "another"
