"""Who shows what another has changed waits, as he does, until the caches outside know."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from pathlib import Path

import pytest
import trio

from stratumfs.errors import NoSuchObject, PreconditionFailed
from stratumfs.ids import InodeNo
from stratumfs.store.store import Store
from stratumfs.values import Conditions
from tests.stratumfs.store.helpers import ANY, bucket, get, put


class Slow:
    """A cache that has heard of changes when it is told to go on."""

    def __init__(self) -> None:
        self.go_on = trio.Event()
        self.asked = 0

    async def invalidate(self, inodes: Collection[InodeNo], names: Collection[tuple[InodeNo, bytes]]) -> None:
        self.asked += 1
        await self.go_on.wait()

    async def wait_asked(self, count: int) -> None:
        while self.asked < count:
            await trio.lowlevel.checkpoint()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with bucket(tmp_path) as found:
        await put(found, b"key", b"old")
        await put(found, b"gone", b"old")
        await put(found, b"other", b"old")
        yield found


async def _waits(call: Callable[[], Awaitable[object]], cache: Slow) -> bool:
    """Whether *call* is answered only after the cache knows."""
    done = trio.Event()

    async def run() -> None:
        await call()
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        with trio.move_on_after(0.05):
            await done.wait()
        waited = not done.is_set()
        cache.go_on.set()
    return waited


def _calls(store: Store) -> dict[str, Callable[[], Awaitable[object]]]:
    async def refused() -> None:
        with pytest.raises(PreconditionFailed):
            await store.objects.delete("bucket", b"key", Conditions(if_match=frozenset({"x"})), 1)

    async def missing() -> None:
        with pytest.raises(NoSuchObject):
            await store.objects.info("bucket", b"gone")

    return {
        "GET": lambda: get(store, b"key"),
        "HEAD": lambda: store.objects.info("bucket", b"key"),
        "404": missing,
        "412": refused,
        "LIST": lambda: store.objects.list("bucket"),
        "DELETE of what another deleted": lambda: store.objects.delete("bucket", b"gone", ANY, 1),
    }


@pytest.mark.parametrize("what", ["GET", "HEAD", "404", "412", "LIST", "DELETE of what another deleted"])
async def test_an_answer_waits_for_the_invalidation_of_what_it_shows(store: Store, what: str) -> None:
    cache = Slow()
    store.changes.attach(cache)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, store, b"key", b"new")
        nursery.start_soon(store.objects.delete, "bucket", b"gone", ANY, 1)
        await cache.wait_asked(2)
        await store.catalog.sync()
        assert await _waits(_calls(store)[what], cache)
    with trio.fail_after(60):
        await _calls(store)[what]()
    store.changes.detach(cache)


async def test_an_answer_about_something_else_does_not_wait(store: Store) -> None:
    cache = Slow()
    store.changes.attach(cache)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, store, b"key", b"new")
        await cache.wait_asked(1)
        with trio.fail_after(60):
            assert await get(store, b"other") == b"old"
        cache.go_on.set()
    store.changes.detach(cache)
