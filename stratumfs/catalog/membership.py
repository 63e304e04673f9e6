"""Who holds the catalog while it is open: strikes, joins and fail-overs, each a new epoch (see `epochs`)."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog
import trio

from stratumfs.catalog import chains, seeding
from stratumfs.catalog.calls import Calls, Failures, blamed, is_blameless
from stratumfs.catalog.chains import COPY_CHUNK, COPY_SYNC, SALTS, Chain, Form, Manifest
from stratumfs.catalog.copies import Copy
from stratumfs.catalog.deadlines import Stalled
from stratumfs.catalog.durability import Mark, Member, PrimaryLost
from stratumfs.catalog.epochs import Epoch, Named, may_begin, next_epoch
from stratumfs.catalog.identities import Identities
from stratumfs.catalog.opening import Database
from stratumfs.catalog.places import Place
from stratumfs.catalog.spares import Spares
from stratumfs.catalog.takeover import close_lost, first_to_take_over
from stratumfs.errors import StoreReadOnly, StratumError, is_starved
from stratumfs.ids import Disk, PlaceId
from stratumfs.limits import JOIN_RETRY_S, REMOVED_S, SEQUENCE_NOTED_S, STRIKE_S

Exclusive = Callable[[Callable[[Mark], Awaitable[None]]], Awaitable[None]]
"""Runs a step under the rounds' turn, behind what is queued: see `Rounds.exclusive`."""
Struck = Callable[[PlaceId, str], None]

_log = structlog.get_logger(__name__)


