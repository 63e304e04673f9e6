"""How background work leaves the devices to the doors.

As garage's ``util/tranquilizer.rs`` does: each step is followed by a rest that is a multiple of the time that it took.
Where the doors are busy a step takes longer, and so does the rest behind it: nobody needs to know how fast anything is.
"""

from collections.abc import Callable

import trio

from stratumfs.limits import PACE_REST_ALONE, PACE_REST_BUSY, PACE_REST_S_MAX
from stratumfs.store.observer import Foreground


class Pace:
    """Awaited behind each step of a repack. Used by one task.

    told   of the bytes moved so far
    hurry  it rests no longer where somebody is there, for he needs what it does
    alone  times as long as a step it rests where nobody is; 0: somebody waits for what it does
    """

    def __init__(
        self,
        foreground: Foreground,
        told: Callable[[int], None],
        *,
        hurry: bool = False,
        alone: float = PACE_REST_ALONE,
    ) -> None:
        self._foreground, self._told, self._hurry, self._alone = foreground, told, hurry, alone
        self._seen = foreground.accesses

    def is_alone(self) -> bool:
        """Nobody came since the last step began."""
        return self._seen == self._foreground.accesses

    async def __call__(self, seconds: float, moved: int) -> None:
        """*seconds*: that the step took. Somebody who came since the last one makes the rest a long one."""
        self._told(moved)
        seen, self._seen = self._seen, self._foreground.accesses
        rest = self._alone if self._hurry or seen == self._seen else PACE_REST_BUSY
        await trio.sleep(min(rest * seconds, PACE_REST_S_MAX))
