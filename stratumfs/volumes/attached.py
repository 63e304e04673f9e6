"""A device as volumes see it: its shards, and the threads that may be busy on it."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TypeVar, TypeVarTuple

import trio

from stratumfs.ids import DeviceId
from stratumfs.limits import DEVICE_THREADS
from stratumfs.shards.backend import ShardBackend

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def _limiter() -> trio.CapacityLimiter:
    return trio.CapacityLimiter(DEVICE_THREADS)


def _plenty() -> int:
    return 1 << 62


@dataclass(slots=True, eq=False)
class AttachedDevice:
    """One device that is up. Made by the owner, used on its loop only; one object a device, shared by all users.

    label    how messages name it: its path
    disk     equal for devices that fail together (``st_dev``)
    total, free
             bytes of its file system, and those that are free (blocking: called in a thread)
    readers, writers
             bound the threads on this device, so that its stall stops nobody else; two limiters, so that reads that
             hang leave room for the sync that finds out that the device has failed
    """

    id: DeviceId
    label: str
    shards: ShardBackend
    disk: Hashable = None
    total: Callable[[], int] = _plenty
    free: Callable[[], int] = _plenty
    readers: trio.CapacityLimiter = field(default_factory=_limiter)
    writers: trio.CapacityLimiter = field(default_factory=_limiter)
    _reading_since: dict[object, float] = field(default_factory=dict)  # the one thing that threads change

    async def write(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """*fn* in a thread of this device; not abandoned by cancellation, for it has effects."""
        return await trio.to_thread.run_sync(fn, *args, limiter=self.writers)

    async def read(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """*fn* in a thread of this device; a cancelled waiter goes on, the thread keeps its slot until it returns."""

        def timed() -> T:
            token = object()
            self._reading_since[token] = time.monotonic()
            try:
                return fn(*args)
            finally:
                del self._reading_since[token]

        return await trio.to_thread.run_sync(timed, abandon_on_cancel=True, limiter=self.readers)

    def stalled(self, after_s: float) -> bool:
        """Whether some read has been in the kernel's hands for longer than *after_s*: others are asked first then."""
        oldest = min(list(self._reading_since.values()), default=None)
        return oldest is not None and time.monotonic() - oldest > after_s
