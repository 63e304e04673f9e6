"""What a byte that is written through the mount becomes on the shards, with all that the background does of it."""

import glob
import os
import random
from pathlib import Path

import pytest

from stratumfs.fuse.buffer import FileBuffer
from stratumfs.ids import KIB, MIB
from tests.stratumfs.fuse.test_buffer import Files, open_files

pytestmark = pytest.mark.slow
BLOCK = 4 * KIB
ALL = 1 << 40
SYNC_EACH = 64


async def write_in_order(buffer: FileBuffer, size: int) -> bytearray:
    data = bytearray()
    while len(data) < size:
        piece = os.urandom(MIB)
        await buffer.write(len(data), piece)
        data += piece
    await buffer.publish(durable=True)
    return data


async def on_shards(files: Files, folder: Path) -> int:
    """All bytes that any volume has had, for nothing is unlinked before its grace period is over."""
    await files.store.volume_writer.seal_idle(0)
    return sum(map(os.path.getsize, glob.glob(f"{folder}/d*/volumes/*/*")))


async def test_large_writes_in_order_are_stripes_and_little_beside(tmp_path: Path) -> None:
    async with open_files(tmp_path) as files:
        await write_in_order(await files.make(), 16 * MIB)
        assert await on_shards(files, tmp_path) <= 1.7 * 16 * MIB


@pytest.mark.parametrize(("size", "count", "joined"), [(4 * MIB, 1600, True), (16 * MIB, 320, False)])
async def test_blocks_at_random_places_cost_extents_and_not_stripes(
    tmp_path: Path, size: int, count: int, joined: bool
) -> None:
    """With what packs them, and with what joins them where they lie as close as after 100,000 in 256 MiB."""
    rng = random.Random(1)
    async with open_files(tmp_path) as files:
        buffer = await files.make()
        data = await write_in_order(buffer, size)
        before = await on_shards(files, tmp_path)
        for number in range(count):
            at, block = rng.randrange(size // BLOCK) * BLOCK, rng.randbytes(BLOCK)
            data[at : at + BLOCK] = block
            await buffer.write(at, block)
            if number % SYNC_EACH == SYNC_EACH - 1:
                await buffer.publish(durable=True)
        await buffer.publish(durable=True)
        await files.store.packer.round(ALL)
        if joined:
            assert await files.store.defragmenter.file(buffer.ino)
        assert await on_shards(files, tmp_path) - before <= 3 * count * BLOCK
        assert await files.committed(buffer) == data
