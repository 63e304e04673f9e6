"""Shards that speak for themselves."""

import pytest

from stratumfs.errors import ShardCorrupt
from stratumfs.ids import CellIndex, InodeNo
from stratumfs.location import Location
from stratumfs.shards.layout import ShardName
from stratumfs.volumes.toc import TocEntry
from stratumfs.volumes.walk import SCAN_SIZE, WalkedCell, read_toc, walk_cells
from tests.suites.tier import STORE, Tier, payload


async def filled(tier: Tier, *sizes: int) -> list[Location]:
    return [await tier.append(payload(size, number)) for number, size in enumerate(sizes)]


def walked(tier: Tier, at: Location, index: int = 0, start: int = 0) -> list[WalkedCell]:
    shards = tier.shards_of(at.volume, index)
    return list(walk_cells(shards, ShardName(at.volume, CellIndex(index)), STORE, start))


async def test_every_cell_is_met_in_order() -> None:
    tier = Tier()
    locations = await filled(tier, 1000, 10, 1000, 4000, 4)
    for index in range(6):
        found = walked(tier, locations[0], index)
        assert [cell.position for cell in found] == [at.position for at in locations]
        assert [cell.header.nonce for cell in found] == [at.nonce for at in locations]
        assert all(cell.whole and cell.header.index == index for cell in found)
    assert len(walked(tier, locations[0], 0, locations[2].position)) == 3


async def test_tables_of_contents_are_stepped_over() -> None:
    tier = Tier()
    locations = await filled(tier, 1000, 1000)
    await tier.writer.close()
    assert len(walked(tier, locations[0], 5)) == 2


async def test_the_walk_goes_on_behind_damage() -> None:
    tier = Tier()
    locations = await filled(tier, 1000, 1000, 1000, 1000)
    shard = tier.shard(locations[0].volume, 0)
    shard[locations[1].position : locations[1].position + 100] = bytes(100)  # a header beyond correction
    shard[locations[2].position + 5] ^= 0xFF  # one that is corrected
    shard[locations[2].position + 200] ^= 0xFF  # and a cell that isn't whole
    assert [(cell.position, cell.whole) for cell in walked(tier, locations[0])] == [
        (locations[0].position, True),
        (locations[2].position, False),
        (locations[3].position, True),
    ]


async def test_the_next_header_is_found_wherever_a_scan_is_cut() -> None:
    tier = Tier(1, 0)
    locations = await filled(tier, 100, 100)
    shard = tier.shard(locations[0].volume, 0)
    cell = bytes(shard[locations[1].position : locations[1].position + 228])
    for gap in (SCAN_SIZE - 3, SCAN_SIZE - 1, SCAN_SIZE, SCAN_SIZE + 1):
        shard[locations[1].position :] = bytes(gap) + cell
        assert [found.position for found in walked(tier, locations[0])] == [0, locations[1].position + gap]


async def test_a_header_inside_a_payload_is_none() -> None:
    tier = Tier(1, 0)
    other = Tier(1, 0)
    stored = await other.append(b"stored in a store")
    image = bytes(other.shard(stored.volume, 0)[:200])
    at = await tier.append(image)
    tier.shard(at.volume, 0)[:100] = bytes(100)
    assert walked(tier, at) == []


async def test_a_shard_that_ends_within_a_cell() -> None:
    tier = Tier()
    locations = await filled(tier, 1000, 1000)
    del tier.shard(locations[0].volume, 0)[locations[1].position + 150 :]
    assert [cell.whole for cell in walked(tier, locations[0])] == [True, False]


async def test_a_table_is_found_by_its_trailer_or_its_head() -> None:
    tier = Tier()
    (at,) = await filled(tier, 1000)
    entry = TocEntry(InodeNo(9), b"v" * 16, 0, 1000, at, b"bucket/key")
    tier.ledger.entries[at.volume] = [entry]
    await tier.writer.close()
    name = ShardName(at.volume, CellIndex(4))
    shards = tier.shards_of(at.volume, 4)
    assert read_toc(shards, name) == [entry]
    shard = tier.shard(at.volume, 4)
    shard[-100:] = bytes(100)
    assert read_toc(shards, name) == [entry]
    shard[at.position + 378 : at.position + 378 + 100] = bytes(100)
    with pytest.raises(ShardCorrupt):
        read_toc(shards, name)


async def test_a_shard_without_a_table_says_so() -> None:
    tier = Tier()
    (at,) = await filled(tier, 1000)
    await tier.writer.close()
    with pytest.raises(ShardCorrupt):
        read_toc(tier.shards_of(at.volume, 0), ShardName(at.volume, CellIndex(0)))
