"""The kernel's cache from our side: who is told, who waits, and what happens when the kernel does not take it."""

import errno
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import trio

from stratumfs.fuse import invalidate, kept
from stratumfs.fuse.invalidate import KernelCache
from stratumfs.ids import ROOT_INODE, InodeNo
from stratumfs.limits import KERNEL_CACHE_S

FOLDER, FILE, OTHER = InodeNo(10), InodeNo(11), InodeNo(12)


@dataclass
class Kernel:
    """Notes what it is told; until ``free`` a call for an entry blocks, as it does beside a lookup under way.

    faults   each ends one call for an entry
    unknown  so many times it says that it does not know an inode
    """

    told: list[object] = field(default_factory=list)
    free: threading.Event = field(default_factory=threading.Event)
    error: OSError | None = None
    faults: list[Exception] = field(default_factory=list)
    unknown: int = 0

    def tell_entry(self, parent: InodeNo, name: bytes) -> None:
        self.free.wait()
        if self.faults:
            raise self.faults.pop()
        if self.error is not None:
            raise self.error
        self.told.append((parent, name))

    def tell_inode(self, ino: InodeNo) -> None:
        self.unknown -= 1
        if self.unknown >= 0:
            raise OSError(errno.ENOENT, "x")
        self.told.append(ino)


@dataclass
class Side:
    kernel: Kernel
    cache: KernelCache
    lookups: set[InodeNo]

    def keep(self, *names: tuple[InodeNo, bytes]) -> None:
        """Hand names to the kernel, with attributes of their directories."""
        for parent, name in names:
            assert self.cache.keep_name(parent, name) == KERNEL_CACHE_S
            self.cache.keep_attributes(parent)
            self.lookups.add(parent)


@pytest.fixture
async def side(nursery: trio.Nursery) -> AsyncIterator[Side]:
    kernel = Kernel()
    kernel.free.set()
    lookups: set[InodeNo] = set()
    yield Side(kernel, KernelCache(nursery, lookups, kernel.tell_entry, kernel.tell_inode), lookups)
    kernel.free.set()


async def test_the_kernel_is_told_of_what_it_was_given_only(side: Side) -> None:
    side.cache.keep_attributes(FILE)
    side.keep((FOLDER, b"a"), (FOLDER, b"dir"), (ROOT_INODE, b"bucket"))
    names = [(FOLDER, b"a"), (FOLDER, b"b"), (FOLDER, b"dir/"), (OTHER, b"a"), (ROOT_INODE, b"bucket/")]
    await side.cache.invalidate([FILE, OTHER], names)
    assert sorted(map(str, side.kernel.told)) == sorted(
        map(str, [FILE, (FOLDER, b"a"), (FOLDER, b"dir"), (ROOT_INODE, b"bucket")])
    )


async def test_what_the_kernel_was_told_to_forget_it_is_not_told_again(side: Side) -> None:
    side.keep((FOLDER, b"a"))
    for _ in range(2):
        await side.cache.invalidate([FOLDER], [(FOLDER, b"a")])
    assert side.kernel.told == [FOLDER, (FOLDER, b"a")]
    side.keep((FOLDER, b"a"))
    await side.cache.invalidate([FOLDER], [(FOLDER, b"a")])
    assert side.kernel.told == [FOLDER, (FOLDER, b"a")] * 2


async def test_what_is_given_again_while_a_call_runs_is_not_taken_for_forgotten(side: Side) -> None:
    side.keep((FOLDER, b"a"))
    side.kernel.free.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(side.cache.invalidate, [], [(FOLDER, b"a")])
        await trio.testing.wait_all_tasks_blocked()
        side.keep((FOLDER, b"a"))
        side.kernel.free.set()
    await side.cache.invalidate([], [(FOLDER, b"a")])
    assert side.kernel.told == [(FOLDER, b"a")] * 2


