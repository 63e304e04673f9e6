"""Parts of cells that were verified before: read alone, verified alone, and never believed where they have changed."""

import random

import pytest

from stratumfs.ids import CellIndex
from stratumfs.location import Location
from stratumfs.volumes.cells import CellKey
from stratumfs.volumes.format import HEADER_SIZE
from stratumfs.volumes.remembered import BLOCK, Remembered
from tests.stratumfs.volumes.test_reader import FULL, warm
from tests.suites.tier import Tier, payload

CELL = FULL // 4


async def cold_cells(*sizes: int) -> tuple[Tier, list[Location]]:
    """A tier whose page cache has everything, and whose cache of cells has room for none."""
    tier = Tier(payload_seal=100 * FULL)
    tier.reader = tier.new_reader(cache_bytes=0)
    locations = [await tier.append(payload(size, number)) for number, size in enumerate(sizes)]
    warm(tier, tier.shards)
    return tier, locations


def flip(tier: Tier, at: Location, cell: int, offset: int) -> None:
    """A bit of a cell, on its device."""
    tier.shard(at.volume, cell)[at.position + HEADER_SIZE + offset] ^= 1


async def test_a_small_read_of_a_cell_that_was_verified_reads_its_blocks_alone() -> None:
    tier, (location,) = await cold_cells(FULL)
    data = payload(FULL, 0)
    assert await tier.read(location, 5000, 4096) == data[5000:9096]
    verified = tier.reader.statistics()["cells_verified"]
    for start in (0, 5000, BLOCK - 1, CELL - 4096):
        assert await tier.read(location, start, 4096) == data[start : start + 4096]
    assert tier.reader.statistics()["cells_verified"] == verified


async def test_a_block_that_changed_is_not_served() -> None:
    tier, (location,) = await cold_cells(FULL)
    data = payload(FULL, 0)
    await tier.read(location, 0, 4096)
    flip(tier, location, 0, 3 * BLOCK + 7)
    assert await tier.read(location, 0, 4096) == data[:4096]  # another block
    assert not tier.damage
    assert await tier.read(location, 3 * BLOCK, 4096) == data[3 * BLOCK : 3 * BLOCK + 4096]
    assert tier.damage


@pytest.mark.parametrize("seed", range(3))
async def test_any_range_of_any_cell_is_what_was_written(seed: int) -> None:
    drawn = random.Random(seed)
    sizes = [drawn.choice((FULL, FULL - 1, 5 * BLOCK, 16 * BLOCK + 3, 4 * 4 * BLOCK, 100)) for _ in range(4)]
    tier, locations = await cold_cells(*sizes)
    for step in range(300):
        number = drawn.randrange(len(sizes))
        start = drawn.randrange(sizes[number])
        length = min(drawn.choice((1, 512, 4096, BLOCK, BLOCK + 1)), sizes[number] - start)
        if step % 20 == 19:
            cell_size = locations[number].cell_size
            flip(tier, locations[number], drawn.randrange(2), drawn.randrange(cell_size))
        found = await tier.read(locations[number], start, length)
        assert found == payload(sizes[number], number)[start : start + length], f"seed {seed}, step {step}"


def test_what_is_remembered_is_bounded() -> None:
    remembered = Remembered(cells_max=3)
    cell = memoryview(bytes(4 * BLOCK))
    for number in range(9):
        remembered.remember(CellKey(b"v" * 16, number, 1, CellIndex(0)), cell)  # type: ignore[arg-type]
    assert len(remembered) == 3
