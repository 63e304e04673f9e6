"""Calls side by side of which the loop hears once, or of each."""

import threading
from collections.abc import Iterator

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.catalog.calls import Calls
from stratumfs.catalog.deadlines import Stalled
from stratumfs.catalog.durability import Mark
from stratumfs.catalog.together import Together
from stratumfs.errors import DeviceFailed
from stratumfs.ids import PlaceId
from stratumfs.limits import STRIKE_S
from tests.stratumfs.catalog.somewhere import pass_s, place_id, until

_MARK = Mark(1, 2, 3)


class Held:
    """A member whose calls, in order, return or raise *answers*; behind *gate*."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.calls = 0
        self.gate = threading.Event()
        self.gate.set()

    def hold(self, mark: Mark) -> bool:
        self.calls += 1
        assert self.gate.wait(60)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def slow() -> Iterator[Held]:
    """One that does not answer before the end of the test, if not before."""
    member = Held(False)
    member.gate.clear()
    yield member
    member.gate.set()


def _asked(*members: Held) -> dict[PlaceId, Held]:
    return {place_id(number): member for number, member in enumerate(members)}


async def test_the_loop_hears_once_of_all_and_their_turns_are_free_then() -> None:
    turns = {name: trio.CapacityLimiter(1) for name in "abc"}
    together = Together(dict.fromkeys(turns, bool), turns)
    first = together.changed
    with pytest.raises(trio.WouldBlock):
        turns["a"].acquire_on_behalf_of_nowait("another")
    await first.wait()
    assert together.done() == set("abc")
    assert not any(turn.borrowed_tokens for turn in turns.values())
    await wait_all_tasks_blocked()
    assert not together.changed.is_set()


async def test_one_is_heard_of_while_another_is_away_which_keeps_its_turn(slow: Held) -> None:
    turns = {name: trio.CapacityLimiter(1) for name in ("fast", "slow")}
    calls = {"fast": lambda: True, "slow": lambda: slow.hold(_MARK)}
    together = Together(calls, turns)
    await until(lambda: "fast" in together._back)
    assert turns["fast"].borrowed_tokens
    together.hear_of_each()
    assert await together.wait("fast")
    assert [turn.borrowed_tokens for turn in turns.values()] == [0, 1]
    slow.gate.set()
    assert not await together.wait("slow")
    assert not turns["slow"].borrowed_tokens
    assert together.done() == {"slow"}  # the fast one wants to be called again


async def test_all_pieces_are_asked_for_and_none_twice() -> None:
    members = _asked(Held(False), Held(True, True, False), Held(True, False))
    assert await Calls(1, lambda: 9, {}).hold_each(members, _MARK) == {}
    assert [member.calls for member in members.values()] == [1, 3, 2]


async def test_one_that_failed_is_not_asked_again() -> None:
    members = _asked(Held(False), Held(OSError(5, "Input/output error"), False))
    failed = await Calls(1, lambda: 9, {}).hold_each(members, _MARK)
    assert failed.keys() == {place_id(1)}
    assert members[place_id(1)].calls == 1


async def test_a_strike_ends_the_wait_for_its_place_at_once(slow: Held) -> None:
    calls, found = Calls(1, lambda: 9, {}), dict[PlaceId, Exception]()

    async def hold() -> None:
        found.update(await calls.hold_each(_asked(Held(False), slow), _MARK))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        await until(lambda: slow.calls == 1)
        calls.strike(place_id(1), "EIO")
    assert isinstance(found[place_id(1)], DeviceFailed)


async def test_a_silent_one_is_blamed_at_the_deadline_that_begins_when_the_others_answer(
    slow: Held, mock_clock: MockClock
) -> None:
    members, found = _asked(Held(False), Held(False), slow), dict[PlaceId, Exception]()

    async def hold() -> None:
        found.update(await Calls(1, lambda: 9, {}).hold_each(members, _MARK))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        await until(lambda: all(member.calls for member in members.values()))
        await pass_s(mock_clock, STRIKE_S - 1)
        assert not found
        await pass_s(mock_clock, 1)
    assert {place: type(error) for place, error in found.items()} == {place_id(2): Stalled}


async def test_one_that_is_still_away_is_waited_for_before_it_is_asked_again(slow: Held) -> None:
    calls, members = Calls(1, lambda: 9, {}), _asked(slow)
    slow.answers.append(False)
    with trio.move_on_after(0):
        await calls.hold_each(members, _MARK)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(calls.hold_each, members, _MARK)
        await until(lambda: slow.calls == 1)
        assert slow.calls == 1
        slow.gate.set()
    assert slow.calls == 2
