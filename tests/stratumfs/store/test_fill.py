"""A stream that is filled by a source has the bytes of one that was written."""

import hashlib
from pathlib import Path

import pytest

from stratumfs.values import Conditions, ObjectSpec
from tests.stores import running_store

MIB = 1 << 20
CONTENT = bytes(range(256)) * (3 * MIB // 256)


class Given:
    """Gives *data*, up to *most* bytes at once."""

    def __init__(self, data: bytes, most: int) -> None:
        self.data, self.most, self.ended = data, most, False

    async def read_into(self, view: memoryview) -> int:
        assert view, "there is always room, or the end cannot be told"
        count = min(len(view), self.most, len(self.data))
        view[:count] = self.data[:count]
        self.data = self.data[count:]
        self.ended = not count
        return count


async def test_what_is_filled_is_read_again(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await store.objects.create_bucket("bucket", 1)
        for size in (0, 1, 4096, 16384, 16385, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB):
            for most, said in ((70_000, size), (5 * MIB, size), (70_000, size + 10), (300_000, 5 * MIB)):
                source = Given(CONTENT[:size], most)
                async with store.objects.put("bucket") as writer:
                    await writer.fill(source, said)
                    written = await writer.finish()
                    await writer.commit(b"k", ObjectSpec(), Conditions(), 1)
                assert source.ended, "a source proves its bytes at its end"
                assert (written.size, written.md5) == (size, hashlib.md5(CONTENT[:size]).digest())
                async with store.objects.open("bucket", b"k") as reader:
                    assert b"".join([bytes(chunk) async for chunk in reader.chunks(0, size)]) == CONTENT[:size]


async def test_a_source_that_has_more_than_it_said_is_not_cut(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await store.objects.create_bucket("bucket", 1)
        async with store.objects.put("bucket") as writer:
            with pytest.raises(AssertionError):
                await writer.fill(Given(b"four", 9), 3)
