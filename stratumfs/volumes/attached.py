"""A device as volumes see it: its shards, the threads that may be busy on it, and whether it may be written to."""

import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar, TypeVarTuple

import trio

from stratumfs.errors import DeviceError, DeviceFailed
from stratumfs.ids import DeviceId, VolumeId
from stratumfs.latency import Latencies
from stratumfs.limits import DEVICE_THREADS
from stratumfs.shards.backend import ShardBackend
from stratumfs.threads import in_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


def _limiter() -> trio.CapacityLimiter:
    return trio.CapacityLimiter(DEVICE_THREADS)


def _plenty() -> int:
    return 1 << 62


@dataclass(slots=True, eq=False)
class AttachedDevice:
    """One device that is there. Made by the owner, used on its loop only; one object a device, shared by all users.

    label    how messages name it: its path
    disk     equal for devices that fail together (``st_dev``)
    total, free
             bytes of its file system, and those that are free (blocking: called in a thread)
    tier     what it belongs to
    readers, writers
             bound the threads on this device, so that its stall stops nobody else; two limiters, so that reads that
             hang leave room for the sync that finds out that the device has failed
    clock    seconds, of any beginning; asked in threads
    struck   why nothing is written to it any more
    doubtful it erred lately: it is read last
    answered when a call that writes last came back, with an error or without
    seconds  that its calls took, by ``read`` and ``write``; what waits for a thread is not in it
    """

    id: DeviceId
    label: str
    shards: ShardBackend
    disk: Hashable = None
    total: Callable[[], int] = _plenty
    free: Callable[[], int] = _plenty
    tier: str = "hot"
    readers: trio.CapacityLimiter = field(default_factory=_limiter)
    writers: trio.CapacityLimiter = field(default_factory=_limiter)
    clock: Callable[[], float] = time.monotonic
    struck: DeviceError | None = None
    doubtful: bool = False
    answered: float = float("-inf")
    seconds: Latencies = field(default_factory=lambda: Latencies("call"))
    # The two things that threads change beside it: when each call began that has not come back.
    _reading_since: dict[object, float] = field(default_factory=dict)
    _writing_since: dict[object, float] = field(default_factory=dict)
    _waiting: set[trio.CancelScope] = field(default_factory=set)

    def expect(self, volume: VolumeId, spans: Sequence[tuple[int, int]]) -> None:
        """See `Source`. The kernel reads ahead by itself."""

    @property
    def recalled(self) -> None:
        """See `Source`."""

    async def write(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """*fn* in a thread of this device; not abandoned by cancellation, for it has effects.

        Raises: DeviceFailed once the device is struck: the waiter goes on, the thread keeps its slot, its file and its
        buffers until it returns.
        """
        with self.giving_up() as scope:
            return await in_thread(self.timed, fn, *args, limiter=self.writers, abandon_on_cancel=True)
        assert scope.cancelled_caught
        raise DeviceFailed(f"device {self.label} was given up: {self.struck}", self.label)

    @contextmanager
    def giving_up(self) -> Iterator[trio.CancelScope]:
        """A block that is left when the device is struck, and by no other cancellation."""
        with trio.CancelScope(shield=True) as scope:
            self._waiting.add(scope)
            if self.struck is not None:
                scope.cancel()
            try:
                yield scope
            finally:
                self._waiting.discard(scope)

    def timed(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """*fn*, one call that writes to this device; in a thread."""
        token = object()
        self._writing_since[token] = began = self.clock()
        try:
            return fn(*args)
        finally:
            self.answered = self.clock()
            del self._writing_since[token]
            self.seconds.observe("write", self.answered - began)

    async def read(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """*fn* in a thread of this device; a cancelled waiter goes on, the thread keeps its slot until it returns."""
        return await in_thread(self.reading, fn, *args, abandon_on_cancel=True, limiter=self.readers)

    def reading(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """*fn*, one call that reads from this device; in a thread."""
        token = object()
        self._reading_since[token] = began = self.clock()
        try:
            return fn(*args)
        finally:
            del self._reading_since[token]
            self.seconds.observe("read", self.clock() - began)

    def strike(self, error: DeviceError) -> None:
        """Nothing is written to it from now on; who waits for it goes on, by DeviceFailed. The first reason stays."""
        if self.struck is None:
            self.struck = error
            for scope in tuple(self._waiting):
                scope.cancel()

    @property
    def in_doubt(self) -> bool:
        """Others are read first."""
        return self.doubtful or self.struck is not None

    def writing_since(self) -> float | None:
        """When the oldest call that writes began which has not come back."""
        return min(list(self._writing_since.values()), default=None)

    def stalled(self, after_s: float) -> bool:
        """Whether some read has been in the kernel's hands for longer than *after_s*: others are asked first then."""
        oldest = min(list(self._reading_since.values()), default=None)
        return oldest is not None and self.clock() - oldest > after_s
