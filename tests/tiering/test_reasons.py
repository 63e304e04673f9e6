"""Explanations over a real store and its engine: each number is one that was used, and each promise is kept."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import trio

import tiering.explain
from stratumfs.catalog.described import described
from stratumfs.catalog.moves import named
from stratumfs.catalog.transaction import Transaction
from stratumfs.cli.explain_text import explanation_lines
from stratumfs.errors import NotPermitted, StoreBusy
from stratumfs.ids import InodeNo
from tests.tiering.engines import SIZE, Clock, Running, prices, running_engine
from tiering.engine import Engine
from tiering.explain import Explainer
from tiering.move import Mover
from tiering.prices import DAY_S
from tiering.record import from_plain
from tiering.sums import Summing

HOUR_S = 3600.0


def explainer(running: Running) -> Explainer:
    async def engine() -> Engine:
        return running.engine

    return Explainer(running.store, lambda ident: None, {}, prices().tiers, engine)


async def crowded(running: Running) -> InodeNo:
    """Eight objects in room for four; one of them is read each hour. Returns one that had to go."""
    inos = [await running.put(f"dir/{number}") for number in range(8)]
    await running.step()
    for _ in range(30):
        running.clock.now += HOUR_S
        await running.read("dir/7")
        await running.step()
    for ino in inos:
        if await running.tier(ino) == "warm":
            return ino
    raise AssertionError("nothing had to go")


async def explain(running: Running, ino: InodeNo, at_s: float | None = None) -> dict[str, Any]:
    found = await explainer(running).explain(inode=ino, at_ns=None if at_s is None else int(at_s * 1e9))
    return json.loads(json.dumps(found, allow_nan=False))


async def test_who_moved_it_why_and_on_which_numbers(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock(), hot=4.5 * SIZE) as running:
        began = running.clock.now
        ino = await crowded(running)
        found = await explain(running, ino)
        [row] = [row for row in await running.decisions() if row.ino == ino and row.outcome == "done"]
        placed = found["placed"]
        assert (placed["tier"], placed["by"]) == (row.target, row.cause) == ("warm", placed["by"])
        told = dict(placed["decision"])
        told.pop("for", None)
        assert from_plain(told).holds()
        assert from_plain(told).reason() == placed["reason"]
        tiering = found["tiering"]
        assert tiering["booked"] == found["tier"] == "warm"
        assert tiering["inputs"]["size"] == SIZE
        assert tiering["inputs"]["idle_s"] == running.clock.now - began
        [compared] = tiering["compared"]
        assert compared["tier"] == "hot"
        if compared["marginal"] is not None:
            assert compared["marginal"]["path"].startswith("bucket/dir/")
        money = tiering["money"]
        assert money["usd_saved"] == money["usd_where_new_data_lands"] - money["usd"] > 0
        before = await explain(running, ino, began - DAY_S)
        assert (before["then"]["tier"], before["then"]["by"]) == ("hot", "placed")
        after = await explain(running, ino, time.time())
        assert after["then"]["tier"] == "warm"
        assert after["then"]["reason"] == placed["reason"]


async def test_of_the_engine_and_an_operator_the_last_one_is_named(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock(), hot=4.5 * SIZE) as running:
        ino = await crowded(running)
        decided = time.time()
        async with trio.open_nursery() as nursery:
            mover = Mover(running.store)
            nursery.start_soon(mover.serve)
            await (await mover.ask(ino, "hot", 0, "wanted")).ended.wait()
            nursery.cancel_scope.cancel()
        found = await explain(running, ino, decided)
        placed, then = found["placed"], found["then"]
        assert (placed["tier"], placed["by"], placed["reason"]) == ("hot", "operator", "wanted")
        assert (then["tier"], then["by"]) == ("warm", "policy")


async def test_regression_at_a_time_before_two_moves_it_was_not_where_the_last_one_found_it(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        ino, other = await running.put("dir/key"), await running.put("other")
        times = [time.time()]
        async with trio.open_nursery() as nursery:
            mover = Mover(running.store)
            nursery.start_soon(mover.serve)
            for each, tier in ((ino, "warm"), (ino, "hot"), (other, "warm")):
                await (await mover.ask(each, tier, 0, f"to {tier}")).ended.wait()
                times.append(time.time())
            nursery.cancel_scope.cancel()
        told = [(await explain(running, ino, at))["then"] for at in times]
        assert [(each["tier"], each["by"]) for each in told] == [
            (None, "moved"),  # all that is known is that it came from the warm tier in the end
            ("warm", "moved"),
            ("hot", "operator"),
            ("hot", "operator"),
        ]
        then = (await explain(running, other, times[0]))["then"]
        assert (then["tier"], then["by"]) == (None, "moved")
        then = (await explain(running, other, times[2]))["then"]
        assert (then["tier"], then["by"]) == ("hot", "placed")


async def test_what_is_promised_is_what_the_engine_does(tmp_path: Path) -> None:
    """Reads that come at the door, and the engine that carries out what they decide."""
    async with running_engine(tmp_path, Clock(), hot=4.5 * SIZE) as running:
        ino = await crowded(running)
        outlook = (await explain(running, ino))["tiering"]["outlook"]
        hourly = next(each for each in outlook["reads"] if each["gap_s"] == HOUR_S)
        assert hourly["to"] == "hot"
        key = (await running.store.catalog.read(described, ino)).path.decode().removeprefix("bucket/")
        for left in range(hourly["count"], 0, -1):
            assert await running.tier(ino) == "warm", f"{left} reads before it was promised"
            running.clock.now += HOUR_S
            await running.read(key)
            await running.step()
        assert await running.tier(ino) == "hot"


async def test_of_a_directory_sums_are_told_and_of_what_nobody_knows_that(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock(), hot=4.5 * SIZE) as running:
        await crowded(running)
        await running.put("small", size=10)
        late = await running.put("late")
        found = await explainer(running).explain(bucket="bucket", key="dir")
        sums = found["sums"]
        assert (found["kind"], sums["objects"], sums["bytes"], sums["complete"]) == ("directory", 8, 8 * SIZE, True)
        assert sum(each["objects"] for each in sums["tiers"].values()) == 8
        assert sums["usd_month"] < sums["usd_month_where_new_data_lands"]
        whole = (await explainer(running).explain(bucket="bucket"))["sums"]
        assert (whole["objects"], whole["inline_objects"], whole["bytes"]) == (10, 1, 9 * SIZE)
        assert (await explain(running, late))["tiering"] == {"known": False, "looked": True}
        text = await explainer(running).explanation_of("bucket", b"dir/7")
        assert json.loads(text)["key"] == "dir/7"


async def test_sums_are_told_while_objects_come_and_go(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        inos = [await running.put(f"key{number}") for number in range(8)]
        await running.step()
        running.clock.now += 200 * DAY_S
        summing = Summing(running.store.catalog, prices().tiers, running.engine)
        await summing.add(inos[:1])
        for ino in inos[1:7]:
            running.engine.policy.removed(ino)
        await summing.add(inos[7:])
        assert summing.sums.would_leave == {("hot", "warm"): 2 * SIZE}


async def test_regression_who_may_read_one_file_is_told_of_no_other(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock(), hot=4.5 * SIZE) as running:
        ino = await crowded(running)
        explained = explainer(running)
        whole = json.loads(await explained.attribute(ino, trusted=True))
        text = (await explained.attribute(ino, trusted=False)).decode()
        assert "bucket/dir/" not in text
        found = json.loads(text)
        assert found["tiering"]["money"].keys() == whole["tiering"]["money"].keys()
        assert [each["shards"] == [] for each in found["volumes"]] == [True] * len(whole["volumes"])
        async with trio.open_nursery() as nursery:
            mover = Mover(running.store)
            nursery.start_soon(mover.serve)
            await (await mover.ask(ino, "hot", 4711, "secret words")).ended.wait()
            nursery.cancel_scope.cancel()
        assert b"secret words" in await explained.attribute(ino, trusted=True)
        text = (await explained.attribute(ino, trusted=False)).decode()
        assert "secret words" not in text
        assert "4711" not in text
        top = await running.store.catalog.read(named, "bucket", b"dir")
        assert json.loads(await explained.attribute(top, trusted=True))["sums"]["objects"] == 8
        with pytest.raises(NotPermitted):
            await explained.attribute(top, trusted=False)


async def test_regression_of_a_move_that_the_log_has_lost_nobody_says_that_it_was_none(tmp_path: Path) -> None:
    def trimmed(tx: Transaction) -> None:
        tx.run("delete from decision")
        tx.run("delete from moved")

    async with running_engine(tmp_path, Clock(), hot=4.5 * SIZE) as running:
        ino = await crowded(running)
        await running.store.catalog.write(trimmed)
        found = await explain(running, ino, running.clock.now)
        assert found["tier"] == "warm"
        assert (found["placed"]["tier"], found["placed"]["since"], found["placed"]["by"]) == ("warm", None, "moved")
        assert (found["then"]["tier"], found["then"]["by"]) == (None, "moved")
        assert any("a tier that is not known" in line for line in explanation_lines("it", found))
        new = await running.put("new")
        assert (await explain(running, new))["placed"]["by"] == "placed"


async def test_regression_who_asks_for_many_sums_is_told_that_the_store_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[trio.Event]()

    async def endless(*_: object) -> None:
        begun.pop().set()
        await trio.sleep_forever()

    async with running_engine(tmp_path, Clock()) as running:
        await running.put("dir/key")
        explained = explainer(running)
        monkeypatch.setattr(tiering.explain, "sums", endless)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                begins = trio.Event()
                begun.append(begins)
                nursery.start_soon(explained.explanation_of, "bucket", b"dir")
                await begins.wait()
            with pytest.raises(StoreBusy):
                await explained.explanation_of("bucket", b"dir")
            found = json.loads(await explained.explanation_of("bucket", b"dir/key"))
            nursery.cancel_scope.cancel()
        assert found["key"] == "dir/key"


async def test_regression_an_engine_that_has_not_looked_says_so(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        ino = await running.put("dir/key")
        await running.step()
        assert (await explain(running, ino))["tiering"]["looked"]
        running.engine.surveyed = trio.Event()  # as of an owner that began just now
        found = await explain(running, ino)
        assert (found["tiering"]["known"], found["tiering"]["looked"]) == (True, False)
        assert any("has not looked at the catalog" in line for line in explanation_lines("it", found))
        late = await running.put("late")
        assert (await explain(running, late))["tiering"] == {"known": False, "looked": False}
        sums = await explainer(running).explain(bucket="bucket", key="dir")
        assert any("has not looked at the catalog" in line for line in explanation_lines("it", sums))
