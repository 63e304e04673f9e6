"""The tier engine over a real store: what is read goes up, what is idle goes down, and each move says why."""

import math
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import pytest
import trio

import tiering.engine
import tiering.room
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.moves import named
from stratumfs.catalog.residence import residences, residences_behind, tier_bytes_behind
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.xattrs import PIN
from stratumfs.errors import CatalogCorrupt, StoreFull
from stratumfs.ids import InodeNo
from stratumfs.limits import TIER_AGAIN_S
from stratumfs.owner.messages import TierPlan
from stratumfs.owner.tier_answers import answer_of_tiers
from stratumfs.store.repack import Repack
from stratumfs.values import Conditions, Name
from tests.faults.acts import publish
from tests.tiering.engines import SIZE, START, Clock, Running, running_engine
from tests.tiering.test_simulation import Tier
from tests.tiering.tiers import popular
from tiering.engine import Engine
from tiering.heat import HEAT_FILE
from tiering.policy import Policy
from tiering.reasons import reasons
from tiering.record import from_text, to_text
from tiering.simulation import factory
from tiering.state import encode

DAY_S = 86400.0


async def test_under_pressure_what_is_idle_goes_down_and_what_is_read_comes_up(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock, hot=3.5 * SIZE) as running:
        inos = [await running.put(f"key{number}", fill=number) for number in range(3)]
        await running.step()
        assert [await running.tier(ino) for ino in inos] == ["hot"] * 3
        for _ in range(29):
            clock.now += 3600
            await running.read("key0")
            await running.read("key1")
            await running.step()
        new = await running.put("key3", fill=3)
        await running.step()
        for _ in range(4):
            clock.now += 600
            await running.read("key3")
            await running.step()
        assert [await running.tier(ino) for ino in (*inos, new)] == ["hot", "hot", "warm", "hot"]
        assert await running.read("key2") == bytes([2]) * SIZE
        for _ in range(40):
            clock.now += 600
            await running.read("key2")
            await running.step()
        assert await running.tier(inos[2]) == "hot"
        decisions = await running.decisions()
        assert {each.outcome for each in decisions} == {"done"}
        assert all(from_text(each.inputs).holds() for each in decisions)


@pytest.mark.slow
async def test_the_engine_decides_on_a_store_what_the_simulator_decides_on_the_same_trace(tmp_path: Path) -> None:
    trace = [(START + t, key, 20_000 + int(size) % 40_000) for t, key, size in popular(40, 350, 4)]
    stored = sum({key: size for _, key, size in trace}.values())
    expected = simulate(trace, 0.25 * stored)
    clock = Clock(trace[0][0])
    inos: dict[int, InodeNo] = {}
    async with running_engine(tmp_path, clock, hot=0.25 * stored) as running:
        tick = START + 3600
        for t, key, size in trace:
            while tick <= t:
                clock.now = tick
                await running.step()
                tick += 3600
            clock.now = t
            if key in inos:
                await running.read(f"key{key}")
            else:
                inos[key] = await running.put(f"key{key}", size)
            await running.step()
        keys = {ino: key for key, ino in inos.items()}
        decisions = await running.decisions()
        # What is placed in a slower tier is written to the fastest, and moved; the simulator puts it there.
        assert [(keys[each.ino], each.target, each.cause == "placed") for each in decisions] == expected
        assert {each.outcome for each in decisions} == {"done"}
        assert len(decisions) > 50
        for each in decisions:
            verdict = from_text(each.inputs)
            assert verdict.holds()
            assert to_text(verdict) == each.inputs
        last = {each.ino: each.target for each in decisions}
        assert {ino: await running.tier(ino) for ino in last} == last


async def test_heat_and_decisions_outlast_the_owner(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock, hot=2.5 * SIZE, heat=True) as running:
        inos = [await running.put(f"key{number}") for number in range(2)]
        await running.step()
        for _ in range(10):
            clock.now += 3600
            await running.read("key0")
            await running.step()
        use = running.engine.policy.signals.use(0, clock.now)
        await running.put("key2")
        await running.engine.look()  # decided, and not carried out
        [waits] = running.engine.plan.waiting
        assert waits.key == inos[1]
        await running.engine.save()
    async with running_engine(tmp_path, clock, hot=2.5 * SIZE, heat=True) as running:
        assert running.engine.policy.signals.use(0, clock.now) == use
        assert running.engine.plan.waiting == (waits,)
        await running.step()
        assert await running.tier(inos[1]) == "warm"
        [decision] = await running.decisions()
        assert (decision.outcome, decision.id) == ("done", 1)


