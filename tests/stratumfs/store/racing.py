"""Users of a store at work while its bytes are moved."""

import random
import time
from collections.abc import Awaitable, Callable, Sequence

import pytest

from stratumfs.catalog.defragment import join_extents
from stratumfs.catalog.swap import swap_inline, swap_runs
from stratumfs.ids import InodeNo
from stratumfs.limits import STRIPE_PAYLOAD_MAX
from stratumfs.store.store import Store
from stratumfs.values import Name, NewExtent, ObjectSpec, Publication
from tests.faults.acts import holding
from tests.stratumfs.store.helpers import ANY, get


async def write_at(store: Store, ino: InodeNo, offset: int, data: bytes) -> None:
    """As a mount publishes it: a stripe of its own, or inline."""
    with holding(store.writer) as held:
        if store.writer.inline.allows(len(data)):
            extents = (NewExtent(offset, len(data), data=data),)
        else:
            gathered = await store.writer.gather([(offset, data)], held)
            await store.writer.sync({each.stripe for each in gathered})
            extents = tuple(each.extent for each in gathered)
        size = max((await store.files.attributes(ino)).size, offset + len(data))
        await store.files.publish(ino, Publication(None, extents, size, 1), time.time_ns(), durable=False)


async def new_file(store: Store, name: bytes) -> InodeNo:
    place = (await store.objects.bucket("bucket")).ino
    return (await store.files.make(place, Name(name), 0o100644, 0, 0, time.time_ns())).ino


class Racing:
    """Some files and what they hold; each call of ``step`` changes one of them at random, as users do meanwhile."""

    def __init__(
        self,
        store: Store,
        seed: int,
        sizes: Sequence[int] = (100, 20_000, 70_000, STRIPE_PAYLOAD_MAX + 50_000),
    ) -> None:
        self.store, self.random, self.sizes = store, random.Random(seed), sizes
        self.files: dict[InodeNo, bytearray] = {}
        self.names: dict[InodeNo, bytes] = {}

    async def make(self) -> None:
        name = b"f%d" % self.random.randrange(1 << 40)
        ino = await new_file(self.store, name)
        self.store.holds.take(ino)
        self.files[ino], self.names[ino] = bytearray(), name
        for _ in range(self.random.randrange(1, 5)):
            await self.write(ino)

    async def write(self, ino: InodeNo) -> None:
        data = self.random.randbytes(self.random.choice(self.sizes))
        offset = self.random.randrange(len(self.files[ino]) + 1)
        await write_at(self.store, ino, offset, data)
        self.files[ino][offset : offset + len(data)] = data

    async def step(self) -> None:
        if not self.files:
            return
        ino = self.random.choice(list(self.files))
        match self.random.randrange(6):
            case 0:
                size = self.random.randrange(len(self.files[ino]) + 1)
                await self.store.files.truncate(ino, size, time.time_ns())
                del self.files[ino][size:]
            case 1 if len(self.files) > 2:
                place = (await self.store.objects.bucket("bucket")).ino
                await self.store.files.remove(place, Name(self.names[ino]), time.time_ns())
                self.store.holds.drop(ino)
                del self.files[ino]
                await self.store.maintenance.round()
            case 2:
                key = b"o%d" % self.random.randrange(4)
                source = self.names[ino]
                info = await self.store.objects.copy(
                    "bucket", source, None, "bucket", key, ObjectSpec(), ANY, time.time_ns()
                )
                assert await get(self.store, key) == self.files[ino]
                assert info.size == len(self.files[ino])
            case _:
                await self.write(ino)

    async def check(self) -> None:
        for ino, data in self.files.items():
            assert bytes(await self.store.reader.read(ino, 0, len(data) + 1)) == data


def between(
    store: Store, step: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Awaitable[None]]:
    """*step* is run before each swap, behind it, and between the reads of a repack, never within itself.

    Returns what runs it once more.
    """
    write, run = store.catalog.write, store.reader.run
    busy = False

    async def stepping() -> None:
        nonlocal busy
        if not busy:
            busy = True
            await step()
            busy = False

    async def written(fn: Callable[..., object], *args: object) -> object:
        if fn in (swap_runs, swap_inline, join_extents):
            await stepping()
        result = await write(fn, *args)  # type: ignore[arg-type]
        if fn in (swap_runs, swap_inline, join_extents):
            await stepping()
        return result

    async def ran(*args: object) -> object:
        await stepping()
        return await run(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(store.catalog, "write", written)
    monkeypatch.setattr(store.reader, "run", ran)
    return stepping
