"""Turns: free ones cost nothing, taken ones are waited for in order."""

import trio
from trio.testing import wait_all_tasks_blocked

from stratumfs.turn import Turn


async def test_a_free_turn_is_taken_before_anybody_else_runs() -> None:
    turn, others = Turn(), list[str]()

    async def other() -> None:
        others.append("ran")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        async with turn:
            assert not others
            assert turn.locked()
        assert not turn.locked()


async def test_who_waits_gets_it_in_order_and_who_is_cancelled_leaves() -> None:
    turn, got = Turn(), list[int]()

    async def take(number: int) -> None:
        async with turn:
            got.append(number)

    async with trio.open_nursery() as nursery, turn:
        for number in range(3):
            nursery.start_soon(take, number)
            await wait_all_tasks_blocked()
        async with trio.open_nursery() as brief:
            brief.start_soon(take, 9)
            await wait_all_tasks_blocked()
            brief.cancel_scope.cancel()
    assert got == [0, 1, 2]
    assert not turn.locked()
