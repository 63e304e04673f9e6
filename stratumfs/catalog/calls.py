"""Calls to places: each in a thread of the place, and what it means that one fails or does not come back.

An error is the place's own. Silence need not be: where more than m places do not answer, or all that were asked, or so
many that nothing could be written without them, it is the machine, and nobody is blamed; whoever asked waits, and goes
on when they answer, or when one is struck for what it does elsewhere.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

import structlog
import trio

from stratumfs.catalog.chains import ChainDamaged
from stratumfs.catalog.deadlines import Stalled, comes_within, until_fed, within
from stratumfs.catalog.durability import Mark, Member
from stratumfs.catalog.progress import Progress, Step
from stratumfs.errors import DeviceFailed, DeviceFull, StoreFull, StratumError, is_full, is_starved
from stratumfs.ids import PlaceId
from stratumfs.limits import STRIKE_S

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Failures = Mapping[PlaceId, Exception]

_log = structlog.get_logger(__name__)


class Calls:
    """Short calls run one after the other at a place, and so do those of one member. One that does not come back keeps
    its thread and that turn for as long as it is away, for it may still write; nobody waits for it beyond the deadline
    but where it is the machine.

    Long work, whose time depends on the catalog's size, has a turn of its own at each place, and no deadline: it stalls
    when it has done nothing for as long.

    m         places that may be silent at once
    to_spare  how many places, as of now, are not needed for anything to be written
    """

    def __init__(self, m: int, to_spare: Callable[[], int]) -> None:
        self._m, self._to_spare = m, to_spare
        self._short: dict[PlaceId, trio.CapacityLimiter] = {}
        self._long: dict[PlaceId, trio.CapacityLimiter] = {}
        self._holds: WeakKeyDictionary[Member, trio.CapacityLimiter] = WeakKeyDictionary()
        self._struck: dict[PlaceId, str] = {}
        self._waits: dict[PlaceId, set[trio.CancelScope]] = {}
        self.silent: set[PlaceId] = set()
        """Places that writes wait for longer than they should."""

    def strike(self, place: PlaceId, reason: str) -> None:
        """Whoever waits for this place has an error now, and so has who asks it later."""
        self._struck[place] = reason
        for scope in self._waits.get(place, ()):
            scope.cancel()

    def welcome(self, place: PlaceId) -> None:
        """It can be asked again. Long work of before makes what nobody names, so it keeps nobody waiting."""
        self._struck.pop(place, None)
        self._long.pop(place, None)

    async def short(self, place: PlaceId, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """*fn* in a thread of *place*; whoever calls it has the deadline. Raises: DeviceFailed if it is struck."""
        return await self._call(place, self._short.setdefault(place, trio.CapacityLimiter(1)), fn, *args)

    async def hold(self, place: PlaceId, member: Member, mark: Mark) -> bool:
        """See `Member.hold`; as `short`, in a turn of *member*."""
        return await self._call(place, self._holds.setdefault(member, trio.CapacityLimiter(1)), member.hold, mark)

    async def hold_alone(self, place: PlaceId, member: Member, mark: Mark) -> None:
        """As `hold`, all of it. Raises: also Stalled, if it has done nothing for the deadline."""
        while await within(STRIKE_S, partial(self.hold, place, member, mark)):
            pass

    async def _call(self, place: PlaceId, limiter: trio.CapacityLimiter, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        waits = self._waits.setdefault(place, set())
        with trio.CancelScope() as scope:
            if place in self._struck:
                scope.cancel()
            waits.add(scope)
            try:
                return await trio.to_thread.run_sync(fn, *args, abandon_on_cancel=True, limiter=limiter)
            finally:
                waits.discard(scope)
        raise DeviceFailed(self._struck[place])

    async def long(self, place: PlaceId, fn: Callable[[Step], T], *, stalled: Callable[[], None] | None = None) -> T:
        """*fn* in a thread of *place*, which calls what it is given after each step, and is stopped there if nobody
        waits any more.

        *stalled* is called when it has done nothing for the deadline; it is waited for further then.
        Raises: Stalled, without *stalled*.
        """
        limiter = self._long.setdefault(place, trio.CapacityLimiter(1))
        progress = Progress()
        found: list[T | OSError | StratumError] = []
        done = trio.Event()

        async def run() -> None:
            try:
                found.append(await self._call(place, limiter, fn, progress.step))
            except (OSError, StratumError) as error:
                found.append(error)
            done.set()

        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                while not done.is_set():
                    steps = progress.steps
                    if not await comes_within(done, STRIKE_S) and progress.steps == steps:
                        if stalled is None:
                            found.append(Stalled(STRIKE_S))
                            nursery.cancel_scope.cancel()
                            break
                        stalled()
        finally:
            progress.give_up()
        if isinstance(found[0], OSError | StratumError):
            raise found[0]
        return found[0]

    async def each(
        self, places: Collection[PlaceId], call: Callable[[PlaceId], Awaitable[bool | None]], *, patient: bool = True
    ) -> dict[PlaceId, Exception]:
        """*call* for each of *places*, side by side, and again as long as it says that there is more of it
        (or as `until_fed` does).

        Returns those that failed, or stalled while others did not. Not *patient*: whoever stalls is left alone at the
        deadline, and is not among them.
        """
        asked = frozenset(places)
        failed: dict[PlaceId, Exception] = {}
        pending = set(asked)
        answered = trio.Event()
        starving: set[object] = set()

        def heard(place: PlaceId) -> None:
            self.silent.discard(place)
            answered.set()

        async def one(place: PlaceId) -> None:
            try:
                while await until_fed(partial(call, place), place, starving):
                    heard(place)
            except (OSError, StratumError) as error:
                failed[place] = error
            pending.discard(place)
            heard(place)

        async with trio.open_nursery() as nursery:
            for place in asked:
                nursery.start_soon(one, place)
            while pending:
                # From the last answer on: where the machine stood still, not all come back in the same moment.
                if await comes_within(answered, STRIKE_S):
                    answered = trio.Event()
                elif not patient or (not starving and len(pending) <= self._may_stall(len(asked), len(failed))):
                    failed |= dict.fromkeys(pending, Stalled(STRIKE_S)) if patient else {}
                    nursery.cancel_scope.cancel()
                    break
                else:
                    _log.warning("places that hold the catalog do not answer: writes wait", places=len(pending))
                    self.silent |= pending
        self.silent -= asked
        return failed

    def _may_stall(self, asked: int, failed: int) -> int:
        return min(self._m, self._to_spare() - failed, asked - 1)


def is_blameless(error: Exception) -> bool:
    """A full place has not failed; that its identity file is behind does no harm where more than half are not. Nor has
    one that this process had no descriptor to ask, or whose copy is damaged: another one can be made there."""
    if isinstance(error, DeviceFull | StoreFull | ChainDamaged) or is_starved(error):
        return True
    return isinstance(error, OSError) and is_full(error)


def blamed(failed: Failures) -> dict[PlaceId, Exception]:
    return {place: error for place, error in failed.items() if not is_blameless(error)}
