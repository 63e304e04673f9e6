"""Volumes that a crash left open."""

import trio

from stratumfs.ids import CellIndex, InodeNo
from stratumfs.location import Location
from stratumfs.repair.seal import seal_left_open
from stratumfs.shards.layout import ShardName
from stratumfs.volumes.toc import TocEntry
from stratumfs.volumes.walk import read_toc, walk_cells
from tests.suites.tier import STEP, STORE, Tier, payload


async def crashed() -> tuple[Tier, Location]:
    """A tier whose owner wrote one stripe that a row names and one that none does, and is gone."""
    tier = Tier()
    named = await tier.append(payload(1000))
    await tier.sync(named)
    await tier.append(payload(500, 1))
    tier.ledger.entries[named.volume] = [TocEntry(InodeNo(5), b"", 0, 1000, named, b"b/k")]
    return tier, named


async def seal(tier: Tier, at: Location) -> dict[bytes, Exception]:
    limiter = trio.CapacityLimiter(1)
    found = await seal_left_open(STORE, tier.info(at), at.position + 378, 1, tier.devices, tier.ledger, limiter)
    return dict(found)


async def test_nothing_is_cut_or_overwritten() -> None:
    tier, at = await crashed()
    before = [bytes(tier.shard(at.volume, index)) for index in range(6)]
    assert await seal(tier, at) == {}
    for index in range(6):
        assert tier.shard(at.volume, index).startswith(before[index])
        assert (len(tier.shard(at.volume, index)) > STEP) == (index >= 3)
        cells = walk_cells(tier.shards_of(at.volume, index), ShardName(at.volume, CellIndex(index)), STORE)
        assert len(list(cells)) == 2  # the stripe that no row names is there still
    assert tier.ledger.ends == {at.volume: (378, 1)}
    for index in (3, 4, 5):
        toc = read_toc(tier.shards_of(at.volume, index), ShardName(at.volume, CellIndex(index)))
        assert [entry.path for entry in toc] == [b"b/k"]
    assert await tier.read(at, 0, 1000) == payload(1000)


async def test_it_may_run_twice() -> None:
    tier, at = await crashed()
    await seal(tier, at)
    tier.ledger.entries[at.volume] = []
    await seal(tier, at)
    assert read_toc(tier.shards_of(at.volume, 5), ShardName(at.volume, CellIndex(5))) == []  # the newer one


async def test_missing_devices_and_shards_do_not_keep_it_from_being_sealed() -> None:
    tier, at = await crashed()
    down = tier.info(at).devices[5]
    del tier.devices[down]
    tier.shards_of(at.volume, 4).contents = {}
    assert set(await seal(tier, at)) == {down, tier.info(at).devices[4]}
    assert at.volume in tier.ledger.ends


async def test_a_shard_that_lost_its_end_keeps_its_gap() -> None:
    tier, at = await crashed()
    del tier.shard(at.volume, 5)[100:]
    await seal(tier, at)
    shard = tier.shard(at.volume, 5)
    assert shard[100:378] == bytes(278)
    assert read_toc(tier.shards_of(at.volume, 5), ShardName(at.volume, CellIndex(5)))
