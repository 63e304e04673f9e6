"""Who holds the catalog while it is open: strikes, joins and fail-overs, each a new epoch (see `epochs`)."""

import errno
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar, TypeVarTuple

import apsw
import structlog
import trio

from stratumfs.catalog import chains
from stratumfs.catalog.chains import SALTS, Form, Manifest
from stratumfs.catalog.copies import Copy, seed
from stratumfs.catalog.deadlines import call_within
from stratumfs.catalog.durability import Mark, Member, PrimaryLost
from stratumfs.catalog.epochs import Candidate, Epoch, Named, choose_members, may_begin, next_epoch
from stratumfs.catalog.opening import Database, open_database
from stratumfs.catalog.places import Place
from stratumfs.errors import DeviceFull, StoreFull, StoreReadOnly, StratumError
from stratumfs.ids import Disk, PlaceId
from stratumfs.limits import JOIN_RETRY_S, RESTING_S, SEQUENCE_NOTED_S, STRIKE_S

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Exclusive = Callable[[Callable[[Mark], Awaitable[None]]], Awaitable[None]]
"""Runs a step under the rounds' turn, behind what is queued: see `Rounds.exclusive`."""
Struck = Callable[[PlaceId, str], None]
Failures = Mapping[PlaceId, Exception]
_FULL = (errno.ENOSPC, errno.EDQUOT)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chain:
    """A member's chain as its manifest will name it."""

    folder: str
    form: Form
    salt: int


