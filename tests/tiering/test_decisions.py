"""The log of decisions, whatever the engine does while a row is being written."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from stratumfs.catalog.decisions import (
    DONE,
    SUPERSEDED,
    begin_decisions,
    decide,
    decisions_since,
    end_decisions,
    trim_decisions,
)
from stratumfs.catalog.engine import Catalog
from stratumfs.errors import StoreFull
from stratumfs.ids import InodeNo, random_id
from tests.tiering.engines import START, Clock, Running, prices, running_engine
from tiering.policy import Policy
from tiering.verdict import Verdict
from tiering.worths import PolicySettings


@contextmanager
def behind(transaction: Callable[..., Any], act: Callable[[], None]) -> Iterator[None]:
    """*act* is done once, after a *transaction* was committed and before its writer knows."""
    write = Catalog.write
    acts = [act]

    async def wrapped(self: Catalog, made: Callable[..., Any], *args: Any) -> Any:
        result = await write(self, made, *args)
        if made is transaction and acts:
            acts.pop()()
        return result

    with patch.object(Catalog, "write", wrapped):
        yield


def verdict_of(ino: InodeNo) -> Verdict:
    policy = Policy(prices(), START, PolicySettings())
    policy.place(ino, 1000, START)
    [verdict] = policy.pin(ino, 1, START)
    return verdict


async def outcomes(running: Running) -> list[str]:
    return [each.outcome for each in await running.decisions()]


async def test_what_is_dropped_while_its_row_is_written_leaves_no_open_row(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        log = running.engine.log
        ino = await running.put("key")
        log.add(verdict_of(ino))
        with behind(decide, lambda: log.drop(ino)):
            await log.write()
        assert await outcomes(running) == [SUPERSEDED]


async def test_what_is_decided_anew_while_its_row_is_written_has_one_open_row(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        log = running.engine.log
        ino = await running.put("key")
        log.add(verdict_of(ino))
        with behind(decide, lambda: log.add(verdict_of(ino))):
            await log.write()
        assert await outcomes(running) == [SUPERSEDED, ""]
        log.end((await log.begin([ino], random_id()))[ino], DONE)
        await log.write()
        assert await outcomes(running) == [SUPERSEDED, DONE]


async def test_what_is_decided_behind_the_last_row_has_one_before_it_begins(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        log = running.engine.log
        inos = [await running.put(f"key{number}") for number in range(3)]
        for ino in inos[:2]:
            log.add(verdict_of(ino))
        await log.write()
        log.drop(inos[0])
        with behind(end_decisions, lambda: [log.add(verdict_of(ino)) for ino in inos[1:]].clear()):
            await log.write()
        batch = random_id()
        rows = await log.begin(inos[1:], batch)
        for ino in inos[1:]:
            log.end(rows[ino], DONE)
        await log.write()
        found = await running.decisions()
        assert [each.outcome for each in found] == [SUPERSEDED, SUPERSEDED, DONE, DONE]
        assert [each.batch for each in found] == [None, None, batch, batch]


async def test_rows_of_a_batch_that_could_not_begin_are_ended(tmp_path: Path) -> None:
    clock = Clock()
    async with running_engine(tmp_path, clock) as running:
        ino = await running.put("key")
        await running.engine.look()
        write = Catalog.write

        async def full(self: Catalog, made: Callable[..., Any], *args: Any) -> Any:
            if made is begin_decisions:
                raise StoreFull("no room")
            return await write(self, made, *args)

        verdict = verdict_of(ino)
        running.engine.log.add(verdict)
        running.engine.policy.moved(ino, 1, clock.now)
        running.engine.plan.add([verdict])
        with patch.object(Catalog, "write", full), pytest.raises(StoreFull):
            await running.engine.carry_out()
        await running.engine.log.write()
        [outcome] = await outcomes(running)
        assert outcome.startswith("failed")


async def test_an_open_row_does_not_keep_the_log_from_being_trimmed(tmp_path: Path) -> None:
    async with running_engine(tmp_path, Clock()) as running:
        log = running.engine.log
        inos = [await running.put(f"key{number}") for number in range(4)]
        for ino in inos:
            log.add(verdict_of(ino))
        await log.write()
        for ident in (2, 3):
            log.end(ident, DONE)
        await log.write()
        assert not await running.store.catalog.write(trim_decisions, 1, 0)
        assert [each.id for each in await running.store.catalog.read(decisions_since, 0, None)] == [4, 1]
