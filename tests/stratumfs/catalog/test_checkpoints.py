"""Checkpoints on a disk that hangs."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.catalog import aside, checkpoints, connection, copies, durability
from stratumfs.catalog.durability import Checkpointer, Mark, Primary
from stratumfs.catalog.engine import Catalog
from stratumfs.errors import StoreBusy
from stratumfs.ids import STORE_PLACE
from stratumfs.limits import STRIKE_S
from tests.stratumfs.catalog.somewhere import (
    FolderPlace,
    make_catalog,
    open_at,
    pass_s,
    pass_until,
    places_in,
    unanswered,
    until,
)
from tests.stratumfs.catalog.toy import everything, put, running


@pytest.mark.parametrize("phase", ["pin", "bulk", "finish"])
async def test_a_checkpoint_on_a_primary_that_hangs_is_given_up_for_a_copy(
    places: list[FolderPlace], mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    """Nobody writes beside it, so no round would notice."""
    checkpoints: list[bool] = []

    async def checkpoint() -> None:
        checkpoints.append(await catalog.checkpoint())

    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        async with trio.open_nursery() as nursery:
            with _hanging(monkeypatch, catalog, phase, holds=True) as reached:
                nursery.start_soon(checkpoint)
                await until(lambda: bool(reached))
                await pass_s(mock_clock, STRIKE_S)
                await until(lambda: len(reached) == 2 and unanswered(members) == 1)
                await pass_until(mock_clock, lambda: bool(checkpoints))
                assert checkpoints == [False]
                await catalog.commit(put, 2, b"two")
                assert members.primary != STORE_PLACE
                assert await catalog.checkpoint()
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]


@pytest.mark.parametrize("phase", ["bulk", "finish"])
async def test_a_checkpoint_that_takes_long_on_a_primary_that_answers_is_waited_for(
    places: list[FolderPlace], mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        async with trio.open_nursery() as nursery:
            with _hanging(monkeypatch, catalog, phase, holds=False) as reached:
                nursery.start_soon(catalog.checkpoint)
                await until(lambda: bool(reached))
                for _ in range(3):
                    await pass_s(mock_clock, STRIKE_S)
                    await until(lambda: unanswered(members) == 0)
                assert (catalog.waiting is not None) == (phase == "finish")
        assert catalog.waiting is None
        assert catalog.statistics().checkpoints == 1
        assert members.primary == STORE_PLACE
        assert members.struck == {}


@contextmanager
def _hanging(monkeypatch: pytest.MonkeyPatch, catalog: Catalog, phase: str, *, holds: bool) -> Iterator[list[str]]:
    """A checkpoint does not come out of *phase* before the end, nor a round's sync of the same disk if *holds*."""
    gate, lost = threading.Event(), catalog._database.primary
    reached: list[str] = []
    step, hold = getattr(Checkpointer, phase), Primary.hold

    def hanging(self: Checkpointer) -> object:
        if self._primary is lost:
            reached.append(phase)
            assert gate.wait(60)
        return step(self)

    def hanging_hold(self: Primary, mark: Mark) -> bool:
        if self is lost and reached and holds:
            reached.append("hold")
            assert gate.wait(60)
        return hold(self, mark)

    monkeypatch.setattr(Checkpointer, phase, hanging)
    monkeypatch.setattr(Primary, "hold", hanging_hold)
    try:
        yield reached
    finally:
        gate.set()


async def test_a_view_of_one_moment_stays_as_it_is_and_puts_the_end_of_a_checkpoint_off(
    places: list[FolderPlace],
) -> None:
    async with open_at(places) as (catalog, _):
        await catalog.commit(put, 1, b"one")
        async with catalog.aside.snapshot() as view:
            await catalog.commit(put, 2, b"two")
            assert not await catalog.checkpoint()
            await catalog.commit(put, 3, b"three")
            assert view.execute("select value from thing").fetchall() == [(b"one",)]
        assert await catalog.checkpoint()
        assert [number for number, _ in await catalog.read(everything)] == [1, 2, 3]


