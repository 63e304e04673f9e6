"""Who holds the catalog while it is open: strikes, joins and fail-overs, each a new epoch (see `epochs`)."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

import structlog
import trio

from stratumfs.catalog import seeding
from stratumfs.catalog.calls import Calls, Failures, blamed, is_blameless
from stratumfs.catalog.chains import COPY_CHUNK, Chain
from stratumfs.catalog.copies import Copy
from stratumfs.catalog.deadlines import Stalled
from stratumfs.catalog.durability import Mark, Primary, PrimaryLost, primary_lost
from stratumfs.catalog.epochs import Epoch, Named
from stratumfs.catalog.holders import Holders
from stratumfs.catalog.identities import Identities
from stratumfs.catalog.leftovers import Leftovers
from stratumfs.catalog.members import Exclusive
from stratumfs.catalog.places import Place
from stratumfs.catalog.spares import Spares
from stratumfs.catalog.succession import Succession
from stratumfs.catalog.takeover import first_to_take_over
from stratumfs.errors import StoreReadOnly, StratumError, is_starved
from stratumfs.ids import Disk, PlaceId
from stratumfs.limits import JOIN_RETRY_S, REMOVED_S, SEQUENCE_NOTED_S, STRIKE_S

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
        holders: Holders,
    ) -> None:
        self.places, self.listed, self.m = dict(places), listed, m
        self.struck: dict[PlaceId, str] = {}
        self.on_strike: Struck = lambda place, reason: None
        self._calls = Calls(m, self._to_spare, self.places)
        self._needed, self._wanted = m + 1, m + 2
        self._serving = False
        self._identities = Identities(self._calls, self.places, named, epoch)
        self._succession = Succession(self._calls, self.places, self._identities, files)
        self._holders = holders
        self._spares = Spares(self._calls, self.places, self._wanted)
        self._doubtful: dict[PlaceId, Exception] = {}
        """Those that have met an error where nobody could be struck: no round is answered before they are."""
        self._changed = trio.Event()
        self._joining = trio.CancelScope()
        self._unused: Copy | None = None
        self.log_kept = trio.Lock()
        """See `Members.log_kept`: the one join that is under way."""
        self.leftovers = Leftovers(self._calls, self.places, self._succession, holders, self.log_kept)

    # Members, for the rounds

    @property
    def copies(self) -> Sequence[Copy]:
        return tuple(self._holders.copies.values())

    @property
    def disks(self) -> tuple[Disk, ...]:
        return tuple(self.places[place].disk for place in self.members if place in self.places)

    @property
    def log_bytes(self) -> int:
        return min([self._holders.database.primary.log_bytes, *(copy.log_bytes for copy in self.copies)])

    @property
    def can_fail_over(self) -> bool:
        return bool(self._holders.copies)

    @property
    def complete(self) -> bool:
        return self._succession.may_count.issubset(self.members)

    @property
    def epoch(self) -> Epoch:
        """The one in force."""
        return self._succession.epoch

    @property
    def waiting(self) -> str | None:
        silent = sorted(self._label(place) for place in self._calls.silent)
        return f"places that hold the catalog do not answer: {', '.join(silent)}" if silent else None

    @property
    def primary(self) -> PlaceId:
        """The place of the database that is written to."""
        return self._holders.primary

    @property
    def members(self) -> tuple[PlaceId, ...]:
        return tuple(self._holders.members)

    async def hold(self, mark: Mark) -> None:
        failed = await self._ask(mark)
        if failed or self._doubtful:
            await self.strike_places({**self._take_doubtful(), **failed}, mark)

    async def demand_primary(self, mark: Mark) -> None:
        self._doubtful |= await self._ask(mark)  # the next round judges the others

    def give_up(self, place: PlaceId, reason: str) -> None:
        """It is about to be struck: who waits for it, perhaps under the turn, need not any more."""
        if place in self.places:
            self._calls.strike(place, reason)

    async def strike_places(self, failed: Failures, mark: Mark) -> None:
        """Go on without the copies at these places, and do not use them again. Under the turn; all others hold *mark*.

        Raises: PrimaryLost if the primary is one of them; StoreReadOnly if too few would be left.
        """
        members = set(self.members)
        self._drop(failed)
        if self.primary in failed:
            raise primary_lost(failed[self.primary])
        if members.intersection(failed):
            await self._settle(mark)

    async def change_places(self, listed: frozenset[PlaceId], new: Place | None, mark: Mark) -> None:
        """The store has the places *listed* from now on, *new* among them. Under the turn; all others hold *mark*.

        Raises: StoreReadOnly, then the list is as before; PrimaryLost if the primary is no place of it any more.
        """
        come = {new.id} if new is not None else set[PlaceId]()
        self._succession.demand_majority(listed, listed.intersection(self.places) | come)
        before, self.listed = self.listed, listed
        if new is not None:
            self.welcome(new)
        gone = {place: PrimaryLost("it is no place of the store any more") for place in self.places.keys() - listed}
        self._drop(gone)
        if self.primary in gone:
            raise gone[self.primary]
        try:
            await self._settle(mark)
        except StoreReadOnly as error:
            self.listed = before
            self._drop(dict.fromkeys(come, error))
            raise

    async def fail_over(self, lost: StratumError, show_again: Callable[[], int]) -> None:
        """Make the longest copy the primary, on its own place; under the turn. See `Members.fail_over`."""
        cause = lost.__cause__
        self._drop(self._take_doubtful())
        self._drop({self.primary: cause if isinstance(cause, Exception) and is_blameless(cause) else lost})
        longest = sorted(self.copies, key=self._spares.fitness, reverse=True)
        taken, left = await first_to_take_over(
            self._calls,
            [(copy, self.places[copy.place], self._holders.chains[copy.place]) for copy in longest],
            lambda copy, error: self._drop({copy.place: error}),
        )
        for copy in left:  # a thread may still read and fold there: it is made anew, if it is needed
            self._holders.remove(copy.place)
            self._rest(copy.place, Stalled(STRIKE_S))
        if not taken:
            raise StoreReadOnly(f"no copy of the catalog can take over: {lost}")
        first, *others = taken
        self._holders.take_over(first, others)
        sequence = show_again()  # nothing is awaited in between
        self._holders.follow()
        await self._settle(self._holders.database.primary.mark(sequence))
        _log.warning("the catalog goes on", place=self._label(self.primary), sequence=sequence)
        self._changed.set()

    async def generation_closed(self) -> None:
        """Fold on every copy, beside the rounds."""
        async with trio.open_nursery() as nursery:
            for copy in self.copies:
                nursery.start_soon(self._fold, copy)
        self._changed.set()

    async def close(self, synced: int) -> None:
        await self.note(synced)
        await self._holders.close()
        await self._calls.each(self.places, self.leftovers.remove_at_end, patient=False)

    # For the opening

    async def begin(self, fitting: Mapping[PlaceId, Chain]) -> None:
        """Begin the first epoch of this opening; *fitting* are copies that can be continued.

        Raises: StoreReadOnly if there are too few places; PrimaryLost.
        """
        for place, chain in fitting.items():
            self._holders.go_on(self.places[place], chain)
        database = self._holders.database
        await self._settle(database.primary.mark(database.sequence), self._wanted)

    # Beside the rounds

    async def serve(self, exclusive: Exclusive, synced: Callable[[], int]) -> None:
        """Let new members join where there are too few, and tell identity files what is synced; until cancelled."""
        self._serving = True
        while True:
            with trio.move_on_after(SEQUENCE_NOTED_S if self._is_as_wanted else JOIN_RETRY_S):
                await self._changed.wait()
            self._changed = trio.Event()
            try:
                await self.note(synced())
                if self._doubtful:
                    await exclusive(self._strike_doubtful)
                if not self._settled:
                    await exclusive(self._settle_again)
                await self.leftovers.remove(exclusive)
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

    async def tell(self, change: Callable[[Named], Named]) -> bool:
        """All reachable places. False if one could not be told: it may say what it did; the next round judges."""
        failed = await self._identities.change(self.places, change, patient=False)
        self._doubtful |= blamed(failed)
        return not failed

    @property
    def named(self) -> tuple[Named, ...]:
        """What the files of all places say that are there."""
        return tuple(map(self._identities.known, self.places))

    async def _strike_doubtful(self, mark: Mark) -> None:
        await self.strike_places(self._take_doubtful(), mark)

    def _take_doubtful(self) -> Failures:
        failed, self._doubtful = self._doubtful, {}
        return failed

    def welcome(self, place: Place, named: Named | None = None) -> None:
        """A place that was struck, or is new, can be used (again). *named*: what its file says, if it was read."""
        self.places[place.id] = place
        if named is not None:
            self._identities.said(place.id, named)
        self.struck.pop(place.id, None)
        self._calls.welcome(place.id)
        self._changed.set()

    def _to_spare(self) -> int:
        """At an opening no write waits yet, so who is silent is not waited for."""
        needed = max(self._needed, len(self.listed) // 2 + 1)
        return len(self.places) - needed if self._serving else len(self.places)

    @property
    def _settled(self) -> bool:
        """Not so: an epoch was begun that names one more, and is not in force."""
        return self.epoch.members == {*self.members}

    @property
    def _is_as_wanted(self) -> bool:
        return self._settled and self._spares.enough(self.members) and not self._spares.can_improve(self.members)

    async def join_spares(self, exclusive: Exclusive) -> None:
        """Let places become members until there are enough, if there are places; one that cannot rests for a while.

        Two on one disk fail together: where another disk can have a copy it gets one, and then one of the two leaves;
        as does one whose disk is short of room where another disk has it.
        """
        await self._spares.look(self._holders.database.primary.database_bytes())
        while self._spares.can_improve(self.members):
            async with self.log_kept:
                await exclusive(_nothing)  # whatever strikes goes first, and its epoch
                place = self._spares.next_beside(self.members)
                if place is not None and not await self._let_join(place, exclusive):
                    return
                if self._spares.leaving(self.members) is not None:
                    await exclusive(self._leave)

    async def _let_join(self, place: PlaceId, exclusive: Exclusive) -> bool:
        """Returns whether another one may be asked."""
        self._spares.taken(place)
        primary = self._holders.database.primary
        with trio.CancelScope() as self._joining:
            try:
                copy, chain = await self._holders.seed(self._calls, self.places[place])
                self._unused = copy
                await self._ship(copy, exclusive)
                await exclusive(partial(self._join, copy, chain))
            except PrimaryLost as error:
                await exclusive(partial(self._demand_read, primary, error))
                return False
            except StoreReadOnly as error:  # not its doing
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

    async def _demand_read(self, primary: Primary, error: PrimaryLost, _: Mark) -> None:
        """That it could not be read is its loss, if a copy has not taken its place since. Raises: *error*."""
        if self._holders.database.primary is primary:
            raise error

    async def _leave(self, mark: Mark) -> None:
        """One goes that another one has joined for."""
        if (place := self._spares.leaving(self.members)) is not None:
            _log.info("a copy of the catalog leaves a disk for a better one", place=self._label(place))
            copy, chain = self._holders.copies.pop(place), self._holders.chain(place)
            try:
                await self._settle(mark)
            except (StoreReadOnly, PrimaryLost):
                if place in self.places and place not in self._holders.copies:  # else the manifest names another one
                    self._holders.add(copy, chain)  # nothing was answered without it, and it may be the only one
                raise
            finally:
                if self._holders.copies.get(place) is not copy:
                    copy.give_up()

    async def _ship(self, copy: Copy, exclusive: Exclusive) -> None:
        """Bring *copy* what was written while it was seeded, beside the rounds: they wait for what comes then."""
        primary = self._holders.database.primary
        if primary.wal_bytes() <= COPY_CHUNK:
            return
        marks: list[Mark] = []

        async def here(mark: Mark) -> None:
            marks.append(mark)

        await exclusive(here)
        copy.demand_same_log(self._holders.database.primary, marks[0])
        await self._calls.hold_alone(copy.place, copy, marks[0])

    async def _remove_unused(self) -> None:
        """The folder of a copy that no epoch was begun with, at once: each may be as large as the catalog."""
        copy, self._unused = self._unused, None
        if copy is not None:
            copy.give_up()
            with trio.move_on_after(REMOVED_S, shield=True):  # its thread goes on
                await self._calls.long(copy.place, partial(seeding.remove, copy.folder))

    async def _join(self, copy: Copy, chain: Chain, mark: Mark) -> None:
        copy.demand_same_log(self._holders.database.primary, mark)
        if copy.place not in self.places:
            raise StoreReadOnly("the place was struck meanwhile")
        if copy.place in self._holders.copies:
            raise StoreReadOnly("the place has a copy meanwhile")
        await self._calls.hold_alone(copy.place, copy, mark)
        self._holders.add(copy, chain)
        self._spares.joined(copy.place)
        try:
            await self._settle(mark)
        except (StoreReadOnly, PrimaryLost):
            if copy.place not in self._succession.may_count:
                self._holders.remove(copy.place)  # no opening looks for it, and its files go: no fail-over may name it
            raise
        finally:
            if copy.place in self._succession.may_count:
                self._unused = None

    # Epochs

    async def _settle_again(self, mark: Mark) -> None:
        if not self._settled:
            await self._settle(mark)

    async def _settle(self, mark: Mark, wanted: int = 0) -> None:
        """All members hold *mark*, those that fail are replaced, and an epoch names what is left: *wanted* members if
        there are places for them, and as many as there must be.

        Raises: StoreReadOnly if fewer can be had, or too few places to begin an epoch; PrimaryLost.
        """
        out = set[PlaceId]()  # one that is only full could be asked for ever
        try:
            while failed := await self._try_to_settle(mark, max(wanted, self._needed), out):
                out |= failed.keys()
                self._drop(failed)
                if self.primary in failed:
                    raise primary_lost(failed[self.primary])
        finally:
            self._calls.silent.clear()
        _log.info("the catalog has a new epoch", number=self.epoch.number, members=self._labels(self.members))

    async def _try_to_settle(self, mark: Mark, count: int, out: set[PlaceId]) -> Failures:
        """Returns places that failed in this; raises as `_settle`."""
        self._succession.demand_majority(self.listed, self.places)
        while await self._choose(count, out, mark) and len(self.members) < self._needed:
            pass  # who does not answer may be the machine: writes wait for it
        if failed := await self._ask(mark):
            return failed
        if len(self.members) < self._needed:
            raise StoreReadOnly(
                f"the catalog is on {len(self.members)} places, and must be on {self._needed}: attach more devices"
            )
        return await self._succession.begin(self._holders.chains, self.listed)

    def _drop(self, failed: Failures) -> None:
        """Use these places no more; one that has not failed itself may be tried again later."""
        for place, error in failed.items():
            if place not in self.places:
                continue
            if place in self.members or not is_blameless(error):
                _log.warning("a place does not hold the catalog any more", place=self._label(place), reason=str(error))
            self._holders.remove(place)
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

    async def _choose(self, count: int, failed: set[PlaceId], mark: Mark) -> bool:
        """Make copies that hold *mark* until there are *count* members, or nobody is left who could be one.

        *failed* are not asked, and those are added that cannot. Returns whether one that was asked did not answer.
        Writes wait for this, so nobody is seeded beside.
        """
        stalled, asked = False, set(failed)
        while (place := self._spares.next(self.members, count, asked)) is not None:
            asked.add(place)
            self._joining.cancel()
            try:
                await self.leftovers.remove_at(place)
                copy, chain = await self._holders.seed(self._calls, self.places[place])
                await self._calls.hold_alone(place, copy, mark)
            except PrimaryLost:
                raise
            except Stalled as error:
                self._rest(place, error)
                self._calls.silent.add(place)
                stalled = True
            except (OSError, StratumError) as error:
                failed.add(place)
                self._drop({place: error})
            else:
                self._holders.add(copy, chain)
                self._spares.joined(place)
        return stalled

    # Copies

    async def _ask(self, mark: Mark) -> Failures:
        """Let all members hold *mark*, side by side. Returns those that cannot, none of them the primary.

        Raises: PrimaryLost; who failed beside it is a member no more.
        """
        failed = await self._calls.hold_each(self._holders.members, mark)
        for place, error in failed.items():
            if place == self.primary or isinstance(error, PrimaryLost):
                of_its_own = {each for each, other in failed.items() if not isinstance(other, PrimaryLost)}
                self._drop({each: failed[each] for each in of_its_own - {self.primary}})
                raise primary_lost(error)
        return failed

    async def _fold(self, copy: Copy) -> None:
        try:
            await self._calls.long(copy.place, copy.fold)
        except Stalled as error:  # it goes on by itself, or the next round judges
            _log.warning("a copy of the catalog is not folded yet", place=self._label(copy.place), reason=str(error))
        except (OSError, StratumError) as error:
            _log.warning("a copy of the catalog cannot be folded", place=self._label(copy.place), reason=str(error))
            if not is_starved(error):
                self._doubtful[copy.place] = error

    def _labels(self, places: Collection[PlaceId]) -> list[str]:
        return [self._label(place) for place in places]

    def _label(self, place: PlaceId) -> str:
        return self.places[place].label if place in self.places else place.hex()


async def _nothing(_: Mark) -> None:
    """What is under the turn before it is done."""
