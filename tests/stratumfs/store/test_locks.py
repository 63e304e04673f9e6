"""Locks of inodes: one holder at a time, and none is left behind."""

import trio
from trio.testing import wait_all_tasks_blocked

from stratumfs.ids import InodeNo
from stratumfs.store.locks import InodeLocks


async def test_one_inode_is_changed_by_one_at_a_time_and_another_beside() -> None:
    locks, held = InodeLocks(), list[int]()

    async def change(ino: InodeNo) -> None:
        async with locks.holding(ino):
            held.append(ino)

    async with trio.open_nursery() as nursery, locks.holding(InodeNo(5)):
        nursery.start_soon(change, InodeNo(5))
        nursery.start_soon(change, InodeNo(6))
        await wait_all_tasks_blocked()
        assert held == [6]
    assert held == [6, 5]
    assert not locks._locks


async def test_a_waiter_that_is_cancelled_leaves_the_lock_to_its_holder() -> None:
    locks = InodeLocks()

    async def change() -> None:
        async with locks.holding(InodeNo(5)):
            raise AssertionError("two hold it")

    async with locks.holding(InodeNo(5)):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert list(locks._locks) == [5]
    assert not locks._locks
