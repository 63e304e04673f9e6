"""Calls to places: each in a thread of the place, and what it means that one fails or does not come back.

An error is the place's own. Silence need not be: where more than m places do not answer, or all that were asked, it is
the machine, and nobody is blamed; whoever asked waits, and goes on when they answer.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from typing import TypeVar, TypeVarTuple

import structlog
import trio

from stratumfs.catalog.deadlines import Stalled, call_within, comes_within, until_fed
from stratumfs.catalog.progress import Progress, Step
from stratumfs.errors import DeviceFull, StoreFull, StratumError, is_full, is_starved
from stratumfs.ids import PlaceId
from stratumfs.limits import STRIKE_S

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Failures = Mapping[PlaceId, Exception]

_log = structlog.get_logger(__name__)


class Calls:
    """Short calls run one after the other at a place. One that does not come back keeps its thread and its place's
    turn, and nobody waits for it beyond the deadline but where it is the machine.

    Long work, whose time depends on the catalog's size, has a turn of its own at each place, and no deadline: it stalls
    when it has done nothing for as long.

    m    places that may fail at once
    """

    def __init__(self, places: Collection[PlaceId], m: int) -> None:
        self._m = m
        self._short: dict[PlaceId, trio.CapacityLimiter] = {}
        self._long: dict[PlaceId, trio.CapacityLimiter] = {}
        for place in places:
            self.renew(place)

    def renew(self, place: PlaceId) -> None:
        """Nobody waits at this place any more for what was called before."""
        self._short[place], self._long[place] = trio.CapacityLimiter(1), trio.CapacityLimiter(1)

    async def short(self, place: PlaceId, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """*fn* in a thread of *place*; whoever calls it has the deadline."""
        return await trio.to_thread.run_sync(fn, *args, abandon_on_cancel=True, limiter=self._short[place])

    async def alone(self, place: PlaceId, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """As `short`. Raises: Stalled at the deadline."""
        return await call_within(STRIKE_S, self._short[place], fn, *args)

    async def long(self, place: PlaceId, fn: Callable[[Step], T], *, stalled: Callable[[], None] | None = None) -> T:
        """*fn* in a thread of *place*, which calls what it is given after each step, and is stopped there if nobody
        waits any more.

        *stalled* is called when it has done nothing for the deadline; it is waited for further then.
        Raises: Stalled, without *stalled*.
        """
        progress = Progress()
        found: list[T | OSError | StratumError] = []
        done = trio.Event()

        async def run() -> None:
            call = partial(fn, progress.step)
            try:
                found.append(await trio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=self._long[place]))
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
        self, places: Collection[PlaceId], call: Callable[[PlaceId], Awaitable[None]], *, patient: bool = True
    ) -> dict[PlaceId, Exception]:
        """*call* for each of *places*, side by side. Returns those that failed, or stalled while others did not.

        It may be made again: see `until_fed`.
        Not *patient*: whoever stalls is left alone at the deadline, and is not among them.
        """
        failed: dict[PlaceId, Exception] = {}
        pending = set(places)
        may_stall = min(self._m, len(pending) - 1)
        answered = trio.Event()
        starving: set[object] = set()

        async def one(place: PlaceId) -> None:
            try:
                await until_fed(partial(call, place), place, starving)
            except (OSError, StratumError) as error:
                failed[place] = error
            pending.discard(place)
            answered.set()

        async with trio.open_nursery() as nursery:
            for place in tuple(pending):
                nursery.start_soon(one, place)
            while pending:
                # From the last answer on: where the machine stood still, not all come back in the same moment.
                if await comes_within(answered, STRIKE_S):
                    answered = trio.Event()
                elif (len(pending) <= may_stall and not starving) or not patient:
                    failed |= dict.fromkeys(pending, Stalled(STRIKE_S)) if patient else {}
                    nursery.cancel_scope.cancel()
                    break
                else:
                    _log.warning("places that hold the catalog do not answer: writes wait", places=len(pending))
        return failed


def is_blameless(error: Exception) -> bool:
    """A full place has not failed; that its identity file is behind does no harm where more than half are not. Nor has
    one that this process had no descriptor to ask."""
    if isinstance(error, DeviceFull | StoreFull) or is_starved(error):
        return True
    return isinstance(error, OSError) and is_full(error)


def blamed(failed: Failures) -> dict[PlaceId, Exception]:
    return {place: error for place, error in failed.items() if not is_blameless(error)}
