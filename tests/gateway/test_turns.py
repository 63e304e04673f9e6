"""Bodies that are on their way at once: so many, in the order in which they came."""

import pytest
import trio
import trio.testing

from gateway.errors import S3Error
from gateway.limits import RECEIVE_MAX, TURN_WAIT_S
from gateway.turns import Turns

LARGE = RECEIVE_MAX + 1


async def test_who_came_first_goes_first() -> None:
    turns, went, leave = Turns(2), [], [trio.Event() for _ in range(4)]

    async def go(number: int) -> None:
        async with turns.turn(LARGE):
            went.append(number)
            await leave[number].wait()

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(go, number)
            await trio.testing.wait_all_tasks_blocked()
        assert went == [0, 1]
        for number, others in ((1, [0, 1, 2]), (0, [0, 1, 2, 3])):
            leave[number].set()
            await trio.testing.wait_all_tasks_blocked()
            assert went == others
        for event in leave:
            event.set()


async def test_who_waits_too_long_is_asked_to_come_again(autojump_clock: trio.testing.MockClock) -> None:
    turns = Turns(1)
    async with turns.turn(LARGE):
        began = trio.current_time()
        for seconds in (TURN_WAIT_S, 1.0):
            with pytest.raises(S3Error) if seconds == TURN_WAIT_S else trio.move_on_after(seconds):
                async with turns.turn(LARGE):
                    raise AssertionError("there is one turn")
        assert trio.current_time() - began == pytest.approx(TURN_WAIT_S + 1.0)
    async with turns.turn(LARGE):  # neither of them has kept one
        pass


async def test_small_bodies_need_no_turn() -> None:
    turns = Turns(1)
    async with turns.turn(LARGE), turns.turn(RECEIVE_MAX), turns.turn(0):
        assert turns.waiting == 0


async def test_a_turn_ends_with_whatever_ended_it() -> None:
    turns = Turns(1)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            async with turns.turn(LARGE):
                raise ZeroDivisionError
