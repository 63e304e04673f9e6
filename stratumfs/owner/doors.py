"""The doors of a living owner: which are open, how one is opened and closed, when none is left.

A door is a task in the owner's nursery, a mount or a gateway, that serves until its ``stop`` event is set or it ends by
itself (somebody called umount(8)). A door that fails closes; the others and the store go on. The owner ends with its
last door; a *lease* holds it as long as a request that may open one is under way.

Owned by the owner's main task and the control connections, all on one loop; nothing here is touched by a thread.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import count
from typing import Any, Protocol

import structlog
import trio

from stratumfs.errors import ConfigError, NotFound, StoreClosing
from stratumfs.owner.blame import cause_of, is_expected

DOORS_MAX = 16
_log = structlog.get_logger(__name__)


class Kind(StrEnum):
    MOUNT = "mount"
    GATEWAY = "gateway"


class State(StrEnum):
    OPEN = "open"
    CLOSING = "closing"


class Opened(Protocol):
    """What a door hands back when it answers."""

    @property
    def where(self) -> tuple[str, ...]:
        """A mount point, or the addresses that a gateway listens on."""
        ...

    def pending(self) -> str:
        """What is not on stable storage yet, in words; empty if nothing."""
        ...

    def details(self) -> dict[str, Any]:
        """For ``status``."""
        ...


Ready = Callable[[Opened], None]
"""A door calls it once, when it answers."""
Serve = Callable[[trio.Event, Ready], Awaitable[None]]
"""Serves until the event is set or the door ends by itself. What it raises before it is ready is its opener's."""


@dataclass(slots=True, eq=False)
class Door:
    """One open door. *beside* is closed with it."""

    number: int
    kind: Kind
    opened: Opened
    stop: trio.Event
    since_s: float
    state: State = State.OPEN
    beside: "Door | None" = None
    failure: str = ""
    closed: trio.Event = field(default_factory=trio.Event)

    @property
    def where(self) -> str:
        """For messages."""
        return ", ".join(self.opened.where)

    def summary(self) -> dict[str, Any]:
        return {
            "kind": str(self.kind),
            "where": list(self.opened.where),
            "state": str(self.state),
            "since": self.since_s,
            **self.opened.details(),
        }


class Doors:
    """All doors of one owner."""

    def __init__(self, nursery: trio.Nursery, now_s: Callable[[], float]) -> None:
        self._nursery = nursery
        self._now_s = now_s
        self._numbers = count(1)
        self._open: dict[int, Door] = {}
        self._leases = 0
        self._refusing = False
        self._idle = trio.Event()

    def __iter__(self) -> Iterator[Door]:
        return iter(list(self._open.values()))

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[None]:
        """Keep the owner alive for the length of a request. Raises: StoreClosing once the owner is ending."""
        self._check_accepting()
        self._leases += 1
        try:
            yield
        finally:
            self._leases -= 1
            self._settle()

    async def open(self, kind: Kind, serve: Serve) -> Door:
        """Start a door and wait until it answers. Raises: what it raised until then; StoreClosing; ConfigError."""
        self._check_accepting()
        if len(self._open) >= DOORS_MAX:
            raise ConfigError(f"{DOORS_MAX} doors are open, and one store has no more: close one first")
        stop = trio.Event()
        async with self.lease():
            door: Door = await self._nursery.start(self._run, kind, serve, stop)
            return door

    def find(self, where: str) -> Door:
        """The door at a mount point or address. Raises: NotFound."""
        for door in self._open.values():
            if where in door.opened.where:
                return door
        raise NotFound(f"no door of this store is open at {where}")

    async def close(self, door: Door) -> None:
        """Ask a door to close and wait until what it took is safe; again for one that is closing is harmless."""
        door.state = State.CLOSING
        door.stop.set()
        await door.closed.wait()

    async def close_all(self) -> None:
        """Refuse new doors, then close those that are open: mounts first, for a gateway may serve while they drain."""
        self._refusing = True
        for kind in Kind:
            async with trio.open_nursery() as nursery:
                for door in self._open.values():
                    if door.kind is kind:
                        nursery.start_soon(self.close, door)

    @property
    def idle(self) -> bool:
        """True once the last door is closed: from then on the owner is ending."""
        return self._idle.is_set()

    async def wait_idle(self) -> None:
        """Return when no door is open and no request is under way that could open one. From then on none is."""
        await self._idle.wait()

    def _check_accepting(self) -> None:
        if self._refusing:
            raise StoreClosing("the owner of the store is ending")

    def _settle(self) -> None:
        if not self._open and not self._leases:
            self._refusing = True
            self._idle.set()

    async def _run(self, kind: Kind, serve: Serve, stop: trio.Event, *, task_status: "trio.TaskStatus[Door]") -> None:
        """The door's task: its life from the first call to the last."""
        door: Door | None = None

        def ready(opened: Opened) -> None:
            nonlocal door
            door = Door(next(self._numbers), kind, opened, stop, self._now_s())
            self._open[door.number] = door
            _log.info("door_opened", kind=str(kind), where=door.where)
            task_status.started(door)

        try:
            await serve(stop, ready)
        except Exception as error:
            cause = cause_of(error)
            if door is None:
                if cause is error:
                    raise
                raise cause from error
            # The door alone fails; whoever waits for it learns the reason from it.
            door.failure = str(cause) or type(cause).__name__
            trace = None if is_expected(cause) else error
            _log.error("door_failed", kind=str(kind), where=door.where, error=door.failure, exc_info=trace)
        finally:
            if door is not None:
                await self._forget(door)

    async def _forget(self, door: Door) -> None:
        door.state = State.CLOSING
        if door.beside is not None:
            with trio.CancelScope(shield=True):
                await self.close(door.beside)
        del self._open[door.number]
        door.closed.set()
        _log.info("door_closed", kind=str(door.kind), where=door.where, failure=door.failure)
        self._settle()
