"""Background work rests in proportion to its own steps."""

import trio
from trio.testing import MockClock

from stratumfs.ids import InodeNo
from stratumfs.limits import PACE_REST_ALONE, PACE_REST_BUSY, PACE_REST_S_MAX
from stratumfs.store.observer import Foreground, NullObserver
from stratumfs.store.pace import Pace


async def rest(pace: Pace, seconds: float, moved: int = 0) -> float:
    began = trio.current_time()
    await pace(seconds, moved)
    return trio.current_time() - began


async def test_it_rests_longer_where_somebody_is_there(autojump_clock: MockClock) -> None:
    foreground, told = Foreground(NullObserver()), []
    pace = Pace(foreground, told.append)
    assert await rest(pace, 2.0, 7) == 2.0 * PACE_REST_ALONE
    foreground.read(InodeNo(5), 1, 0)
    assert await rest(pace, 2.0, 8) == 2.0 * PACE_REST_BUSY
    assert await rest(pace, 2.0, 9) == 2.0 * PACE_REST_ALONE
    foreground.wrote(InodeNo(5), 1)
    assert await rest(pace, 1000.0, 10) == PACE_REST_S_MAX
    assert told == [7, 8, 9, 10]
    hurried = Pace(foreground, told.append, hurry=True)
    foreground.wrote(InodeNo(5), 1)
    assert await rest(hurried, 2.0) == 2.0 * PACE_REST_ALONE
    waited_for = Pace(foreground, told.append, alone=0.0)
    assert await rest(waited_for, 2.0) == 0.0
    foreground.read(InodeNo(5), 1, 0)
    assert await rest(waited_for, 2.0) == 2.0 * PACE_REST_BUSY
