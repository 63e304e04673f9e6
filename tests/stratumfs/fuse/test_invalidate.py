"""The kernel's cache from our side: who is told, who waits, and what happens when the kernel does not take it."""

import errno
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import trio

from stratumfs.fuse import invalidate
from stratumfs.fuse.handles import Lookups
from stratumfs.fuse.invalidate import KernelCache
from stratumfs.ids import ROOT_INODE, InodeNo
from stratumfs.limits import KERNEL_CACHE_S
from stratumfs.store.holds import Holds

FOLDER, FILE, OTHER = InodeNo(10), InodeNo(11), InodeNo(12)


@dataclass
class Kernel:
    """Notes what it is told; while ``busy`` a call for an entry blocks, as it does beside a lookup under way."""

    told: list[object] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)
    error: OSError | None = None

    def tell_entry(self, parent: InodeNo, name: bytes) -> None:
        self.free.wait()
        if self.error is not None:
            raise self.error
        self.told.append((parent, name))

    def tell_inode(self, ino: InodeNo) -> None:
        self.told.append(ino)


@dataclass
class Side:
    kernel: Kernel
    cache: KernelCache
    lookups: Lookups


@pytest.fixture
async def side(nursery: trio.Nursery) -> AsyncIterator[Side]:
    kernel = Kernel()
    kernel.free.set()
    lookups = Lookups(Holds(lambda ino: None), lambda ino: None)
    lookups.add(FOLDER)
    lookups.add(FILE)
    yield Side(kernel, KernelCache(nursery, lookups, kernel.tell_entry, kernel.tell_inode), lookups)
    kernel.free.set()


async def test_the_kernel_is_told_of_what_it_knows_only(side: Side) -> None:
    names = [(FOLDER, b"a"), (FOLDER, b"dir/"), (OTHER, b"b"), (ROOT_INODE, b"bucket/")]
    await side.cache.invalidate([FILE, OTHER], names)
    assert side.kernel.told == [FILE, (FOLDER, b"a"), (FOLDER, b"dir"), (ROOT_INODE, b"bucket")]
    side.lookups.forget([(FOLDER, 1)])
    await side.cache.invalidate([], [(FOLDER, b"a")])
    assert len(side.kernel.told) == 4


async def test_stored_names_are_told_as_they_are_shown(side: Side) -> None:
    await side.cache.invalidate([], [(FOLDER, b"_-_bcaf=E9"), (FOLDER, b"../"), (FOLDER, b"l" * 300)])
    assert side.kernel.told[:2] == [(FOLDER, b"caf\xe9"), (FOLDER, b"_-_k..")]


async def test_a_neighbour_whose_spelling_changes_is_told_too(side: Side) -> None:
    assert side.cache.handed_out(FOLDER, b"_-_oa")
    await side.cache.invalidate([], [(FOLDER, b"a/")])
    assert side.kernel.told == [(FOLDER, b"a"), (FOLDER, b"_-_oa")]


async def test_special_names_past_the_bound_are_not_kept(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invalidate, "SPECIAL_NAMES_MAX", 1)
    assert side.cache.handed_out(FOLDER, b"_-_oa")
    assert side.cache.handed_out(FOLDER, b"_-_oa")
    assert not side.cache.handed_out(FOLDER, b"_-_ob")
    assert side.cache.handed_out(FOLDER, b"plain")


async def test_a_kernel_that_does_not_take_it_holds_nobody_up_for_long(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invalidate, "INVALIDATE_WAIT_S", 0.05)
    side.kernel.free.clear()
    with trio.fail_after(10):
        await side.cache.invalidate([], [(FOLDER, b"a")])
        await side.cache.invalidate([], [(FOLDER, b"b")])
    assert side.cache.late == 2
    assert side.cache.timeout_s(FOLDER) == 0
    assert side.cache.timeout_s(OTHER) == KERNEL_CACHE_S
    side.kernel.free.set()
    with trio.fail_after(10):
        while side.cache.timeout_s(FOLDER) == 0:
            await trio.lowlevel.checkpoint()
    assert sorted(map(str, side.kernel.told)) == sorted(map(str, [(FOLDER, b"a"), (FOLDER, b"b")]))


async def test_handlers_queue_and_wait_for_nothing(side: Side) -> None:
    side.kernel.free.clear()
    side.cache.handed_out(FOLDER, b"_-_oa")
    side.cache.queue([FILE])
    side.cache.respelled(FOLDER)
    side.kernel.free.set()
    with trio.fail_after(10):
        while len(side.kernel.told) < 2:
            await trio.lowlevel.checkpoint()
    assert FILE in side.kernel.told
    assert (FOLDER, b"_-_oa") in side.kernel.told


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTCONN, errno.EINVAL])
async def test_what_the_kernel_refuses_is_no_error_of_the_writer(side: Side, number: int) -> None:
    side.kernel.error = OSError(number, "x")
    await side.cache.invalidate([], [(FOLDER, b"a")])


async def test_closing_waits_for_calls_that_still_run(side: Side) -> None:
    side.kernel.free.clear()
    side.cache.queue(names=[(FOLDER, b"a")])
    await trio.testing.wait_all_tasks_blocked()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(side.cache.close)
        await trio.testing.wait_all_tasks_blocked()
        assert side.kernel.told == []
        side.kernel.free.set()
    assert side.kernel.told == [(FOLDER, b"a")]
    await side.cache.invalidate([], [(FOLDER, b"b")])
    assert side.kernel.told == [(FOLDER, b"a")]


async def test_a_call_that_hangs_is_left_behind_at_the_end(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invalidate, "INVALIDATE_WAIT_S", 0.05)
    side.kernel.free.clear()
    side.cache.queue(names=[(FOLDER, b"a")])
    await trio.testing.wait_all_tasks_blocked()
    assert not await side.cache.close()
