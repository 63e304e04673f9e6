"""Pressure is relieved whatever else waits, and whichever tier takes nothing."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import trio

import tiering.engine
from stratumfs.catalog.moves import named
from stratumfs.catalog.xattrs import PIN
from stratumfs.errors import StoreReadOnly
from stratumfs.limits import TIER_AGAIN_S
from tests.tiering.engines import SIZE, Clock, Running, running_engine
from tests.tiering.tiers import MB, policy
from tiering.policy import Policy
from tiering.room import room


def test_pressure_goes_past_tiers_that_take_nothing_and_does_not_take_what_is_stuck() -> None:
    made = policy(hot=10 * MB, warm=100 * MB)
    for key in range(20):
        made.landed(key, MB, 0, 0.0)
    made.stuck = set(range(5))
    made.closed = frozenset({2})
    out = made.review(1.0, 0)
    assert len(out) == 10
    assert all(each.target == 1 and each.key >= 5 for each in out)
    made.prices = made.prices.with_capacities([8 * MB, 100 * MB, 1e12])
    made.closed = frozenset({1})
    assert [each.target for each in made.review(2.0, 0)] == [2, 2]
    made.prices = made.prices.with_capacities([MB, 100 * MB, 1e12])
    made.closed = frozenset({1, 2})
    assert made.review(3.0, 64) == []


def test_where_all_are_stuck_nothing_goes() -> None:
    made: Policy = policy(hot=MB, warm=100 * MB)
    for key in range(3):
        made.landed(key, MB, 0, 0.0)
    made.stuck = set(range(3))
    assert made.review(1.0, 0) == []


@pytest.mark.parametrize("how", ["read-only", "full"])
async def test_what_waits_for_a_tier_that_takes_nothing_is_in_nobody_s_way(tmp_path: Path, how: str) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock, cold=True) as running:
        pinned = [await running.put(f"pinned/{number}") for number in range(4)]
        inos = [await running.put(f"key{number}") for number in range(6)]
        await running.step()
        directory = await running.store.catalog.read(named, "bucket", b"pinned/")
        with patch.object(tiering.engine, "PLAN_MAX", 3), _shut(running, how):
            await running.store.files.set_xattr(directory, PIN, b"cold", 1)
            await running.step()
            assert len(running.engine.plan) == (3 if how == "full" else 0)
            prices = running.engine.policy.prices
            running.engine.policy.prices = prices.with_capacities([3 * SIZE, 1e12, prices.tiers[2].capacity_bytes])
            for _ in range(3):
                await running.step()
            # Of what is pinned, three wait for a tier that is full, and are no more booked in the one that they are in.
            stay = 2 if how == "full" else 0
            where = [str(await running.tier(ino)) for ino in inos]
            assert sorted(where) == ["hot"] * stay + ["warm"] * (6 - stay)
            assert {await running.tier(ino) for ino in pinned} == {"hot"}
        clock.now += TIER_AGAIN_S + 1
        await running.step()
        assert {await running.tier(ino) for ino in pinned} == {"cold"}, "a pin is not forgotten"


def _shut(running: Running, how: str) -> AbstractContextManager[object]:
    """The cold tier takes nothing."""
    cold = running.store.writers["cold"]
    if how == "read-only":
        return patch.object(type(cold), "read_only", property(lambda self: how if self is cold else None))

    def left(*args: Any) -> list[float]:
        return [*room(*args)[:2], 0.0]

    return patch.object(tiering.engine, "room", left)


async def test_what_makes_room_goes_to_the_next_tier_while_one_is_read_only(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock(), cold=True) as running:
        inos = [await running.put(f"key{number}") for number in range(4)]
        await running.step()
        running.engine.policy.prices = running.engine.policy.prices.with_capacities([SIZE, 0, 1e12])
        await running.engine.look()
        assert {each.target for each in running.engine.plan.waiting} == {2}
        with _shut(running, "read-only"):
            running.engine.policy.prices = running.engine.policy.prices.with_capacities([SIZE, 9 * SIZE, 1e12])
            await running.step()
            assert sorted([str(await running.tier(ino)) for ino in inos]) == ["hot"] + ["warm"] * 3
            pin = inos[0]
            await running.store.files.set_xattr(pin, PIN, b"cold", 1)
            await running.step()
            assert await running.tier(pin) != "cold"
        await running.step()
        assert await running.tier(pin) == "cold", "as soon as it takes something again"


async def test_what_is_slow_to_take_something_keeps_no_other_tier_waiting(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock(), cold=True) as running:
        engine = running.engine
        pinned = await running.put("pinned")
        inos = [await running.put(f"key{number}") for number in range(3)]
        await running.step()
        await running.store.files.set_xattr(pinned, PIN, b"cold", 1)
        carry, began, relieved, release = engine.carrier.carry, trio.Event(), trio.Event(), trio.Event()

        async def slow(target: int, *args: Any) -> Any:
            if target == 2:
                began.set()
                await release.wait()
            carried = await carry(target, *args)
            if target == 1:
                relieved.set()
            return carried

        with patch.object(engine.carrier, "carry", slow), trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(engine.serve)
                await began.wait()
                _shrink(running, SIZE)
                with _shut(running, "read-only"):
                    await engine.look()
                    await relieved.wait()
                assert sorted([str(await running.tier(ino)) for ino in inos]) == ["hot", "warm", "warm"]
                release.set()
                while engine.plan.under_way:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        assert await running.tier(pinned) == "cold"


async def test_another_object_makes_room_for_one_that_cannot_be_moved(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock(), hot=10 * SIZE) as running:
        inos = [await running.put(f"key{number}") for number in range(3)]
        await running.step()
        _shrink(running, 2 * SIZE)
        await running.engine.look()
        [chosen] = running.engine.plan.waiting
        with patch("stratumfs.store.repack.Repack.inode", side_effect=StoreReadOnly("damaged")):
            await running.engine.carry_out()
        running.engine.refused.clear()
        await running.step()
        where = {ino: await running.tier(ino) for ino in inos}
        assert sorted(map(str, where.values())) == ["hot", "hot", "warm"]
        assert where[chosen.key] == "hot"


def _shrink(running: Running, hot: float) -> None:
    prices = running.engine.policy.prices
    rest = [each.capacity_bytes for each in prices.tiers[1:]]
    running.engine.policy.prices = prices.with_capacities([hot, *rest])
