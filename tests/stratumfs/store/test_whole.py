"""What is one chunk is read whole, as its chunks say it."""

from pathlib import Path

from stratumfs.store.store import Store
from stratumfs.values import Conditions, ObjectSpec
from tests.stores import running_store

MIB = 1 << 20
CONTENT = bytes(range(256)) * (3 * MIB // 256)


async def put(store: Store, key: bytes, data: bytes) -> None:
    async with store.objects.put("bucket") as writer:
        await writer.write(data)
        await writer.finish()
        await writer.commit(key, ObjectSpec(), Conditions(), 1)


async def test_one_chunk_is_read_whole_and_several_are_not(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        await store.objects.create_bucket("bucket", 1)
        for size in (0, 1, 4096, 100_000, MIB, MIB + 1, 3 * MIB):
            await put(store, b"k", CONTENT[:size])
            async with store.objects.open("bucket", b"k") as reader:
                for start, stop in ((0, size), (size // 3, size // 2), (size, size), (max(0, size - MIB), size)):
                    chunks = [bytes(chunk) async for chunk in reader.chunks(start, stop)]
                    whole = await reader.whole(start, stop)
                    assert b"".join(chunks) == CONTENT[start:stop]
                    assert (whole is None) == (len(chunks) > 1)
                    assert whole is None or bytes(whole) == CONTENT[start:stop]
