"""Calls to places: each in a thread of the place, and what it means that one fails or does not come back.

An error is the place's own. Silence need not be: where more than m places do not answer, or all that were asked, or so
many that nothing could be written without them, it is the machine, and nobody is blamed; whoever asked waits, and goes
on when they answer, or when one is struck for what it does elsewhere. Who was asked nothing, or had answered before the
machine stalled, is asked by a probe in time.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple
from weakref import WeakKeyDictionary

import structlog
import trio

from stratumfs.catalog.chains import ChainDamaged, probe
from stratumfs.catalog.deadlines import Stalled, comes_within, until_fed, within
from stratumfs.catalog.durability import Mark, Member
from stratumfs.catalog.places import Place
from stratumfs.catalog.progress import Progress, Step
from stratumfs.catalog.together import Together
from stratumfs.errors import DeviceFailed, DeviceFull, StoreFull, StratumError, is_full, is_starved
from stratumfs.ids import PlaceId
from stratumfs.limits import DEVICE_LOOK_S, DEVICE_STANDSTILL_S, STRIKE_S
from stratumfs.threads import in_thread

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
    places    all that there are now
    """

    def __init__(self, m: int, to_spare: Callable[[], int], places: Mapping[PlaceId, Place]) -> None:
        self._m, self._to_spare, self._places = m, to_spare, places
        self._probed: dict[PlaceId, trio.CapacityLimiter] = {}
        self._short: dict[PlaceId, trio.CapacityLimiter] = {}
        self._long: dict[PlaceId, trio.CapacityLimiter] = {}
        self._holds: WeakKeyDictionary[Member, trio.CapacityLimiter] = WeakKeyDictionary()
        self._struck: dict[PlaceId, str] = {}
        self._waits: dict[PlaceId, set[trio.CancelScope]] = {}
        self._together: Together[PlaceId, bool] | None = None
        self.silent: set[PlaceId] = set()
        """Places that writes wait for longer than they should."""

    def strike(self, place: PlaceId, reason: str) -> None:
        """Whoever waits for this place has an error now, and so has who asks it later."""
        self._struck[place] = reason
        for scope in self._waits.get(place, ()):
            scope.cancel()
        if self._together is not None:
            self._together.look()

    def welcome(self, place: PlaceId) -> None:
        """It can be asked again. Long work of before makes what nobody names, so it keeps nobody waiting."""
        self._struck.pop(place, None)
        self._long.pop(place, None)

    async def short(self, place: PlaceId, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """*fn* in a thread of *place*; whoever calls it has the deadline. Raises: DeviceFailed if it is struck."""
        return await self._call(place, self._short.setdefault(place, trio.CapacityLimiter(1)), fn, *args)

    async def hold(self, place: PlaceId, member: Member, mark: Mark) -> bool:
        """See `Member.hold`; as `short`, in a turn of *member*."""
        return await self._call(place, self._hold_turn(member), member.hold, mark)

    async def hold_alone(self, place: PlaceId, member: Member, mark: Mark) -> None:
        """As `hold`, all of it. Raises: also Stalled, if it has done nothing for the deadline."""
        while await within(STRIKE_S, partial(self.hold, place, member, mark)):
            pass

    async def hold_each(self, members: Mapping[PlaceId, Member], mark: Mark) -> dict[PlaceId, Exception]:
        """`hold` at each of these places until there is no more of it; as `each`, and one such question at a time.

        Nearly always all are back at once: a task for each, and what watches over them, would cost several times what
        they do.
        """
        together = self._together = self._begin_holds(members, mark)
        if together is None:
            return await self.each(members, lambda place: self.hold(place, members[place], mark))
        try:
            came = await comes_within(together.changed, DEVICE_LOOK_S)
        finally:
            self._together = None
            together.hear_of_each()
        done = together.done()
        self.silent -= done
        if len(done) == len(members):
            return {}
        begun = members.keys() - done
        left = frozenset(begun)

        async def piece(place: PlaceId) -> bool:
            if place not in begun:
                return await self.hold(place, members[place], mark)
            begun.remove(place)
            return await self._unless_struck(place, together.wait, place)

        return await self.each(left, piece, beside=len(done), waited_s=0.0 if came else DEVICE_LOOK_S)

    def _begin_holds(self, members: Mapping[PlaceId, Member], mark: Mark) -> Together[PlaceId, bool] | None:
        """None where one of them cannot be asked now."""
        turns = {place: self._hold_turn(member) for place, member in members.items()}
        if self._struck.keys() & turns.keys() or any(turn.borrowed_tokens for turn in turns.values()):
            return None
        return Together({place: partial(member.hold, mark) for place, member in members.items()}, turns)

    def _hold_turn(self, member: Member) -> trio.CapacityLimiter:
        turn = self._holds.get(member)
        if turn is None:
            turn = self._holds[member] = trio.CapacityLimiter(1)
        return turn

    async def _call(self, place: PlaceId, limiter: trio.CapacityLimiter, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        call = partial(in_thread, fn, *args, abandon_on_cancel=True, limiter=limiter)
        return await self._unless_struck(place, call)

    async def _unless_struck(self, place: PlaceId, call: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Raises: DeviceFailed as soon as *place* is struck; what *call* raises."""
        waits = self._waits.setdefault(place, set())
        with trio.CancelScope() as scope:
            if place in self._struck:
                scope.cancel()
            waits.add(scope)
            try:
                return await call(*args)
            finally:
                waits.discard(scope)
        raise DeviceFailed(self._struck[place])

    def is_at_work(self, place: PlaceId) -> bool:
        """Whether a call or long work is under way there, or hangs."""
        return any(place in turns and turns[place].borrowed_tokens for turns in (self._short, self._long))

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
        self,
        places: Collection[PlaceId],
        call: Callable[[PlaceId], Awaitable[bool | None]],
        *,
        patient: bool = True,
        beside: int = 0,
        waited_s: float = 0.0,
    ) -> dict[PlaceId, Exception]:
        """*call* for each of *places*, side by side, and again as long as it says that there is more of it
        (or as `until_fed` does).

        Returns those that failed, or stalled while others did not. Not *patient*: whoever stalls is left alone at the
        deadline, and is not among them. beside: how many others were asked with them, and have answered before;
        waited_s: since then.
        """
        asked, count = frozenset(places), len(places) + beside
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
            probes = _Probes(self, nursery, lambda: answered.set())
            for place in asked:
                nursery.start_soon(one, place)
            while pending:
                # From the last answer on: where the machine stood still, not all come back in the same moment.
                limit_s, waited_s = STRIKE_S / 2 - waited_s, 0.0
                if await comes_within(answered, limit_s):
                    answered = trio.Event()
                    continue
                probes.ask(self._places, pending)
                if await comes_within(answered, STRIKE_S / 2):
                    answered = trio.Event()
                elif not patient or (not starving and self._may_stall(pending, probes.silent, count, len(failed))):
                    failed |= dict.fromkeys(pending, Stalled(STRIKE_S)) if patient else {}
                    break
                else:
                    silent = pending | probes.silent
                    _log.warning("places that hold the catalog do not answer: writes wait", places=len(silent))
                    self.silent |= silent
            nursery.cancel_scope.cancel()  # probes that are not back yet
        self.silent -= asked | probes.asked
        return failed

    async def probe(self, place: PlaceId, folder: Path) -> None:
        """Whether its disk answers at all. In a turn of its own, for it writes nothing. Raises: as `short`."""
        await self._call(place, self._probed.setdefault(place, trio.CapacityLimiter(1)), probe, folder)

    def _may_stall(self, pending: set[PlaceId], beside: set[PlaceId], asked: int, failed: int) -> bool:
        """Whether that so many are silent can be their own doing. What is on one disk fails together."""
        disks = {self._places[each].disk if each in self._places else each for each in pending | beside}
        return len(disks) <= self._m and len(pending) <= min(self._to_spare() - failed, asked - 1)


class _Probes:
    """Places that are asked beside a question whether they answer at all, in the nursery of who asks.

    silent  those that have not answered yet, or could not be asked
    late    called when one answers that took long: it is no sign that the others were well all the time
    """

    def __init__(self, calls: Calls, nursery: trio.Nursery, late: Callable[[], None]) -> None:
        self.silent: set[PlaceId] = set()
        self.asked: set[PlaceId] = set()
        self._under_way: set[PlaceId] = set()
        self._calls, self._nursery, self._late = calls, nursery, late

    def ask(self, places: Mapping[PlaceId, Place], but: Collection[PlaceId]) -> None:
        for ident in places.keys() - self._under_way - set(but):
            for each in (self.silent, self.asked, self._under_way):
                each.add(ident)
            self._nursery.start_soon(self._ask, ident, places[ident].folder)

    async def _ask(self, ident: PlaceId, folder: Path) -> None:
        began = trio.current_time()
        try:
            await self._calls.probe(ident, folder)
        except (OSError, StratumError) as error:
            if is_starved(error):
                return  # nobody knows: the next one says more
        finally:
            self._under_way.discard(ident)
        self.silent.discard(ident)
        if trio.current_time() - began > DEVICE_STANDSTILL_S:
            self._late()


def is_blameless(error: Exception) -> bool:
    """A full place has not failed; that its identity file is behind does no harm where more than half are not. Nor has
    one that this process had no descriptor to ask, or whose copy is damaged: another one can be made there."""
    if isinstance(error, DeviceFull | StoreFull | ChainDamaged) or is_starved(error):
        return True
    return isinstance(error, OSError) and is_full(error)


def blamed(failed: Failures) -> dict[PlaceId, Exception]:
    return {place: error for place, error in failed.items() if not is_blameless(error)}