async def test_nobody_is_answered_before_the_call_that_another_has_begun(side: Side) -> None:
    side.keep((FOLDER, b"a"))
    side.kernel.free.clear()
    answered: list[int] = []

    async def invalidate(number: int) -> None:
        await side.cache.invalidate([], [(FOLDER, b"a")])
        answered.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(invalidate, number)
        await trio.testing.wait_all_tasks_blocked()
        assert answered == []
        side.kernel.free.set()
    assert sorted(answered) == [0, 1, 2]
    assert len(side.kernel.told) == 2, "the second call was for both who came while the first one ran"


async def test_what_the_kernel_forgot_by_itself_it_is_not_told(side: Side) -> None:
    side.keep((FOLDER, b"a"), (FOLDER, b"_-_oa"))
    side.cache.forgotten(FOLDER)
    await side.cache.invalidate([FOLDER], [(FOLDER, b"a")])
    side.cache.respelled(FOLDER)
    await trio.testing.wait_all_tasks_blocked()
    assert side.kernel.told == []


async def test_past_the_bound_a_directory_stands_for_all_names(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEPT_NAMES_MAX", 2)
    side.keep((FOLDER, b"a"), (OTHER, b"a"), (OTHER, b"b"), (FOLDER, b"b"))
    names = [(OTHER, b"any"), (FOLDER, b"none"), (FOLDER, b"a")]
    await side.cache.invalidate([], names)
    told = [(OTHER, b"any"), (OTHER, b"_-_oany"), (FOLDER, b"a")]
    assert sorted(map(str, side.kernel.told)) == sorted(map(str, told))


async def test_an_inode_that_is_still_on_its_way_to_the_kernel_is_told_again(side: Side) -> None:
    """Its attributes would be kept for an hour: the answer was given before the change, and taken after the call."""
    side.keep((FOLDER, b"a"))
    side.kernel.unknown = 3
    await side.cache.invalidate([FOLDER], [])
    assert side.kernel.told == [FOLDER]


async def test_an_inode_that_the_kernel_was_never_handed_is_waited_for_by_nobody(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invalidate, "INVALIDATE_WAIT_S", 3600)
    side.keep((FOLDER, b"a"))
    side.lookups.clear()
    side.kernel.unknown = 1 << 60
    with trio.fail_after(60):
        await side.cache.invalidate([FOLDER], [(FOLDER, b"a")])
    assert side.kernel.told == [(FOLDER, b"a")]


async def test_stored_names_are_told_as_they_are_shown(side: Side) -> None:
    side.keep((FOLDER, b"caf\xe9"), (FOLDER, b"_-_k.."))
    await side.cache.invalidate([], [(FOLDER, b"_-_bcaf=E9"), (FOLDER, b"../"), (FOLDER, b"l" * 300)])
    assert side.kernel.told == [(FOLDER, b"caf\xe9"), (FOLDER, b"_-_k..")]


async def test_a_neighbour_whose_spelling_changes_is_told_too(side: Side) -> None:
    side.keep((FOLDER, b"a"), (FOLDER, b"_-_oa"))
    await side.cache.invalidate([], [(FOLDER, b"a/")])
    assert side.kernel.told == [(FOLDER, b"a"), (FOLDER, b"_-_oa")]


async def test_a_neighbour_whose_invalidation_is_under_way_is_waited_for(side: Side) -> None:
    side.keep((FOLDER, b"_-_oa"))
    side.kernel.free.clear()
    side.cache.respelled(FOLDER)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(side.cache.invalidate, [], [(FOLDER, b"a")])
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 1
        side.kernel.free.set()
    assert set(side.kernel.told) == {(FOLDER, b"_-_oa")}


async def test_special_names_past_the_bound_are_not_kept(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "SPECIAL_NAMES_MAX", 1)
    side.keep((FOLDER, b"_-_oa"), (FOLDER, b"_-_oa"), (FOLDER, b"plain"))
    assert side.cache.keep_name(FOLDER, b"_-_ob") == 0
    side.cache.moved(FOLDER, b"_-_ob")
    with trio.fail_after(60):
        while not side.kernel.told:
            await trio.lowlevel.checkpoint()
    assert side.kernel.told == [(FOLDER, b"_-_ob")]
    side.cache.forgotten(FOLDER)
    side.keep((OTHER, b"_-_ob"))


async def test_a_kernel_that_does_not_take_it_holds_nobody_up_for_long(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    side.keep((FOLDER, b"a"), (FOLDER, b"b"), (FOLDER, b"c"))
    monkeypatch.setattr(invalidate, "INVALIDATE_WAIT_S", 0.05)
    side.kernel.free.clear()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(side.cache.invalidate, [], [(FOLDER, b"a")])
            nursery.start_soon(side.cache.invalidate, [], [(FOLDER, b"b")])
    assert side.cache.late == 1
    assert side.cache.keep_name(FOLDER, b"x") == 0
    assert side.cache.keep_name(OTHER, b"x") == KERNEL_CACHE_S
    monkeypatch.setattr(invalidate, "INVALIDATE_WAIT_S", 3600)
    with trio.fail_after(60):  # once: while the call hangs nobody else waits for it, nor do others for their own
        await side.cache.invalidate([FOLDER], [(FOLDER, b"c")])
        await side.cache.invalidate([OTHER], [])
    assert side.kernel.told == [FOLDER]
    side.kernel.free.set()
    with trio.fail_after(60):
        while len(side.kernel.told) < 4:
            await trio.lowlevel.checkpoint()
    assert sorted(map(str, side.kernel.told[1:])) == sorted(map(str, ((FOLDER, name) for name in (b"a", b"b", b"c"))))
    with trio.fail_after(60):
        while side.cache.keep_name(FOLDER, b"x") == 0:
            await trio.lowlevel.checkpoint()
    assert side.cache.late == 1
    assert side.cache.statistics()["directories_in_doubt"] == 0


async def test_what_gathers_behind_a_call_that_hangs_gathers_once(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invalidate, "INVALIDATE_WAIT_S", 0)
    side.keep((FOLDER, b"a"))
    side.kernel.free.clear()
    for _ in range(50):
        await side.cache.invalidate([FOLDER], [(FOLDER, b"a")])
    waiting = side.cache._lines[FOLDER].next
    assert len(waiting.names) == 1


async def test_handlers_queue_and_wait_for_nothing(side: Side) -> None:
    side.kernel.free.clear()
    side.keep((FOLDER, b"_-_oa"))
    side.cache.keep_attributes(FILE)
    side.cache.queue([FILE, OTHER])
    side.cache.respelled(FOLDER)
    side.kernel.free.set()
    with trio.fail_after(60):
        while len(side.kernel.told) < 2:
            await trio.lowlevel.checkpoint()
    assert FILE in side.kernel.told
    assert (FOLDER, b"_-_oa") in side.kernel.told


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTCONN, errno.EINVAL])
async def test_what_the_kernel_refuses_is_no_error_of_the_writer(side: Side, number: int) -> None:
    side.kernel.error = OSError(number, "x")
    side.keep((FOLDER, b"a"))
    await side.cache.invalidate([], [(FOLDER, b"a")])


async def test_what_could_not_be_told_is_told_again_and_waited_for(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invalidate, "_RETRY_S", 0)
    side.keep((FOLDER, b"a"))
    side.kernel.faults = [MemoryError(), RuntimeError("can't start new thread")]
    await side.cache.invalidate([], [(FOLDER, b"a")])
    assert side.kernel.told == [(FOLDER, b"a")]


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
    side.keep((FOLDER, b"b"))
    await side.cache.invalidate([], [(FOLDER, b"b")])
    assert side.kernel.told == [(FOLDER, b"a")]


async def test_a_call_that_hangs_is_left_behind_at_the_end(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invalidate, "INVALIDATE_WAIT_S", 0.05)
    side.kernel.free.clear()
    side.cache.queue(names=[(FOLDER, b"a")])
    await trio.testing.wait_all_tasks_blocked()
    assert not await side.cache.close()