class Membership:
    """The members of the epoch in force, and the places that could become one. A `Members`.

    Owned by the catalog, used on its loop; what changes members runs under the rounds' turn.

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
        self._calls = Calls(listed, m)
        self._identities = Identities(self._calls, self.places, named, epoch)
        self._chains: dict[PlaceId, Chain] = {}
        self._copies: dict[PlaceId, Copy] = {}
        self._database: Database | None = None
        self._replaced: list[Database] = []
        self._primary = next(iter(places))
        self._spares = Spares(self.places)
        self._doubtful: dict[PlaceId, Exception] = {}
        self._changed = trio.Event()
        self._joining = trio.CancelScope()
        self._unused: Copy | None = None
        self.log_kept = trio.Lock()
        """See `Members.log_kept`: the one join that is under way."""

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
        if not self._spares.rests(self._primary):  # else it is full, and has not failed
            self._drop({self._primary: PrimaryLost(reason)})
        longest = sorted(self.copies, key=lambda copy: (copy.generation, copy.shipped), reverse=True)
        taken, left = await first_to_take_over(
            self._calls,
            [(copy, self.places[copy.place], self._chains[copy.place]) for copy in longest],
            lambda copy, error: self._drop({copy.place: error}),
        )
        for copy in left:  # a thread may still read and fold there: it is made anew, if it is needed
            self._copies.pop(copy.place).give_up()
            self._rest(copy.place, Stalled(STRIKE_S))
        if not taken:
            raise StoreReadOnly(f"no copy of the catalog can take over: {reason}")
        (copy, chain, made), *others = taken
        self._replaced += [database for _, _, database in others]
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
            with trio.move_on_after(STRIKE_S):
                await trio.to_thread.run_sync(partial(close_lost, database), abandon_on_cancel=True)
        there = [place for place in self.members if place in self.places]
        await self._calls.each(there, self._tidy, patient=False)

    async def _tidy(self, place: PlaceId) -> None:
        await self._calls.short(place, chains.tidy, self.places[place].folder, self._chains[place].folder)

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
        await self._choose(self.m + 2, set())
        await self._settle(mark, self.m + 1)

    async def hold(self, mark: Mark) -> None:
        """Every copy holds *mark*, before rounds run. Raises: StoreReadOnly."""
        if failed := await self._hold_all(mark):
            await self.strike_places(failed, mark)

    # Beside the rounds

    async def serve(self, exclusive: Exclusive, synced: Callable[[], int]) -> None:
        """Let new members join where there are too few, and tell identity files what is synced; until cancelled."""
        while True:
            with trio.move_on_after(SEQUENCE_NOTED_S if self._enough and self._next_beside is None else JOIN_RETRY_S):
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
        """The identity files of all reachable places learn that transaction *synced* is held by every member.

        Nobody waits for this, so a place that only stalls in it is left to the next epoch to judge; a full one stays.
        """
        behind = [place for place in self.places if self._identities.known(place).sequence < synced]
        failed = await self._identities.change(behind, lambda named: replace(named, sequence=synced), patient=False)
        self._doubtful |= blamed(failed)

    def welcome(self, place: Place, named: Named | None = None) -> None:
        """A place that was struck, or is new, can be used (again). *named*: what its file says, if it was read."""
        self.places[place.id] = place
        if named is not None:
            self._identities.said(place.id, named)
        self.struck.pop(place.id, None)
        self._calls.renew(place.id)
        self._changed.set()

    @property
    def _next_beside(self) -> PlaceId | None:
        return self._spares.next_beside(self.members, self._enough)

    @property
    def _enough(self) -> bool:
        return len(self.members) >= min(self.m + 2, len(self.places))

    async def join_spares(self, exclusive: Exclusive) -> None:
        """Let places become members until there are enough, if there are places; one that cannot rests for a while.

        Two on one disk fail together: where another disk can have a copy it gets one, and then one of the two leaves.
        """
        while self._next_beside is not None:
            async with self.log_kept:
                await exclusive(_nothing)  # whatever strikes goes first, and its epoch
                if (place := self._next_beside) is not None and not await self._let_join(place, exclusive):
                    return
                if len(self.members) > self.m + 2:
                    await exclusive(self._leave)

    async def _let_join(self, place: PlaceId, exclusive: Exclusive) -> bool:
        """Returns whether another one may be asked."""
        self._spares.taken(place)
        with trio.CancelScope() as self._joining:
            try:
                copy, chain = await self._seed(place)
                self._unused = copy
                await self._ship(copy, exclusive)
                await exclusive(partial(self._join, copy, chain))
            except (StoreReadOnly, PrimaryLost) as error:  # not its doing
                self._rest(place, error)
                return False
            except Stalled as error:  # perhaps not its doing
                self._rest(place, error)
            except (OSError, StratumError) as error:
                self._drop({place: error})
            finally:
                await self._remove_unused()
                self._spares.not_taken(place)
        return True

    async def _leave(self, mark: Mark) -> None:
        """One of two copies on one disk goes, if there are more members than there must be."""
        if len(self.members) > self.m + 2 and (place := self._spares.crowded(self.members)) is not None:
            _log.info("a copy of the catalog leaves a disk that has another one", place=self._label(place))
            copy = self._copies.pop(place)
            try:
                await self._settle(mark, self.m + 1)
            except StoreReadOnly:
                if place in self.places:
                    self._copies[place] = copy  # nothing was answered without it
                raise
            copy.give_up()

    async def _ship(self, copy: Copy, exclusive: Exclusive) -> None:
        """Bring *copy* what was written while it was seeded, beside the rounds: they wait for what comes then."""
        assert self._database is not None
        if self._database.primary.wal_bytes() <= COPY_CHUNK:
            return
        marks: list[Mark] = []

        async def here(mark: Mark) -> None:
            marks.append(mark)

        await exclusive(here)
        copy.demand_same_log(self._database.primary, marks[0])
        for end in (*range(COPY_SYNC, marks[0].end, COPY_SYNC), marks[0].end):
            await self._calls.alone(copy.place, copy.hold, replace(marks[0], end=end))

    async def _remove_unused(self) -> None:
        """The folder of a copy that no epoch was begun with, at once: each may be as large as the catalog."""
        copy, self._unused = self._unused, None
        if copy is not None:
            copy.give_up()
            with trio.move_on_after(REMOVED_S, shield=True):  # its thread goes on
                await self._calls.long(copy.place, partial(seeding.remove, copy.folder))

    async def _join(self, copy: Copy, chain: Chain, mark: Mark) -> None:
        assert self._database is not None
        copy.demand_same_log(self._database.primary, mark)
        if copy.place not in self.places:
            raise StoreReadOnly("the place was struck meanwhile")
        if copy.place in self._copies:
            raise StoreReadOnly("the place has a copy meanwhile")
        await self._calls.alone(copy.place, copy.hold, mark)
        self._unused = None
        self._copies[copy.place], self._chains[copy.place] = copy, chain
        self._spares.joined(copy.place)
        await self._settle(mark, self.m + 1)

    # Epochs

    async def _settle(self, mark: Mark, at_least: int) -> None:
        """All copies hold *mark*, members that fail are replaced, and an epoch names what is left.

        Raises: StoreReadOnly if fewer than *at_least* members can be had, or too few places to begin an epoch;
        PrimaryLost.
        """
        out = set[PlaceId]()  # one that is only full could be asked for ever
        while True:
            stalled = await self._choose(at_least, out)
            if stalled and len(self.members) < at_least:
                continue  # that may be the machine: writes wait for it
            failed = await self._hold_all(mark)
            if not failed:
                if len(self.members) < at_least:
                    raise StoreReadOnly(
                        f"the catalog is on {len(self.members)} places, and must be on {at_least}: attach more devices"
                    )
                failed = dict(await self._begin(self.listed))
            if not failed:
                return
            out |= failed.keys()
            self._drop(failed)
            if self._primary in failed:
                raise PrimaryLost(str(failed[self._primary]))

    def _drop(self, failed: Failures) -> None:
        """Use these places no more; one that is only full may be tried again later."""
        for place, error in failed.items():
            if place not in self.places:
                continue
            if place in self.members or not is_blameless(error):
                _log.warning("a place does not hold the catalog any more", place=self._label(place), reason=str(error))
            copy = self._copies.pop(place, None)
            if copy is not None:
                copy.give_up()
            if is_blameless(error):
                self._rest(place, error)
            else:
                del self.places[place]
                self.struck[place] = str(error)
                self.on_strike(place, str(error))
        self._changed.set()

    def _rest(self, place: PlaceId, error: Exception) -> None:
        _log.warning("a copy of the catalog could not be made", place=self._label(place), reason=str(error))
        self._spares.rest(place)

    async def _choose(self, count: int, failed: set[PlaceId]) -> bool:
        """Seed copies until there are *count* members, or nobody is left who could be one.

        *failed* are not asked, and those are added that cannot. Returns whether one that was asked did not answer.
        Writes wait for this, so nobody is seeded beside.
        """
        stalled, asked = False, set(failed)
        while (place := self._spares.next(self.members, count, asked)) is not None:
            asked.add(place)
            self._joining.cancel()
            try:
                copy, chain = await self._seed(place)
            except PrimaryLost:
                raise
            except Stalled as error:
                self._rest(place, error)
                stalled = True
            except (OSError, StratumError) as error:
                failed.add(place)
                self._drop({place: error})
            else:
                self._copies[place], self._chains[place] = copy, chain
                self._spares.joined(place)
        return stalled

    async def _begin(self, listed: frozenset[PlaceId]) -> Failures:
        """See `epochs`: begun, manifests, in force. Returns places that failed in this: then another one is due.

        Raises: StoreReadOnly.
        """
        parent = self.epoch
        epoch = next_epoch(parent, self._identities.all_known, self.members, listed)
        begun = await self._identities.change(self.places, lambda named: replace(named, begun=epoch))
        told = self.places.keys() - begun.keys()
        self._demand_majority(parent, listed, told)
        if failed := await self._write_manifests(epoch):
            return failed
        untold: dict[PlaceId, Exception] = {}
        for some in (told.intersection(self.members), told.difference(self.members)):  # see `epochs`
            untold |= await self._identities.change(some, lambda named: Named(epoch, epoch, named.sequence))
        self._demand_majority(parent, listed, told.intersection(self.places) - untold.keys())
        self.epoch = self._identities.epoch = epoch
        self.listed = listed
        _log.info("the catalog has a new epoch", number=epoch.number, members=[self._label(p) for p in self.members])
        return blamed(begun | untold)

    async def _write_manifests(self, epoch: Epoch) -> dict[PlaceId, Exception]:
        async def one(place: PlaceId) -> None:
            chain = self._chains[place]
            manifest = Manifest(epoch, chain.folder, chain.form, chain.salt, self.files)
            await self._calls.short(place, chains.write_manifest, self.places[place].folder, manifest)

        return await self._calls.each(self.members, one)

    def _demand_majority(self, parent: Epoch, listed: frozenset[PlaceId], told: Collection[PlaceId]) -> None:
        if not may_begin(parent, listed, told):
            raise StoreReadOnly(
                f"{len(told)} of {len(listed)} places take writes, and more than half must: attach more devices"
            )

    # Copies

    async def _seed(self, place: PlaceId) -> tuple[Copy, Chain]:
        """A new copy at *place*, without a manifest; it has the base, and nothing of the log yet."""
        assert self._database is not None
        found = self.places[place]
        primary, salt = self._database.primary, self._chains[self._primary].salt
        generation = (primary.salt() - salt) % SALTS
        folder = await self._calls.long(place, partial(seeding.make_base, found, primary, generation))
        copy = Copy(place, found.disk, folder, primary, salt, generation)
        return copy, Chain(folder.name, Form.COPY, salt)

    async def _hold_all(self, mark: Mark) -> dict[PlaceId, Exception]:
        """Which copies cannot hold *mark*. Raises: PrimaryLost."""
        copies = dict(self._copies)

        async def one(place: PlaceId) -> None:
            await self._calls.short(place, copies[place].hold, mark)

        failed = await self._calls.each(copies, one)
        for error in failed.values():
            if isinstance(error, PrimaryLost):
                raise error
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
            await self._calls.long(copy.place, copy.fold)
        except Stalled as error:  # it goes on by itself, or the next round judges
            _log.warning("a copy of the catalog is not folded yet", place=self._label(copy.place), reason=str(error))
        except (OSError, StratumError) as error:
            _log.warning("a copy of the catalog cannot be folded", place=self._label(copy.place), reason=str(error))
            if not is_starved(error):
                self._doubtful[copy.place] = error

    def _label(self, place: PlaceId) -> str:
        return self.places[place].label if place in self.places else place.hex()


async def _nothing(_: Mark) -> None:
    """What is under the turn before it is done."""
