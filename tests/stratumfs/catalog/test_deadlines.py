"""Deadlines of a process that may stand still."""

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.catalog.deadlines import comes_within
from stratumfs.limits import DEVICE_LOOK_S, DEVICE_STANDSTILL_S

_HANG_S = DEVICE_STANDSTILL_S / 2


@pytest.mark.parametrize(
    ("jumps", "over"),
    [
        ([DEVICE_LOOK_S] * 9, False),
        ([DEVICE_LOOK_S] * 10, True),
        ([*[DEVICE_LOOK_S] * 9, _HANG_S], False),
        ([*[DEVICE_LOOK_S] * 9, _HANG_S, DEVICE_LOOK_S], True),
        ([*[DEVICE_LOOK_S] * 5, DEVICE_STANDSTILL_S * 100, *[DEVICE_LOOK_S] * 9], False),
        ([*[DEVICE_LOOK_S] * 5, DEVICE_STANDSTILL_S * 100, *[DEVICE_LOOK_S] * 10], True),
    ],
)
async def test_a_deadline_is_over_after_a_look_in_time_and_anew_after_a_standstill(
    mock_clock: MockClock, jumps: Sequence[float], over: bool
) -> None:
    done = trio.Event()
    came: list[bool] = []

    async def wait() -> None:
        came.append(await comes_within(done, DEVICE_LOOK_S * 10))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        for jump in jumps:
            mock_clock.jump(jump)
            await wait_all_tasks_blocked()
        assert came == ([False] if over else [])
        done.set()
    assert came == [not over]
