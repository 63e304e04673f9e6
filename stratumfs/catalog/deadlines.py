"""Deadlines that count only the time in which this process ran.

trio ends a wait whose time is over before it hands over what threads have brought meanwhile: after the loop, or the
whole process, has stood still, everybody would seem not to have answered.
"""

import errno
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar, TypeVarTuple

import structlog
import trio

from stratumfs.errors import StratumError, is_starved
from stratumfs.limits import DEVICE_LOOK_S, DEVICE_STANDSTILL_S, STARVED_S
from stratumfs.threads import in_thread

_log = structlog.get_logger(__name__)

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Stalled(TimeoutError):
    """A place has not answered by the deadline. Of one that was asked alone it says nothing."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(errno.ETIMEDOUT, f"no answer within {limit_s:.0f} s")


async def comes_within(done: trio.Event, limit_s: float) -> bool:
    """Wait for *done*, but no longer than *limit_s* since the process stood still last. Returns whether it came.

    A look that comes late, if only by its own length, may have come before what it looks for: it does not count.
    """
    left_s = limit_s
    while left_s > 0 and not done.is_set():
        step_s = min(left_s, DEVICE_LOOK_S)
        with trio.move_on_after(step_s) as scope:
            await done.wait()
        late_s = trio.current_time() - scope.deadline
        if late_s > DEVICE_STANDSTILL_S:
            left_s = limit_s
        elif late_s < DEVICE_LOOK_S:
            left_s -= step_s
    return done.is_set()


async def call_within(limit_s: float, limiter: trio.CapacityLimiter, fn: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run *fn* in a thread, which is left to itself if it does not come back. Raises: as `within`."""
    return await within(limit_s, partial(in_thread, fn, *args, abandon_on_cancel=True, limiter=limiter))


async def within(limit_s: float, call: Callable[[], Awaitable[T]]) -> T:
    """Raises: what *call* raises; Stalled if it does not come back, then it was cancelled."""

    async def late() -> None:
        raise Stalled(limit_s)

    return await patiently(limit_s, call, late)


async def patiently(limit_s: float, call: Callable[[], Awaitable[T]], late: Callable[[], Awaitable[None]]) -> T:
    """What *call* returns. Each time that it is not back within the limit *late* is awaited, and decides by returning
    that it is waited for further.

    Raises: what *call* raises; what *late* raises, then the call was cancelled.
    """
    done = trio.Event()
    results: list[T] = []
    errors: list[Exception] = []

    async def run() -> None:
        try:
            results.append(await call())
        except Exception as error:
            errors.append(error)
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        while not await comes_within(done, limit_s):
            try:
                await late()
            except Exception as error:
                errors.append(error)
                nursery.cancel_scope.cancel()
                break
    if results:
        return results[0]
    raise errors[0]


async def until_fed(call: Callable[[], Awaitable[T]], key: object, starving: set[object]) -> T:
    """*call*, again and again while this process has no file descriptor or thread for it; *key* is among *starving*
    meanwhile.

    Nobody is to be blamed for that, and nobody for being late as long as there are such. Raises: what *call* raises.
    """
    try:
        while True:
            try:
                return await call()
            except (OSError, StratumError) as error:
                if not is_starved(error):
                    raise
                if key not in starving:
                    _log.warning("the catalog waits for file descriptors or threads", reason=str(error))
                starving.add(key)
            await trio.sleep(STARVED_S)
    finally:
        starving.discard(key)
