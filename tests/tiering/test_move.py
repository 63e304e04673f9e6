"""Moves that an owner finds when it opens."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.catalog.moves import moves_since, unfinished_move, unfinished_moves
from stratumfs.cold_limits import MOVE_AGAIN_S, MOVE_AGAIN_S_MAX, MOVE_KEPT_S
from stratumfs.errors import ColdUnavailable, StoreBusy
from stratumfs.limits import MOVES_LOOK_S
from stratumfs.store import repack
from stratumfs.store.pace import Pace
from stratumfs.store.repack import Repack
from stratumfs.store.store import Store
from tests.faults import acts
from tests.stores import make_store, make_warm, running_store
from tests.stratumfs.store.helpers import get, put
from tests.stratumfs.store.test_remote_tier import Refusing, with_cold
from tiering.move import Mover


async def test_regression_a_move_that_another_owner_began_waits_until_the_store_can_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    make_store(tmp_path)
    make_warm(tmp_path)
    async with running_store(tmp_path) as store:
        await store.objects.create_bucket("bucket", 1)
        await put(store, b"key", bytes(40_000))
        await Mover(store).ask(await acts.find(store, "bucket"), "warm", acts.UID, "by hand")
        reason: list[str | None] = ["too few devices are up"]
        monkeypatch.setattr(Store, "read_only", property(lambda store: reason[0]))
        mover = Mover(store)
        await mover.resume()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mover.serve)
            await wait_all_tasks_blocked()
            [move] = mover
            assert move.summary()["waits"] == "too few devices are up"
            reason[0] = None
            mock_clock.jump(MOVES_LOOK_S)
            await move.ended.wait()
            assert move.summary()["waits"] is None
            assert (move.outcome, move.moved) == ("done", 40_000)
            nursery.cancel_scope.cancel()


DATA = bytes(100_000)


@asynccontextmanager
async def serving(store: Store) -> AsyncIterator[Mover]:
    mover = Mover(store)
    await mover.resume()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mover.serve)
        yield mover
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("to", ["cold", "hot"])
async def test_a_move_whose_service_does_not_answer_is_told_of_and_goes_on_when_it_does(
    tmp_path: Path, mock_clock: MockClock, to: str
) -> None:
    remote = Refusing()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"key", DATA)
        await put(store, b"other", DATA)
        bucket = await acts.find(store, "bucket")
        async with serving(store) as mover:
            if to == "hot":
                await (await mover.ask(bucket, "cold", acts.UID, "by hand")).ended.wait()
        async with serving(store) as mover:
            remote.refuses |= {"get", "put"}
            asked = await mover.ask(bucket, to, acts.UID, "by hand")
            await asked.ended.wait()
            with pytest.raises(ColdUnavailable, match="goes on by itself"):
                raise asked.error or AssertionError
            [waiting] = mover
            assert waiting.summary()["waits"] == "it refuses"
            assert [row.id for row in await store.catalog.read(unfinished_moves)] == [asked.row.id]
            remote.refuses.clear()
            mock_clock.jump(MOVE_AGAIN_S + 1)
            await waiting.ended.wait()
            assert (waiting.outcome, waiting.moved) == ("done", 2 * len(DATA))
            assert await store.catalog.read(unfinished_moves) == []
        assert await get(store, b"key") == DATA


async def test_others_have_their_turn_and_pauses_grow_until_it_has_failed(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    make_store(tmp_path)
    make_warm(tmp_path)
    remote = Refusing()
    async with with_cold(tmp_path, remote) as store, serving(store) as mover:
        await store.objects.create_bucket("bucket", 1)
        await put(store, b"key", DATA)
        await put(store, b"other", DATA)
        remote.refuses |= {"get", "put"}
        first = await mover.ask(await acts.find(store, "bucket/key"), "cold", acts.UID, "by hand")
        other = await mover.ask(await acts.find(store, "bucket/other"), "warm", acts.UID, "by hand")
        await other.ended.wait()
        assert (other.outcome, first.outcome) == ("done", "")
        pauses = [MOVE_AGAIN_S * 2**number for number in range(8)]
        for pause in pauses:
            [waiting] = mover
            mock_clock.jump(min(pause, MOVE_AGAIN_S_MAX) + 1)
            await waiting.ended.wait()
            assert not waiting.outcome
        [waiting] = mover
        mock_clock.jump(MOVE_KEPT_S + 1)
        await waiting.ended.wait()
        assert waiting.outcome == "failed: it refuses"
        assert list(mover) == []


async def test_regression_a_move_that_waited_behind_others_for_a_week_does_not_fail_when_first_put_off(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Refusing()
    async with with_cold(tmp_path, remote) as store:
        await put(store, b"key", DATA)
        await Mover(store).ask(await acts.find(store, "bucket/key"), "cold", acts.UID, "by hand")
        now_ns = time.time_ns()
        monkeypatch.setattr(time, "time_ns", lambda: now_ns + int((MOVE_KEPT_S + 1) * 1e9))
        remote.refuses |= {"get", "put"}
        async with serving(store) as mover:
            [move] = mover
            await move.ended.wait()
            assert move.outcome == ""
            remote.refuses.clear()
            [waiting] = mover
            mock_clock.jump(MOVE_AGAIN_S + 1)
            await waiting.ended.wait()
            assert waiting.outcome == "done"


async def test_what_was_brought_over_between_two_outages_counts(
    tmp_path: Path, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Refusing()
    monkeypatch.setattr(repack, "REPACK_BYTES", len(DATA))
    async with with_cold(tmp_path, remote) as store, serving(store) as mover:
        for key in (b"one", b"two", b"three"):
            await put(store, key, DATA)
        swap = Repack._swap

        async def once(self: Repack, *args: Any, **named: Any) -> None:
            await swap(self, *args, **named)
            if self._move is not None and remote.refused < 2:  # compaction may have been there first the third time
                remote.refuses |= {"get", "put"}

        monkeypatch.setattr(Repack, "_swap", once)
        move = await mover.ask(await acts.find(store, "bucket"), "cold", acts.UID, "by hand")
        for brought in range(2):
            await move.ended.wait()
            assert (move.outcome, move.row.bytes) == ("", brought * len(DATA))
            [move] = mover
            remote.refuses.clear()
            mock_clock.jump(MOVE_KEPT_S + 1)
        await move.ended.wait()
        assert move.outcome == "done"


async def test_a_later_move_takes_the_place_of_one_that_was_put_off(tmp_path: Path, mock_clock: MockClock) -> None:
    remote = Refusing()
    async with with_cold(tmp_path, remote) as store, serving(store) as mover:
        await put(store, b"key", DATA)
        ino = await acts.find(store, "bucket/key")
        remote.refuses |= {"get", "put"}
        await (await mover.ask(ino, "cold", acts.UID, "by hand")).ended.wait()
        remote.refuses.clear()
        back = await mover.ask(ino, "hot", acts.UID, "by hand")
        await back.ended.wait()
        [waiting] = mover
        mock_clock.jump(MOVE_AGAIN_S + 1)
        await waiting.ended.wait()
        assert waiting.outcome == "superseded"
        assert [row.outcome for row in await store.catalog.read(moves_since, 0, 10)] == ["done", "superseded"]
        assert not [name for name in remote.objects if "/volumes/" in name]


async def test_it_rests_between_its_steps_while_somebody_uses_the_doors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    rests: list[float] = []
    call = Pace.__call__

    async def noted(self: Pace, seconds: float, moved: int) -> None:
        began = trio.current_time()
        await call(self, 1e-3, moved)
        rests.append(trio.current_time() - began)

    monkeypatch.setattr(repack, "REPACK_BYTES", len(DATA))
    make_store(tmp_path)
    make_warm(tmp_path)
    async with running_store(tmp_path) as store, serving(store) as mover:
        await store.objects.create_bucket("bucket", 1)
        for key in (b"one", b"two"):
            await put(store, key, DATA)
        monkeypatch.setattr(Pace, "__call__", noted)
        bucket = await acts.find(store, "bucket")
        await (await mover.ask(bucket, "warm", acts.UID, "by hand")).ended.wait()
        assert set(rests) == {0.0}, "nobody was there"
        rests.clear()
        async with trio.open_nursery() as nursery:

            async def read() -> None:
                while True:
                    store.observer.stir()
                    mock_clock.jump(1e-4)
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(read)
            await (await mover.ask(bucket, "hot", acts.UID, "by hand")).ended.wait()
            nursery.cancel_scope.cancel()
        assert min(rests) >= 3e-3


async def test_regression_a_catalog_that_is_busy_when_a_move_is_put_off_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended the owner."""
    remote = Refusing()
    async with with_cold(tmp_path, remote) as store, serving(store) as mover:
        await put(store, b"key", DATA)
        remote.refuses |= {"get", "put"}
        read, looks = store.catalog.read, list[object]()

        async def busy(fn: Any, *args: Any) -> Any:
            if fn is unfinished_move:
                looks.append(fn)
                if len(looks) == 2:
                    raise StoreBusy("the catalog cannot do it now")
            return await read(fn, *args)

        monkeypatch.setattr(store.catalog, "read", busy)
        asked = await mover.ask(await acts.find(store, "bucket"), "cold", acts.UID, "by hand")
        await asked.ended.wait()
        assert len(looks) == 2
        assert isinstance(asked.error, ColdUnavailable)
        assert [each.row.id for each in mover] == [asked.row.id]
