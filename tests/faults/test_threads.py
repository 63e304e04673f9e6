"""The system has no thread left for the owner: at any single moment, or for a while."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import trio
from trio._core import _thread_cache

from stratumfs.catalog import deadlines
from stratumfs.errors import DeviceUnasked, StratumError
from stratumfs.store.store import Store
from stratumfs.threads import in_thread
from tests.faults import acts
from tests.faults.audit import audit_rows
from tests.faults.base import INLINE, STRIPED
from tests.faults.run import make_here, running
from tests.stratumfs.store.helpers import get

_START = _thread_cache.ThreadCache.start_thread_soon


class Threads:
    """Counts how often a thread is asked for, and has none the *at*-th time, or none at all."""

    def __init__(self) -> None:
        self.count = 0
        self.at: int | None = None
        self.none = False
        self.refused = trio.Event()

    def start(self, cache: object, *args: object) -> None:
        self.count += 1
        if self.none or self.count == self.at:
            if self.count > 20:
                self.refused.set()
            raise RuntimeError("can't start new thread")
        _START(cache, *args)  # type: ignore[arg-type]


@contextmanager
def few_threads() -> Iterator[Threads]:
    found = Threads()
    with (
        patch.object(_thread_cache.ThreadCache, "start_thread_soon", lambda *args: found.start(*args)),
        patch.object(deadlines, "STARVED_S", 0.01),
    ):
        yield found


class User:
    """Does something of everything, and remembers what it was promised. Each round has names of its own."""

    def __init__(self, store: Store) -> None:
        self.store, self.promised, self.refused = store, dict[str, bytes](), 0
        self._number = 0

    async def round(self) -> None:
        self._number += 1
        n = self._number
        short, long = bytes([n % 256]) * INLINE, bytes([n % 251]) * STRIPED
        await self._try(f"short-{n}", short, acts.put)
        await self._try(f"long-{n}", long, acts.put)
        await self._try(f"file-{n}", long, acts.write_file)
        await self._read_all()
        if f"bucket/long-{n - 1}" in self.promised:
            del self.promised[f"bucket/long-{n - 1}"]
            await self._quietly(lambda: acts.delete(self.store, f"bucket/long-{n - 1}"))
        await self._quietly(lambda: acts.mkdir(self.store, f"bucket/dir-{n}"))
        await self._quietly(self.store.catalog.sync)
        await self._quietly(lambda: self.store.writer.volumes.seal_idle(0))

    async def check(self) -> None:
        for path, data in self.promised.items():
            assert await get(self.store, path.removeprefix("bucket/").encode()) == data
        assert self.store.read_only is None
        assert not self.store.fleet.struck
        assert not self.store.damaged
        assert await audit_rows(self.store) == []

    async def _try(self, name: str, data: bytes, act: Callable[[Store, str, bytes], Awaitable[object]]) -> None:
        path = f"bucket/{name}"
        if await self._quietly(lambda: act(self.store, path, data)):
            self.promised[path] = data

    async def _read_all(self) -> None:
        for path, data in list(self.promised.items())[-3:]:
            try:
                assert await get(self.store, path.removeprefix("bucket/").encode()) == data
            except StratumError:
                self.refused += 1

    async def _quietly(self, call: Callable[[], Awaitable[object]]) -> bool:
        try:
            await call()
        except StratumError:
            self.refused += 1
            return False
        return True


@pytest.fixture
async def root(tmp_path: Path) -> Path:
    for slot in range(3):
        (tmp_path / f"d{slot}").mkdir()
    make_here(tmp_path, 2, 1)
    return tmp_path


async def test_a_thread_that_is_wanting_at_any_moment_costs_one_answer_at_most(root: Path) -> None:
    async with running(root) as found:
        await found.store.objects.create_bucket("bucket", 1)
        user = User(found.store)
        with few_threads() as threads:
            await user.round()
            assert user.refused == 0
            once = threads.count
            for at in range(1, once + 1):
                threads.count, threads.at, user.refused = 0, at, 0
                await user.round()
                threads.at = None
                assert user.refused <= 2, f"the {at}th thread"
        await user.check()
        assert len(user.promised) > once


async def test_without_any_thread_nothing_is_lost_and_all_goes_on_afterwards(root: Path) -> None:
    async with running(root) as found:
        await found.store.objects.create_bucket("bucket", 1)
        user = User(found.store)
        await user.round()
        with few_threads() as threads:
            threads.none = True
            async with trio.open_nursery() as nursery:
                nursery.start_soon(user.round)
                await threads.refused.wait()
                threads.none = False
        await user.round()
        await user.check()
    async with running(root) as found:
        user.store = found.store
        await user.check()


async def test_who_gets_none_is_told_by_an_error_of_its_own() -> None:
    with few_threads() as threads:
        threads.none = True
        with pytest.raises(DeviceUnasked, match="no thread"):
            await in_thread(int)
        threads.none = False
        assert await in_thread(int) == 0
        with pytest.raises(RuntimeError, match="another"):
            await in_thread(_raise)


def _raise() -> None:
    raise RuntimeError("another one")
