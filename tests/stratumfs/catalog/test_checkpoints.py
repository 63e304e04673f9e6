"""Checkpoints on a disk that hangs."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from stratumfs.catalog.durability import Checkpointer, Mark, Primary
from stratumfs.catalog.engine import Catalog
from stratumfs.ids import STORE_PLACE
from stratumfs.limits import STRIKE_S
from tests.stratumfs.catalog.somewhere import FolderPlace, make_catalog, open_at, pass_s, places_in, until
from tests.stratumfs.catalog.toy import everything, put


@pytest.fixture
def places(tmp_path: Path) -> list[FolderPlace]:
    found = places_in(tmp_path, 7)
    make_catalog(found)
    return found


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
                await until(lambda: len(reached) == 2 and _asked(catalog) == 1)
                await pass_s(mock_clock, STRIKE_S)
                await until(lambda: bool(checkpoints))
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
                    await until(lambda: _asked(catalog) == 0)
                assert (catalog.waiting is not None) == (phase == "finish")
        assert catalog.waiting is None
        assert catalog.statistics().checkpoints == 1
        assert members.primary == STORE_PLACE
        assert members.struck == {}


def _asked(catalog: Catalog) -> int:
    members = catalog._members
    return sum(each.borrowed_tokens for each in members._calls._holds.values())  # type: ignore[attr-defined]


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
