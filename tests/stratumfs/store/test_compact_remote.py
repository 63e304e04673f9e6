"""Compaction in somebody's S3 does what pays, and nothing else."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from stratumfs.catalog.volumes import SEALED
from stratumfs.store.compact_remote import Held, RemoteCompactor
from stratumfs.store.store import Store
from tests.faults import acts
from tests.remotes import MemoryRemote
from tests.stratumfs.store.helpers import get, put
from tests.stratumfs.store.test_remote_tier import Refusing, no_grace, no_volumes_of, rows, with_cold

__all__ = ["no_grace"]  # a fixture

SIZE = 400_000


def compactor(store: Store, pays: bool) -> tuple[RemoteCompactor, list[Sequence[Held]]]:
    asked: list[Sequence[Held]] = []

    def gain(volumes: Sequence[Held]) -> float:
        asked.append(volumes)
        return len(volumes) - 0.5 if pays else -1.0

    target = store.remotes["cold"]
    return RemoteCompactor(store.catalog, store.reader, {"cold": (target, gain)}, store.observer), asked


async def half_dead(store: Store, count: int) -> None:
    """So many volumes there, of which a fifth lives."""
    for number in range(count):
        names = [f"v{number}-{each}" for each in range(5)]
        for name in names:
            await put(store, name.encode(), bytes([number]) * SIZE)
        await acts.mkdir(store, f"bucket/d{number}")
        for name in names:
            await acts.rename(store, f"bucket/{name}", f"bucket/d{number}/{name}")
        await acts.move(store, f"bucket/d{number}", "cold")
        for name in names[1:]:
            await acts.delete(store, f"bucket/d{number}/{name}")
    await store.maintenance.reap()


async def test_what_pays_is_written_anew_together(tmp_path: Path, no_grace: None) -> None:
    remote = MemoryRemote()
    async with with_cold(tmp_path, remote) as store:
        await half_dead(store, 3)
        before = await rows(store, SEALED)
        assert len(before) == 3
        found, asked = compactor(store, pays=True)
        await found.round()
        assert {(each.live, each.size) for each in asked[-1]} == {(row.live, row.length) for row in before}
        await no_volumes_of(store, "freed")
        [row] = await rows(store, SEALED)
        assert row.live == 3 * SIZE
        assert len([name for name in remote.objects if "/volumes/" in name]) == 1
        for number in range(3):
            assert await get(store, f"d{number}/v{number}-0".encode()) == bytes([number]) * SIZE


async def test_two_rounds_at_once_do_not_write_the_same_anew(tmp_path: Path, no_grace: None) -> None:
    async with with_cold(tmp_path, MemoryRemote()) as store:
        await half_dead(store, 2)
        before = store.remotes["cold"].uploads
        found, _ = compactor(store, pays=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(found.round)
            nursery.start_soon(found.round)
        # What the first one has made would pay again, by these prices.
        volumes = [row for row in await rows(store, SEALED) if row.live]
        assert sum(row.live for row in volumes) == 2 * SIZE
        assert sum(row.length for row in volumes) < 3 * SIZE
        assert store.remotes["cold"].uploads - before == 1


async def test_what_does_not_pay_is_left(tmp_path: Path, no_grace: None) -> None:
    async with with_cold(tmp_path, MemoryRemote()) as store:
        await half_dead(store, 2)
        before = {row.id for row in await rows(store, SEALED)}
        found, asked = compactor(store, pays=False)
        await found.round()
        assert asked
        assert {row.id for row in await rows(store, SEALED)} == before


async def test_of_whom_no_prices_are_known_nothing_is_compacted(tmp_path: Path, no_grace: None) -> None:
    async with with_cold(tmp_path, MemoryRemote()) as store:
        await half_dead(store, 1)
        before = {row.id for row in await rows(store, SEALED)}
        await store.remote_compactor.round()
        assert {row.id for row in await rows(store, SEALED)} == before


@pytest.mark.parametrize("verb", ["get", "put"])
async def test_a_service_that_does_not_answer_leaves_it_to_a_later_round(
    tmp_path: Path, no_grace: None, verb: str
) -> None:
    remote = Refusing()
    async with with_cold(tmp_path, remote) as store:
        await half_dead(store, 1)
        [before] = await rows(store, SEALED)
        found, _ = compactor(store, pays=True)
        remote.refuses.add(verb)
        await found.round()
        assert remote.refused
        assert "it refuses" in found.stopped["cold"]
        assert before.id in {row.id for row in await rows(store, SEALED)}
        remote.refuses.clear()
        await store.maintenance.round()
        await found.round()
        assert found.stopped == {}
        await no_volumes_of(store, "freed")
        [row] = [row for row in await rows(store, SEALED) if row.live]
        assert row.id != before.id