async def test_a_batch_that_was_cut_off_is_begun_again_by_the_next_owner(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock) as running:
        inos = [await running.put(f"key{number}", fill=number) for number in range(3)]
        await running.engine.look()
        for ino in inos[:2]:
            await running.store.files.set_xattr(ino, PIN, b"warm", 1)
        await running.engine.look()
        with trio.CancelScope() as scope, patch.object(Repack, "_swap", _cut_off(scope)):
            await running.engine.carry_out()
        assert scope.cancelled_caught
        assert [(each.batch is None, each.outcome) for each in await running.decisions()] == [(False, "")] * 2
    async with running_engine(tmp_path, clock) as running:
        assert {each.key for each in running.engine.plan.waiting} == set(inos[:2])
        await running.step()
        assert [await running.tier(ino) for ino in inos] == ["warm", "warm", "hot"]
        assert [(await running.read(f"key{number}"))[0] for number in range(3)] == [0, 1, 2]
        assert [each.outcome for each in await running.decisions()] == ["superseded"] * 2 + ["done"] * 2


def _cut_off(scope: trio.CancelScope) -> Callable[..., Awaitable[None]]:
    async def swap(*_: object) -> None:
        scope.cancel()
        await trio.lowlevel.checkpoint()

    return swap


@pytest.mark.parametrize("damage", ["flipped", "foreign", "cut"])
async def test_a_damaged_memory_of_heat_is_begun_anew(tmp_path: Path, damage: str) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock, heat=True) as running:
        ino = await running.put("key")
        await running.engine.look()
        await running.engine.save()
    data = bytearray((tmp_path / HEAT_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    damaged = {"flipped": bytes(data), "foreign": encode({"format": 1, "used": [0, 0]}), "cut": bytes(data[:10])}
    (tmp_path / HEAT_FILE).write_bytes(damaged[damage])
    clock.now += 100
    async with running_engine(tmp_path, clock, heat=True) as running:
        assert running.engine.policy.began == clock.now
        assert running.engine.policy.where(ino) == 0


async def test_what_went_and_what_came_while_nobody_looked_is_found(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock, heat=True) as running:
        gone = await running.put("gone")
        await running.engine.look()
        await running.engine.save()
        await running.store.objects.delete("bucket", b"gone", Conditions(), 1)
        new = await running.put("new")
    async with running_engine(tmp_path, clock, heat=True) as running:
        await running.engine.look()
        assert running.engine.policy.where(gone) is None
        assert running.engine.policy.where(new) == 0
        assert running.engine.policy.used == [SIZE, 0]


@pytest.mark.parametrize("anew", [False, True], ids=["a look", "a survey"])
async def test_what_was_told_before_a_look_that_failed_is_not_forgotten(tmp_path: Path, *, anew: bool) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        gone = await running.put("gone")
        await running.engine.look()
        await running.store.objects.delete("bucket", b"gone", Conditions(), 1)
        new = await running.put("new")
        if anew:
            running.engine._accesses.heed(None)
            running.engine._accesses.take_changed()
        with failing_once(residences_behind if anew else residences), pytest.raises(StoreFull):
            await running.engine.look()
        await running.engine.look()
        assert running.engine.policy.where(gone) is None
        assert running.engine.policy.where(new) == 0


@contextmanager
def failing_once(transaction: Callable[..., Any]) -> Iterator[None]:
    read = Catalog.read
    failures = [StoreFull("not now")]

    async def wrapped(self: Catalog, made: Callable[..., Any], *args: Any) -> Any:
        if made is transaction and failures:
            raise failures.pop()
        return await read(self, made, *args)

    with patch.object(Catalog, "read", wrapped):
        yield


async def test_a_row_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        inos = [await running.put(f"key{number}") for number in range(2)]

        def damage(tx: Transaction) -> None:
            tx.run("update inode set object = ? where ino = ?", (b"\xff", inos[0]))

        await running.store.catalog.write(damage)
    async with running_engine(tmp_path, Clock()) as running:
        await running.engine.look()
        assert [running.engine.policy.where(ino) for ino in inos] == [0, 0]


async def test_a_clock_that_was_ahead_for_a_while_stops_nothing(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock, warmup_s=7 * DAY_S, heat=True) as running:
        ino = await running.put("key")
        await running.step()
        clock.now += 30 * DAY_S
        await running.step()
        clock.now -= 30 * DAY_S
        before = running.engine.now()
        clock.now += TIER_AGAIN_S
        assert running.engine.now() == before + TIER_AGAIN_S
        await running.read("key")
        await running.step()
        slot = running.engine.policy.signals.slot(ino)
        assert slot is not None
        assert running.engine.policy.signals.age_s(slot, running.engine.now()) == 0
        await running.engine.save()
    async with running_engine(tmp_path, clock, warmup_s=7 * DAY_S, heat=True) as running:
        policy = running.engine.policy
        assert policy.signals.age_s(slot, clock.now) == 0
        assert policy.began == START - 30 * DAY_S


async def test_heat_that_was_written_under_a_clock_that_was_ahead_does_not_wait_for_it(tmp_path: Path) -> None:
    clock = Clock(START + 3650 * DAY_S)
    async with running_engine(tmp_path, clock, warmup_s=7 * DAY_S, heat=True) as running:
        await running.put("key")
        await running.step()
        await running.engine.save()
    clock.now = START
    async with running_engine(tmp_path, clock, warmup_s=7 * DAY_S, heat=True) as running:
        assert running.engine.policy.began == START
        assert running.engine.policy.signals.age_s(0, START) == 0
        assert not running.engine.policy.warming(START + 7 * DAY_S)


async def test_heat_that_has_not_changed_is_not_written_again(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock, heat=True) as running:
        await running.put("key")
        await running.engine.look()
        await running.engine.save()
        first = (tmp_path / HEAT_FILE).stat().st_ino
        await running.engine.look()
        await running.engine.save()
        assert (tmp_path / HEAT_FILE).stat().st_ino == first
        await running.read("key")
        await running.engine.look()
        await running.engine.save(last=True)
        assert (tmp_path / HEAT_FILE).stat().st_ino != first


async def test_what_is_known_of_all_objects_is_read_by_threads_alone(tmp_path: Path) -> None:
    clock = Clock()
    loaders: list[threading.Thread] = []

    def load(*args: Any) -> Policy:
        loaders.append(threading.current_thread())
        return Policy(args[1], START)

    with patch.object(Policy, "load", load):
        async with running_engine(tmp_path, clock, heat=True) as running:
            await running.engine.save()
        async with running_engine(tmp_path, clock, heat=True) as running:
            assert len(loaders) == 1
            running_ = SimpleNamespace(store=running.store, tiers=Asked(running.engine))
            await answer_of_tiers(cast(Any, running_), TierPlan(1, 10))
    assert len(loaders) == 3, "with the warm-up, and without it"
    assert threading.main_thread() not in loaders


class Asked:
    """As the owner's: what knows the engine."""

    recorder = object()

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def opened(self) -> Engine:
        return self._engine


async def test_a_pin_decides_alone_and_the_nearest_one_counts(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock) as running:
        files = running.store.files
        inos = [await running.put(name) for name in ("a/b/c", "a/d")]
        await running.step()
        top, below = [await running.store.catalog.read(named, "bucket", name) for name in (b"a/", b"a/b/")]
        await files.set_xattr(top, PIN, b"warm", 1)
        await running.step()
        assert [await running.tier(ino) for ino in inos] == ["warm", "warm"]
        await files.set_xattr(below, PIN, b"hot", 1)
        await running.step()
        assert [await running.tier(ino) for ino in inos] == ["hot", "warm"]
        new = await running.put("a/new")
        await running.step()
        assert await running.tier(new) == "warm"
        for _ in range(20):
            clock.now += 600
            await running.read("a/new")
            await running.step()
        assert await running.tier(new) == "warm", "it is pinned, however much it is read"
        await files.remove_xattr(top, PIN, 1)
        await running.step()
        clock.now += 600
        await running.read("a/new")
        await running.step()
        assert await running.tier(new) == "hot"
        assert {each.cause for each in await running.decisions()} == {"pin", "placed", "policy"}


async def test_a_directory_that_is_moved_below_a_pin_takes_it_on(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        ino = await running.put("plain/file")
        await running.put("pinned/other")
        await running.step()
        bucket, pinned = [await running.store.catalog.read(named, "bucket", name) for name in (b"", b"pinned/")]
        await running.store.files.set_xattr(pinned, PIN, b"warm", 1)
        await running.step()
        await running.store.files.rename(bucket, Name(b"plain"), pinned, Name(b"plain"), 1)
        await running.step()
        assert await running.tier(ino) == "warm"


async def test_what_is_written_of_an_object_in_a_slower_tier_follows_it_once_it_is_idle(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock, warmup_s=DAY_S) as running:
        ino = await running.put("key")
        await running.store.files.set_xattr(ino, PIN, b"warm", 1)
        await running.step()
        await running.step()
        await publish(running.store, ino, [(1000, bytes([9]) * 18_000)], SIZE, durable=True)
        await running.step()
        [found] = await running.store.catalog.read(residences, (ino,))
        assert found.tiers == {"hot": 18_000, "warm": 22_000}
        await running.engine.measure()
        assert running.engine.policy.used == [0, SIZE]
        clock.now += 2 * 3600
        await running.step()
        [found] = await running.store.catalog.read(residences, (ino,))
        assert found.tiers == {"warm": SIZE}
        assert (await running.read("key"))[1000:19_000] == bytes([9]) * 18_000
        assert [(each.cause, each.size) for each in await running.decisions()] == [
            ("placed", SIZE),
            ("gathered", 18_000),
        ]


async def test_a_pin_that_could_not_be_followed_is_not_forgotten(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock) as running:
        ino = await running.put("key")
        await running.engine.look()
        warm = running.store.writers["warm"]
        await running.store.files.set_xattr(ino, PIN, b"warm", 1)
        with patch.object(type(warm), "check_writable", side_effect=StoreFull("no room")):
            await running.step()
        assert await running.tier(ino) == "hot"
        assert [each.outcome for each in await running.decisions()] == ["failed: no room"]
        await running.step()
        assert await running.tier(ino) == "hot", "it is left alone for a while"
        clock.now += TIER_AGAIN_S + 1
        await running.step()
        assert await running.tier(ino) == "warm"


async def test_what_is_written_anew_under_a_name_is_as_hot_as_what_it_replaces(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock) as running:
        old = await running.put("key")
        for _ in range(5):
            clock.now += 3600
            await running.read("key")
            await running.step()
        new = await running.put("key", 2 * SIZE)
        clock.now += 60
        await running.step()
        policy = running.engine.policy
        slot = policy.signals.slot(new)
        assert policy.where(old) is None
        assert slot is not None
        assert policy.signals.use(slot, clock.now).reads > 5
        beside = await running.put("beside")
        bucket = await running.store.catalog.read(named, "bucket", b"")
        await running.step()
        await running.store.files.rename(bucket, Name(b"beside"), bucket, Name(b"key"), 1)
        await running.step()
        assert [policy.where(ino) for ino in (old, new, beside)] == [None, None, 0]
        slot = policy.signals.slot(beside)
        assert slot is not None
        assert policy.signals.use(slot, clock.now).reads > 5
        assert policy.used == [SIZE, 0]


@pytest.mark.parametrize("race", ["delete", "overwrite"])
async def test_an_overwrite_or_delete_that_comes_first_ends_a_move_quietly(tmp_path: Path, race: str) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock) as running:
        ino = await running.put("key")
        await running.engine.look()
        await running.store.files.set_xattr(ino, PIN, b"warm", 1)
        await running.engine.look()
        assert len(running.engine.plan) == 1
        if race == "delete":
            await running.store.objects.delete("bucket", b"key", Conditions(), 1)
            assert await running.engine.carry_out()
            assert [each.outcome for each in await running.decisions()] == ["gone"]
        else:
            await running.put("key", fill=7)
            await running.step()
            assert await running.read("key") == bytes([7]) * SIZE
        await running.step()
        assert running.engine.policy.where(ino) is None
        assert len(running.engine.plan) == 0


async def test_warmup_waits_with_preferences_and_not_with_pressure(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock, hot=4.5 * SIZE, warmup_s=7 * DAY_S) as running:
        inos = [await running.put(f"key{number}") for number in range(4)]
        await running.step()
        for _ in range(20):
            clock.now += 3600
            await running.read("key0")
            await running.step()
        await running.store.files.set_xattr(inos[0], PIN, b"warm", 1)
        await running.step()
        await running.store.files.set_xattr(inos[0], PIN, b"none", 1)
        clock.now += 3600
        await running.read("key0")
        await running.step()
        assert await running.tier(inos[0]) == "warm", "a preference waits"
        running.engine.policy.prices = running.engine.policy.prices.with_capacities([1.5 * SIZE, 1e12])
        await running.step()
        assert sorted([str(await running.tier(ino)) for ino in inos]) == ["hot", "warm", "warm", "warm"]
        assert [each.cause for each in await running.decisions()] == ["pin", "pressure", "pressure"]
        clock.now += 7 * DAY_S
        for _ in range(10):
            clock.now += 60
            await running.read("key0")
            await running.step()
        assert await running.tier(inos[0]) == "hot"


def simulate(trace: list[tuple[float, int, int]], hot: float) -> list[tuple[int, str, bool]]:
    """Keys and targets of moves, as the simulator's policy decides them, and of what it puts elsewhere than hot."""
    context = Context(hot)
    simulated = factory(context)
    moves: list[tuple[int, str, bool]] = []
    tick = START + context.tick

    def apply(t: float) -> None:
        for key, target, _ in simulated.decisions(t):
            context.tier[key] = target
            moves.append((key, context.tiers[target].name, False))

    for t, key, size in trace:
        while tick <= t:
            apply(tick)
            tick += context.tick
        if key in context.tier:
            simulated.on_access(key, size, "get", t)
        else:
            context.tier[key] = target = simulated.place(key, size, t)
            simulated.on_access(key, size, "put", t)
            apply(t)
            moves += [(key, context.tiers[target].name, True)] if target else []
        apply(t)
    return moves


class Context:
    """Of the simulator, with the tiers of the store."""

    tick = 3600.0

    def __init__(self, hot: float) -> None:
        self.tiers = (Tier("hot", 0.08, 0.0002, 2e9, hot), Tier("warm", 0.015, 0.01, 180e6, math.inf))
        self.tier: dict[int, int] = {}

    def where(self, key: int) -> int | None:
        return self.tier.get(key)


async def test_pins_that_find_no_room_in_the_plan_are_in_no_list_and_are_not_forgotten(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        inos = [await running.put(f"dir/{number}") for number in range(7)]
        await running.step()
        directory = await running.store.catalog.read(named, "bucket", b"dir/")
        with patch.object(tiering.engine, "PLAN_MAX", 2):
            await running.store.files.set_xattr(directory, PIN, b"warm", 1)
            await running.engine.look()
            assert len(running.engine.plan) == 2
            assert not running.engine._unmovable
            for _ in range(4):
                await running.step()
        assert [await running.tier(ino) for ino in inos] == ["warm"] * 7


async def test_of_what_cannot_be_moved_so_much_is_remembered_and_pins_among_it_are_followed(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock) as running:
        inos = [await running.put(f"key{number}") for number in range(5)]
        await running.step()
        for ino in inos:
            await running.store.files.set_xattr(ino, PIN, b"warm", 1)
        with patch.object(tiering.engine, "UNMOVABLE_MAX", 3):
            await running.engine.look()
            with patch("stratumfs.store.repack.Repack.inode", side_effect=CatalogCorrupt("damaged")):
                await running.engine.carry_out()
            assert len(running.engine._unmovable) == 3
            clock.now += TIER_AGAIN_S + 1
            await running.step()
            await running.step()
        assert [await running.tier(ino) for ino in inos] == ["warm"] * 5


async def test_a_look_at_all_that_there_is_leaves_the_loop_to_others(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        for number in range(4):
            await running.put(f"key{number}")
        rests: list[float] = []

        async def rest(seconds: float, moved: int) -> None:
            rests.append(seconds)

        with patch.object(tiering.engine, "RESIDENCES", 2), patch.object(running.engine, "_rest", rest):
            await running.engine.survey()
            assert len(rests) >= 3, "the root, the bucket, and four objects: by two"
            assert all(each > 0 for each in rests)
            rests.clear()
            running.engine.policy.prices = running.engine.policy.prices.with_capacities([SIZE, math.inf])
            await running.engine.survey()
            assert not rests, "under pressure it rests no longer because of others"


async def test_heat_outlasts_a_tier_that_is_added_and_so_do_decisions(tmp_path: Path) -> None:
    """A cold one that lies before: what was of the last tier is of the last, though that has another number."""
    clock = Clock()
    async with running_engine(tmp_path, clock, cold=True, heat=True, names=("hot", "cold")) as running:
        ino = await running.put("key")
        await running.step()
        for _ in range(5):
            clock.now += 3600
            await running.read("key")
            await running.step()
        use = running.engine.policy.signals.use(0, clock.now)
        await running.store.files.set_xattr(ino, PIN, b"cold", 1)
        await running.engine.look()
        assert [each.target for each in running.engine.plan.waiting] == [1]
        await running.engine.save()
    async with running_engine(tmp_path, clock, cold=True, heat=True) as running:
        assert replace(running.engine.policy.signals.use(0, clock.now), hint=use.hint) == use
        assert [each.target for each in running.engine.plan.waiting] == [2]
        await running.step()
        assert await running.tier(ino) == "cold"


async def test_bytes_of_tiers_are_added_up_in_steps(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        for number in range(3):
            await running.put(f"key{number}")
            await running.store.writers["hot"].volumes.seal_idle(0)
        steps = 0

        def counted(tx: Transaction, after: bytes) -> Any:
            nonlocal steps
            steps += 1
            return tier_bytes_behind(tx, after, limit=1)

        with patch.object(tiering.room, "tier_bytes_behind", counted):
            assert (await tiering.room.tier_bytes(running.store))["hot"][0] == 3 * SIZE
        assert steps == 4


async def test_what_was_restored_stays_until_its_date_and_goes_back_then(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock, hot=2.5 * SIZE, cold=True) as running:
        objects = running.store.objects
        ino = await running.put("key")
        await move(running, ino, "cold")
        midnight = (START // DAY_S + 3) * DAY_S
        await objects.keep_restored("bucket", b"key", int(midnight * 1e9))
        await move(running, ino, "hot")
        at_hand = await running.put("hand")
        await objects.keep_restored("bucket", b"hand", int(midnight * 1e9))
        for number in range(3):
            await running.put(f"more{number}")
            await running.step()
        assert [await running.tier(each) for each in (ino, at_hand)] == ["hot", "hot"], "whatever else needs room"
        clock.now = midnight - 60
        await running.step()
        explained = await reasons(running.store.catalog, running.engine, ino)
        assert (explained["outlook"]["restored"], explained["outlook"]["idle"]) == (True, [])
        assert await running.tier(ino) == "hot"
        clock.now = midnight + 60
        await running.step()
        await running.step()
        assert await running.tier(ino) == "cold"
        assert [each.cause for each in await running.decisions() if each.ino == ino] == ["restored"]
        for key in (b"key", b"hand"):
            assert (await objects.info("bucket", key)).restored_ns == 0
        for _ in range(20):
            clock.now += 600
            await running.read("key")
            await running.step()
        assert await running.tier(ino) == "hot", "it moves by itself again"


async def test_what_was_restored_and_is_pinned_goes_back_when_it_is_pinned_no_more(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock, cold=True) as running:
        ino = await running.put("key")
        await move(running, ino, "cold")
        await running.store.objects.keep_restored("bucket", b"key", int((START + DAY_S) * 1e9))
        await move(running, ino, "hot")
        await running.store.files.set_xattr(ino, PIN, b"hot", 1)
        await running.step()
        clock.now += 3 * DAY_S
        await running.step()
        assert await running.tier(ino) == "hot"
        await running.store.files.remove_xattr(ino, PIN, 1)
        await running.step()
        assert await running.tier(ino) == "cold"
        await running.step()
        assert (await running.store.objects.info("bucket", b"key")).restored_ns == 0


async def test_what_is_to_go_back_waits_for_a_tier_that_takes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock, cold=True) as running:
        ino = await running.put("key")
        await move(running, ino, "cold")
        await running.store.objects.keep_restored("bucket", b"key", int((START + DAY_S) * 1e9))
        await move(running, ino, "hot")
        await running.step()
        clock.now += 3 * DAY_S
        cold = running.store.writers["cold"]
        with patch.object(type(cold), "read_only", property(lambda self: "away" if self is cold else None)):
            await running.step()
            assert await running.tier(ino) == "hot"
        await running.step()
        assert await running.tier(ino) == "cold"


async def move(running: Running, ino: InodeNo, tier: str) -> None:
    """As somebody's command does."""
    with Repack(running.store.catalog, running.store.reader, running.store.targets[tier]).running() as repack:
        await repack.inode(ino)
        await repack.flush()
    await running.engine.look()
