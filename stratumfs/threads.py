"""Threads, and the want of them.

Where the system has no thread left for this process (a limit of tasks, or of memory) that is nobody's fault but the
process's own: it is told as the want of a file descriptor is, by DeviceUnasked, for which no device is struck, and what
was to be done there can be asked for again.
"""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import outcome
import trio

from stratumfs.errors import DeviceUnasked

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_WANT = "can't start new thread"
"""CPython's words; it has no class for it."""


async def in_thread(
    fn: Callable[[*Ts], T],
    *args: *Ts,
    limiter: trio.CapacityLimiter | None = None,
    abandon_on_cancel: bool = False,
) -> T:
    """As ``trio.to_thread.run_sync``. Raises: DeviceUnasked if there is no thread for it; nothing was done then."""
    entered = False

    def enter() -> T:
        nonlocal entered
        entered = True
        return fn(*args)

    try:
        return await trio.to_thread.run_sync(enter, limiter=limiter, abandon_on_cancel=abandon_on_cancel)
    except RuntimeError as error:
        if entered or _WANT not in str(error):  # in the thread something may have been done before it was raised
            raise
        raise DeviceUnasked("there is no thread for it") from error


def start_thread(call: Callable[[], T], deliver: Callable[[outcome.Outcome[T]], object]) -> None:
    """As ``trio.lowlevel.start_thread_soon``; where there is no thread, DeviceUnasked is delivered, here and at once.

    So of several calls that belong together each has an outcome, and nobody has to undo those that have begun.
    """
    try:
        trio.lowlevel.start_thread_soon(call, deliver)
    except RuntimeError as error:
        if _WANT not in str(error):
            raise
        deliver(outcome.Error(DeviceUnasked("there is no thread for it")))