class Membership:
    """The members of the epoch in force, and the places that could become one. A `Members`.

    Owned by the catalog, used on its loop; what changes members runs under the rounds' turn. Each place has a limiter
    of its own: a call that does not come back keeps its thread, and nobody waits for it beyond the deadline.

    places   those that can be reached; one that fails is left out until it is welcomed again
    listed   all places of the store, whether they can be reached or not
    m        losses that must be survived: there are m + 1 copies where there are places enough, never fewer than m
    """

    def __init__(
        self,
        places: Mapping[PlaceId, Place],
        listed: frozenset[PlaceId],
        m: int,
        epoch: Epoch,
        named: Mapping[PlaceId, Named],
        files: Mapping[str, str],
    ) -> None:
        self.places, self.listed, self.m, self.epoch = dict(places), listed, m, epoch
        self.files = files
        self.struck: dict[PlaceId, str] = {}
        self.on_strike: Struck = lambda place, reason: None
        self._named = dict(named)
        self._limiters = {place: trio.CapacityLimiter(1) for place in listed}
        self._naming = {place: trio.Lock() for place in listed}
        self._chains: dict[PlaceId, Chain] = {}
        self._copies: dict[PlaceId, Copy] = {}
        self._database: Database | None = None
        self._replaced: list[Database] = []
        self._primary = next(iter(places))
        self._resting: dict[PlaceId, float] = {}
        self._doubtful: dict[PlaceId, Exception] = {}
        self._changed = trio.Event()

    # Members, for the rounds

    @property
    def copies(self) -> Sequence[Copy]:
        return tuple(self._copies.values())

    @property
    def disks(self) -> tuple[Disk, ...]:
        return tuple(self.places[place].disk for place in self.members if place in self.places)

    @property
    def can_fail_over(self) -> bool:
        return bool(self._copies)

    @property
    def strikes_max(self) -> int:
        return self.m

    @property
    def complete(self) -> bool:
        return self.epoch.members.issubset(self.members)

    @property
    def primary(self) -> PlaceId:
        """The place of the database that is written to."""
        return self._primary

    @property
    def members(self) -> tuple[PlaceId, ...]:
        return (self._primary, *self._copies)

    async def strike(self, failed: Mapping[Member, Exception], mark: Mark) -> None:
        await self.strike_places({copy.place: failed[copy] for copy in self.copies if copy in failed}, mark)

    async def strike_places(self, failed: Failures, mark: Mark) -> None:
        """Go on without the copies at these places, and do not use them again. Under the turn; all others hold *mark*.

        Raises: PrimaryLost if the primary is one of them; StoreReadOnly if too few would be left.
        """
        members = set(self.members)
        self._drop(failed)
        if self._primary in failed:
            raise PrimaryLost(str(failed[self._primary]))
        if members.intersection(failed):
            await self._settle(mark, self.m + 1)

    async def change_places(self, listed: frozenset[PlaceId], new: Place, mark: Mark) -> None:
        """The store has the places *listed* from now on, *new* among them. Under the turn; all others hold *mark*.

        Raises: StoreReadOnly, then the list is as before; PrimaryLost if the primary is no place of it any more.
        """
        self._demand_majority(self.epoch, listed, listed.intersection(self.places) | {new.id})
        before, self.listed = self.listed, listed
        self.welcome(new)
        gone = {place: PrimaryLost("it is no place of the store any more") for place in self.places.keys() - listed}
        self._drop(gone)
        if self._primary in gone:
            raise gone[self._primary]
        try:
            await self._settle(mark, self.m + 1)
        except StoreReadOnly as error:
            self.listed = before
            self._drop({new.id: error})
            raise

    async def fail_over(self, reason: str, failed: Mapping[Member, Exception], show_again: Callable[[], int]) -> None:
        """Make the longest copy the primary, on its own place; under the turn. See `Members.fail_over`."""
        database = self._database
        assert database is not None
        self._drop({copy.place: failed[copy] for copy in self.copies if copy in failed})
        if self._primary not in self._resting:  # else it is full, and has not failed
            self._drop({self._primary: PrimaryLost(reason)})
        for copy in sorted(self.copies, key=lambda copy: (copy.generation, copy.shipped), reverse=True):
            try:
                chain, made = await self._call(
                    copy.place, _take_over, self.places[copy.place], self._chains[copy.place]
                )
            except (StratumError, OSError, KeyError) as error:
                self._drop({copy.place: error})
                continue
            break
        else:
            raise StoreReadOnly(f"no copy of the catalog can take over: {reason}")
        del self._copies[copy.place]
        self._primary = copy.place
        self._chains = {place: each for place, each in self._chains.items() if place in self._copies}
        self._chains[copy.place] = chain
        self._replaced.append(database.become(made))
        sequence = show_again()  # nothing is awaited in between
        self._follow(chain.salt)
        await self._settle(made.primary.mark(sequence), self.m + 1)
        _log.warning("the catalog goes on", place=self._label(self._primary), sequence=sequence)
        self._changed.set()

    async def generation_closed(self) -> None:
        """Fold on every copy, beside the rounds."""
        async with trio.open_nursery() as nursery:
            for copy in self.copies:
                nursery.start_soon(self._fold, copy)
        self._changed.set()

    async def close(self, synced: int) -> None:
        await self.note(synced)
        for copy in self.copies:
            copy.give_up()
        for database in self._replaced:
            await trio.to_thread.run_sync(partial(_close_lost, database), abandon_on_cancel=True)
        for member in self.members:
            if member in self.places:
                with suppress(OSError, StratumError):
                    await self._call(member, chains.tidy, self.places[member].folder, self._chains[member].folder)

    # For the opening

    async def begin(self, database: Database, primary: PlaceId, chain: Chain, fitting: Mapping[PlaceId, Chain]) -> None:
        """Begin the first epoch of this opening around *primary*; *fitting* are copies that can be continued.

        Raises: StoreReadOnly if there are too few places.
        """
        self._database, self._primary, self._chains = database, primary, {primary: chain, **fitting}
        generation = (database.primary.salt() - chain.salt) % SALTS
        for place, each in fitting.items():
            folder = self.places[place].folder / each.folder
            disk = self.places[place].disk
            self._copies[place] = Copy(place, disk, folder, database.primary, chain.salt, generation)
        mark = database.primary.mark(database.sequence)
        await self._choose(self.m + 2)
        await self._settle(mark, self.m + 1)

    async def hold(self, mark: Mark) -> None:
        """Every copy holds *mark*, before rounds run. Raises: StoreReadOnly."""
        if failed := await self._hold_all(mark):
            await self.strike_places(failed, mark)

    # Beside the rounds

    async def serve(self, exclusive: Exclusive, synced: Callable[[], int]) -> None:
        """Let new members join where there are too few, and tell identity files what is synced; until cancelled."""
        while True:
            with trio.move_on_after(SEQUENCE_NOTED_S if self._enough else JOIN_RETRY_S):
                await self._changed.wait()
            self._changed = trio.Event()
            try:
                await self.note(synced())
                if self._doubtful:
                    failed, self._doubtful = self._doubtful, {}
                    await exclusive(partial(self.strike_places, failed))
                await self.join_spares(exclusive)
            except StratumError as error:
                _log.warning("the catalog's members stay as they are", reason=str(error))

    async def note(self, synced: int) -> None:
        """The identity files of all reachable places learn that transaction *synced* is held by every member."""
        behind = [place for place in self.places if self._known(place).sequence < synced]
        self._doubtful |= await self._name(behind, lambda named: replace(named, sequence=synced))

    def welcome(self, place: Place, named: Named | None = None) -> None:
        """A place that was struck, or is new, can be used (again). *named*: what its file says, if it was read."""
        self.places[place.id] = place
        if named is not None:
            self._named[place.id] = named
        self.struck.pop(place.id, None)
        self._limiters[place.id] = trio.CapacityLimiter(1)
        self._naming.setdefault(place.id, trio.Lock())
        self._changed.set()

    @property
    def _enough(self) -> bool:
        disks = {place.disk for place in self.places.values()}
        as_many = len(self.members) >= min(self.m + 2, len(self.places))
        return as_many and len({*self.disks}) >= min(self.m + 2, len(disks))

    async def join_spares(self, exclusive: Exclusive) -> None:
        """Let places become members until there are enough, if there are places; one that cannot rests for a while."""
        while not self._enough:
            wanted = self._wanted(len(self.members) + 1)
            if not wanted or (len(self.members) >= self.m + 2 and self.places[wanted[0]].disk in self.disks):
                return
            try:
                copy, chain = await self._seed(wanted[0])
                await exclusive(partial(self._join, copy, chain))
            except (StoreReadOnly, PrimaryLost) as error:  # not its doing
                self._rest(wanted[0], error)
                return
            except (OSError, StratumError) as error:
                self._drop({wanted[0]: error})

    async def _join(self, copy: Copy, chain: Chain, mark: Mark) -> None:
        assert self._database is not None
        if not copy.follows(self._database.primary):  # its log has bytes of its own from where the copy took over
            raise StoreReadOnly("another place has become the primary meanwhile: later again")
        if (mark.salt - copy.salt) % SALTS != copy.generation:
            raise StoreReadOnly("the log was started over meanwhile: later again")
        if copy.place not in self.places:
            raise StoreReadOnly("the place was struck meanwhile")
        await self._call(copy.place, copy.hold, mark)
        self._copies[copy.place], self._chains[copy.place] = copy, chain
        await self._settle(mark, self.m + 1)

    # Epochs

    async def _settle(self, mark: Mark, at_least: int) -> None:
        """All copies hold *mark*, members that fail are replaced, and an epoch names what is left.

        Raises: StoreReadOnly if fewer than *at_least* members can be had, or too few places to begin an epoch;
        PrimaryLost.
        """
        while True:
            await self._choose(at_least)
            failed = await self._hold_all(mark)
            if not failed:
                if len(self.members) < at_least:
                    raise StoreReadOnly(
                        f"the catalog is on {len(self.members)} places, and must be on {at_least}: attach more devices"
                    )
                failed = dict(await self._begin(self.listed))
            if not failed:
                return
            self._drop(failed)
            if self._primary in failed:
                raise PrimaryLost(str(failed[self._primary]))

    def _drop(self, failed: Failures) -> None:
        """Use these places no more; one that is only full may be tried again later."""
        for place, error in failed.items():
            if place not in self.places:
                continue
            _log.warning("a place does not hold the catalog any more", place=self._label(place), reason=str(error))
            copy = self._copies.pop(place, None)
            if copy is not None:
                copy.give_up()
            if _is_full(error):
                self._rest(place, error)
            else:
                del self.places[place]
                self.struck[place] = str(error)
                self.on_strike(place, str(error))
        self._changed.set()

    def _rest(self, place: PlaceId, error: Exception) -> None:
        _log.warning("a copy of the catalog could not be made", place=self._label(place), reason=str(error))
        self._resting[place] = time.monotonic() + RESTING_S

    async def _choose(self, count: int) -> None:
        """Seed copies until there are *count* members, if there are places enough."""
        for place in self._wanted(count):
            try:
                copy, chain = await self._seed(place)
            except PrimaryLost:
                raise
            except (OSError, StratumError) as error:
                self._drop({place: error})
                continue
            self._copies[place], self._chains[place] = copy, chain

    def _wanted(self, count: int) -> tuple[PlaceId, ...]:
        """The places that should become members so that there are *count*."""
        candidates = [Candidate(place.id, place.disk) for place in self.places.values()]
        keep = [each for each in candidates if each.place in self.members]
        now = time.monotonic()
        rested = [each for each in candidates if self._resting.get(each.place, now) <= now]
        spare = [each for each in rested if each.place not in self.members]
        return choose_members(keep, spare, count)[len(keep) :]

    async def _begin(self, listed: frozenset[PlaceId]) -> Failures:
        """See `epochs`: begun, manifests, in force. Returns places that failed in this: then another one is due.

        Raises: StoreReadOnly.
        """
        parent = self.epoch
        epoch = next_epoch(parent, [*self._named.values()], self.members, listed)
        begun = await self._name(self.places, lambda named: replace(named, begun=epoch))
        self._demand_majority(parent, listed, self.places.keys() - begun.keys())
        if failed := await self._write_manifests(epoch):
            return failed
        failed = await self._name(self.places, lambda named: Named(epoch, epoch, named.sequence))
        self._demand_majority(parent, listed, self.places.keys() - failed.keys())
        self.epoch, self.listed = epoch, listed
        _log.info("the catalog has a new epoch", number=epoch.number, members=[self._label(p) for p in self.members])
        return {place: error for place, error in (begun | failed).items() if not _is_full(error)}

    async def _write_manifests(self, epoch: Epoch) -> dict[PlaceId, Exception]:
        failed: dict[PlaceId, Exception] = {}

        async def one(place: PlaceId) -> None:
            chain = self._chains[place]
            manifest = Manifest(epoch, chain.folder, chain.form, chain.salt, self.files)
            try:
                await self._call(place, chains.write_manifest, self.places[place].folder, manifest)
            except (OSError, StratumError) as error:
                failed[place] = error

        async with trio.open_nursery() as nursery:
            for place in self.members:
                nursery.start_soon(one, place)
        return failed

    def _demand_majority(self, parent: Epoch, listed: frozenset[PlaceId], told: Collection[PlaceId]) -> None:
        if not may_begin(parent, listed, told):
            raise StoreReadOnly(
                f"{len(told)} of {len(listed)} places take writes, and more than half must: attach more devices"
            )

    async def _name(self, places: Collection[PlaceId], change: Callable[[Named], Named]) -> dict[PlaceId, Exception]:
        """Change what the identity files of *places* say, side by side. Returns those that cannot be written."""
        failed: dict[PlaceId, Exception] = {}

        async def one(place: PlaceId) -> None:
            async with self._naming[place]:  # what it says is changed by one after the other
                found = self.places.get(place)
                if found is None:
                    return  # struck while it waited
                named = change(self._known(place))
                try:
                    await self._call(place, found.write_named, named)
                except (OSError, StratumError) as error:
                    failed[place] = error
                else:
                    self._named[place] = named

        async with trio.open_nursery() as nursery:
            for place in list(places):
                nursery.start_soon(one, place)
        return failed

    def _known(self, place: PlaceId) -> Named:
        return self._named.get(place) or Named(self.epoch, self.epoch)

    # Copies

    async def _seed(self, place: PlaceId) -> tuple[Copy, Chain]:
        """A new copy at *place*, without a manifest; it has the base, and nothing of the log yet."""
        assert self._database is not None
        found = self.places[place]
        primary, salt = self._database.primary, self._chains[self._primary].salt
        generation = (primary.salt() - salt) % SALTS
        folder = await self._call(place, chains.new_chain, found.folder)
        await trio.to_thread.run_sync(seed, folder, primary, generation, limiter=self._limiters[place])
        copy = Copy(place, found.disk, folder, primary, salt, generation)
        return copy, Chain(folder.name, Form.COPY, salt)

    async def _hold_all(self, mark: Mark) -> dict[PlaceId, Exception]:
        """Which copies cannot hold *mark*. Raises: PrimaryLost."""
        failed: dict[PlaceId, Exception] = {}

        async def one(copy: Copy) -> None:
            try:
                await self._call(copy.place, copy.hold, mark)
            except PrimaryLost as error:
                failed[self._primary] = error
            except (OSError, StratumError) as error:
                failed[copy.place] = error

        async with trio.open_nursery() as nursery:
            for copy in self.copies:
                nursery.start_soon(one, copy)
        if self._primary in failed:
            raise PrimaryLost(str(failed[self._primary]))
        return failed

    def _follow(self, salt: int) -> None:
        """Copies of the same log go on with the new primary; others are seeded anew."""
        assert self._database is not None
        primary = self._database.primary
        generation = (primary.salt() - salt) % SALTS
        for copy in self.copies:
            if copy.salt == salt and copy.generation == generation:
                copy.follow(primary)
            else:
                self._copies.pop(copy.place).give_up()

    async def _fold(self, copy: Copy) -> None:
        try:
            await trio.to_thread.run_sync(copy.fold, abandon_on_cancel=True, limiter=self._limiters[copy.place])
        except (OSError, StratumError) as error:
            _log.warning("a copy of the catalog cannot be folded", place=self._label(copy.place), reason=str(error))
            self._doubtful[copy.place] = error

    async def _call(self, place: PlaceId, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """*fn* in a thread of this place. Raises: OSError also if it does not come back by the deadline."""
        return await call_within(STRIKE_S, self._limiters[place], fn, *args)

    def _label(self, place: PlaceId) -> str:
        return self.places[place].label if place in self.places else place.hex()


def _is_full(error: Exception) -> bool:
    """A full place has not failed; that its identity file is behind does no harm where more than half are not."""
    return isinstance(error, DeviceFull | StoreFull) or (isinstance(error, OSError) and error.errno in _FULL)


def _take_over(place: Place, chain: Chain) -> tuple[Chain, Database]:
    """Make a database of the copy at *place*, beside it, and open it. Blocks."""
    manifest = Manifest(_NOBODY, chain.folder, chain.form, chain.salt)
    folder = chains.new_chain(place.folder)
    salt = chains.build_database(place.folder, manifest, folder)
    return Chain(folder.name, Form.DATABASE, salt), open_database(folder)


def _close_lost(database: Database) -> None:
    with suppress(apsw.Error, OSError):
        database.close()


_NOBODY = Epoch(0, "", frozenset(), frozenset(), ("",))
