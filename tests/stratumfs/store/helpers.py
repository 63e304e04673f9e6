"""What several tests of the store do."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from stratumfs.location import Location
from stratumfs.store.store import Store
from stratumfs.store.writer import PendingStripe
from stratumfs.values import Conditions, ObjectInfo, ObjectSpec
from tests.stores import running_store

MIB = 1 << 20
ANY = Conditions()


async def put(
    store: Store, key: bytes, data: bytes, conditions: Conditions = ANY, bucket: str = "bucket"
) -> ObjectInfo:
    async with store.objects.put(bucket) as writer:
        await writer.write(data)
        await writer.finish()
        return await writer.commit(key, ObjectSpec(), conditions, time.time_ns())


async def get(store: Store, key: bytes, start: int = 0, stop: int | None = None) -> bytes:
    async with store.objects.open("bucket", key) as reader:
        stop = reader.info.size if stop is None else stop
        return b"".join([bytes(chunk) async for chunk in reader.chunks(start, stop)])


async def stored(store: Store, data: bytes) -> Location:
    """One stripe that is synced, and that no row names."""
    stripe = PendingStripe(data)
    await store.writer.append(stripe)
    await store.writer.sync([stripe])
    return stripe.at


@asynccontextmanager
async def bucket(folder: Path) -> AsyncIterator[Store]:
    """A running store with one bucket, made if it is not there."""
    async with running_store(folder) as store:
        if not await store.objects.buckets():
            await store.objects.create_bucket("bucket", time.time_ns())
        yield store