async def test_the_log_is_kept_as_it_is_for_whoever_copies_it(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, _):
        await catalog.commit(put, 1, b"one")
        # A checkpoint is not stopped: it waits until the log is let go.
        async with trio.open_nursery() as nursery, catalog.aside.kept_log() as kept:
            nursery.start_soon(catalog.checkpoint)
            await wait_all_tasks_blocked()
            await catalog.commit(put, 2, b"two")
            kept.check()
            assert kept.primary.salt() == kept.mark.salt
            assert kept.mark.end < kept.primary.wal_bytes()
        assert kept.primary.salt() != kept.mark.salt


@pytest.mark.parametrize("ends", [True, False])
async def test_whoever_copies_the_database_is_told_of_a_checkpoint_that_could_not_wait(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """Also of one that folds and keeps the salt, because somebody reads, and of one that has not come to its end."""
    monkeypatch.setattr(checkpoints, "CHECKPOINT_LATE_BYTES", 0)
    async with open_at(places) as (catalog, _):
        await catalog.commit(put, 1, b"one")
        async with catalog.aside.snapshot(), trio.open_nursery() as nursery:
            if ends:
                async with catalog.aside.kept_log() as kept:
                    kept.check()
                    assert not await catalog.checkpoint()
                    assert kept.primary.salt() == kept.mark.salt
                    with pytest.raises(StoreBusy):
                        kept.check()
            else:
                with _hanging(monkeypatch, catalog, "bulk", holds=False) as reached:
                    nursery.start_soon(catalog.checkpoint)
                    await until(lambda: bool(reached))
                    async with catalog.aside.kept_log() as kept:
                        with pytest.raises(StoreBusy):
                            kept.check()
        async with catalog.aside.kept_log() as kept:
            kept.check()


async def test_the_log_is_as_long_as_the_smallest_disk_allows(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those who hold it: of the second copy, which is not there any more, and of no other place."""
    small = places[2].root

    def by_place(place: Path | int) -> int:
        path = Path(os.readlink(f"/proc/self/fd/{place}")) if isinstance(place, int) else place
        return 100_000 if small in path.parents else 10_000_000

    for module in (copies, durability):
        monkeypatch.setattr(module, "log_bytes", by_place)
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        assert booted.members.log_bytes == 100_000
        for ident in range(20):
            await catalog.commit(put, ident, b"x" * 20_000)
        assert catalog.statistics().checkpoints > 0
        await catalog.strike(places[2].id, "EIO")
        assert booted.members.log_bytes == 10_000_000


def test_disks_that_are_small_have_short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    class Found:
        f_frsize = 1

        def __init__(self, total: int) -> None:
            self.f_blocks = total

    for total, length in ((100, 8), (400, 12.5), (1000, 31.25), (2048, 64), (1 << 20, 64)):
        monkeypatch.setattr(os, "statvfs", lambda place, total=total: Found(total << 20))
        assert connection.log_bytes(Path("/")) == int(length * (1 << 20))


async def test_a_log_that_became_long_gives_its_room_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is started over, at the next commit."""
    monkeypatch.setattr(connection, "log_bytes_kept", lambda folder: 100_000)
    log = tmp_path / "catalog.db-wal"
    async with running(tmp_path) as catalog:
        for ident in range(20):
            await catalog.commit(put, ident, b"x" * 50_000)
        assert log.stat().st_size > 1_000_000
        assert await catalog.checkpoint()
        await catalog.commit(put, 20, b"x" * 10)
        assert log.stat().st_size <= 100_000
        assert len(await catalog.read(everything)) == 21


async def test_regression_who_keeps_the_log_heeds_the_room_of_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that grew beside a dump filled small devices, whose copies were given up, and the store was read-only."""
    places = places_in(tmp_path, 5)
    make_catalog(places)
    fits, release = {place.root.name: True for place in places}, threading.Event()

    def has_room(folder: Path) -> bool:
        if "hangs" in fits:
            assert release.wait(60)
        return fits[folder.parent.parent.name]

    monkeypatch.setattr(aside, "_has_log_room", has_room)
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        [copy, *_] = booted.members.copies
        assert not await catalog.aside.check_log()
        monkeypatch.setattr(aside, "CHECKPOINT_LATE_BYTES", 0)
        assert await catalog.aside.check_log()
        fits[copy.folder.parent.parent.name] = False
        with pytest.raises(StoreBusy):
            await catalog.aside.check_log()
        fits["hangs"] = True
        monkeypatch.setattr(aside, "COPY_ROOM_S", 0.01)
        for _ in range(3):
            assert await catalog.aside.check_log()
        release.set()
