"""A stripe on its way to stable storage."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from stratumfs.ids import Buffer
from stratumfs.location import Location


class Holder(Protocol):
    """The volume that a stripe was appended to. Appends are counted as they finish: *turn* is one's number."""

    @property
    def given_up(self) -> bool:
        """What it has not synced it never will."""
        ...

    def holds(self, turn: int) -> bool:
        """Whether that append is on stable storage on every shard."""
        ...


def _nobody(_: Location) -> None:
    pass


class PendingStripe:
    """From its payload to stable storage on every shard of a volume. Changed by the writer of volumes alone.

    length    bytes of the payload
    payload   never changed by anybody; kept until it is synced, for until then it may have to be written again
    location  where it lies; None before it is appended. It moves when a device fails: who names it reads it after the
              sync
    placed    told of each location before anything is written there
    """

    __slots__ = ("_appending", "_turn", "_volume", "length", "location", "payload", "placed")

    def __init__(self, payload: Buffer, placed: Callable[[Location], None] = _nobody) -> None:
        self.payload: Buffer | None = payload
        self.length = len(payload)
        self.location: Location | None = None
        self.placed = placed
        self._appending = False
        self._volume: Holder | None = None
        self._turn = 0

    @property
    def at(self) -> Location:
        """Where it lies, once it is appended."""
        assert self.location is not None, "a stripe was named before it was appended"
        return self.location

    @property
    def synced(self) -> bool:
        return self._volume is not None and self._volume.holds(self._turn)

    @property
    def lost(self) -> bool:
        """It is not synced, and never will be where it lies; or it was never written."""
        return not self.synced and (self._volume is None or self._volume.given_up)

    @contextmanager
    def appending(self) -> Iterator[None]:
        """For the time of an append. A second one beside it could leave the stripe where neither makes it safe."""
        assert not self._appending, "an append of this stripe is under way"
        self._appending = True
        try:
            yield
        finally:
            self._appending = False

    def place(self, location: Location) -> None:
        """It is about to be written there."""
        self.location = location
        self.placed(location)

    def appended(self, location: Location, volume: Holder, turn: int) -> None:
        """It is written there, in *volume*, and not synced yet."""
        self.location, self._volume, self._turn = location, volume, turn


def release(stripes: Iterable[PendingStripe]) -> None:
    """Let go of the payloads of those that are synced."""
    for stripe in stripes:
        if stripe.synced:
            stripe.payload = None
