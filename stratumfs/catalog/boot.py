"""Opening a catalog that lies at several places: which chain counts, where it is written to, who holds it.

Before SQLite opens anything the identity files are read: `epochs` says which chain goes on. The primary is the store
folder's if that can be written to, else the place where the chain was found. Then an epoch is begun, always, and every
member holds the chosen chain, synced, before anybody sees it.
"""

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import structlog
import trio

from stratumfs.catalog import chains
from stratumfs.catalog.calls import Calls
from stratumfs.catalog.chains import SALTS, Chain, ChainDamaged, Form, Manifest
from stratumfs.catalog.copies import fits
from stratumfs.catalog.deadlines import Stalled, call_within
from stratumfs.catalog.durability import PrimaryLost
from stratumfs.catalog.epochs import Candidate, Choice, FoundChain, choose, choose_members, newest_in_force
from stratumfs.catalog.holders import Holders
from stratumfs.catalog.membership import Membership
from stratumfs.catalog.migrations import Migration
from stratumfs.catalog.opening import Database, begin, check_version, open_database
from stratumfs.catalog.places import Found, Place, chain_of, labels, look
from stratumfs.catalog.progress import Step
from stratumfs.catalog.snapshot import CopyAt
from stratumfs.errors import CatalogCorrupt, ConfigError, DeviceError, StoreReadOnly
from stratumfs.ids import STORE_PLACE, PlaceId
from stratumfs.limits import STRIKE_S
from stratumfs.threads import in_thread

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

LOOK_S = STRIKE_S
"""For the small files of a place. One that does not answer by then is not used, and the opening goes on."""
FOLD_S = 10 * STRIKE_S
"""For what a copy has to fold before its end is known: a whole log or two, in random order on a slow disk."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found at the places that can be reached.

    chains  how far those go that could be chosen
    silent  places that did not answer by the deadline, and why they are not used: they are none of *places*, though
            what they had said until then counts
    doubted what is opened where it lies is to be checked as a whole, whatever its end was
    """

    places: Mapping[PlaceId, Place]
    found: Mapping[PlaceId, Found]
    chains: Mapping[PlaceId, FoundChain]
    choice: Choice
    silent: Mapping[PlaceId, str]
    doubted: bool = False

    @property
    def manifest(self) -> Manifest:
        """Of the chain that was chosen."""
        found = self.found[self.choice.holder].manifest
        assert found is not None
        return found

    @property
    def unreadable(self) -> dict[PlaceId, str]:
        """Places whose manifest names a chain that cannot be read."""
        return {
            ident: f"{self.places[ident].folder} cannot be read"
            for ident, found in self.found.items()
            if found.manifest is not None and ident in self.places and ident not in self.chains
        }

    @property
    def closed_in_order(self) -> bool:
        """Whether the chain that was chosen ends where its own place was told last: all of it was synced, as it is
        behind a close, or by an owner that was killed when it had written nothing since it last told."""
        named = self.found[self.choice.holder].named
        ended = named is not None and named.sequence == self.chains[self.choice.holder].sequence
        return ended and not self.doubted


@dataclass(frozen=True, slots=True)
class Booted:
    """An open database. members: None if it is read-only, and then ``why_not`` says why; ids as `IdBlocks` wants them.

    scratch  a folder that is to be removed when it is closed
    copies   of one that is read-only: other chains that go as far
    damaged  chains that were left out, and are made anew, and why
    """

    database: Database
    ids: dict[str, int]
    members: Membership | None
    why_not: str = ""
    scratch: Path | None = None
    copies: tuple[CopyAt, ...] = ()
    damaged: Mapping[PlaceId, str] = field(default_factory=dict)


async def survey(places: Sequence[Place], damaged: Collection[PlaceId] = ()) -> Survey:
    """Read what the places say, and choose; the chains of *damaged* are not, but what these know of epochs counts.

    Raises: ConfigError if no place has a catalog.
    """
    found: dict[PlaceId, Found] = {}
    silent: dict[PlaceId, str] = {}

    async def one(place: Place) -> None:
        try:
            found[place.id] = await _by(LOOK_S, look, place)
        except TimeoutError as error:
            silent[place.id] = str(error)

    await _side_by_side([partial(one, place) for place in places])
    for place in places:
        if problem := silent.get(place.id) or found[place.id].problem:
            _log.warning("a place cannot say what it knows of the catalog", place=place.label, reason=problem)
    by_id = {place.id: place for place in places}
    named = {ident: each.named for ident, each in found.items() if each.named is not None}
    manifests = {ident: each.manifest for ident, each in found.items() if each.manifest is not None}
    newest = newest_in_force(named.values()).id if named else ""
    lengths = await _chains(by_id, {ident: manifests[ident] for ident in manifests.keys() - damaged}, newest, silent)
    choice = choose(named, lengths, labels(by_id))
    if isinstance(choice, str):
        raise ConfigError(choice)
    there = {ident: place for ident, place in by_id.items() if ident not in silent}
    return Survey(there, found, lengths, choice, silent)


async def _chains(
    places: Mapping[PlaceId, Place], manifests: Mapping[PlaceId, Manifest], newest: str, silent: dict[PlaceId, str]
) -> dict[PlaceId, FoundChain]:
    """How far the chains go that count; of others, which must not even be folded, only that they are there."""
    lengths: dict[PlaceId, FoundChain] = {}

    async def one(ident: PlaceId, manifest: Manifest) -> None:
        if newest not in manifest.epoch.line:
            lengths[ident] = FoundChain(manifest.epoch, 0)
            return
        try:
            chain = await _by(FOLD_S, chain_of, places[ident], manifest)
        except TimeoutError as error:
            silent[ident] = str(error)
        else:
            if chain is not None:
                lengths[ident] = chain

    await _side_by_side([partial(one, ident, manifest) for ident, manifest in manifests.items()])
    return lengths


async def boot(
    seen: Survey,
    listed: frozenset[PlaceId],
    m: int,
    files: Mapping[str, str],
    version: int,
    migrations: Sequence[Migration],
) -> Booted:
    """Open what was chosen: for writing if that may be.

    *listed* are all places of the store, *m* the losses that must be survived, *files* what travels with the catalog.
    Raises: ConfigError, CatalogCorrupt, StoreFull, OSError.
    """
    why_not, unreadable = seen.choice.why_not, seen.unreadable
    struck, damaged, stalled = dict(seen.silent), dict[PlaceId, str](), set[PlaceId]()
    while not why_not:
        holder = seen.choice.holder
        primary = STORE_PLACE if STORE_PLACE in seen.places else holder
        try:
            booted = await _open_for_writing(seen, primary, struck, listed, m, files, version, migrations)
            return replace(booted, damaged=unreadable | damaged)
        except StoreReadOnly as error:
            why_not = str(error)
        except ChainDamaged as error:
            if len(seen.places) == 1:
                raise
            _log.error("a damaged catalog is left out", place=seen.places[holder].label, reason=str(error))
            damaged[holder] = str(error)
        except Stalled as error:
            if len(seen.places) == 1:
                raise
            # Of the two that it was copied between it may be either: the primary, if another one stalls with it too.
            if holder == primary or primary in stalled:
                struck[primary] = str(error)
                damaged.clear()  # who stalled with it may be whole
            else:
                damaged[holder] = str(error)
                stalled.add(primary)
            hangs = primary if primary in struck else holder
            _log.warning("a place hangs while the catalog is opened", place=seen.places[hangs].label)
        except (PrimaryLost, CatalogCorrupt, DeviceError, OSError) as error:
            if len(seen.places) == 1:
                raise
            _log.warning("a place cannot be the primary", place=seen.places[primary].label, reason=str(error))
            struck[primary] = str(error)
        left = [place for ident, place in seen.places.items() if ident not in struck]
        try:
            seen = await survey(left, damaged)
        except ConfigError:
            if not damaged:
                raise
            why_not = f"all that is left of the catalog is damaged: {'; '.join(damaged.values())}"
            break
        struck |= seen.silent
        why_not = why_not or seen.choice.why_not
        if why_not and damaged:
            why_not = f"{why_not} (and {'; '.join(damaged.values())})"
    while True:
        _log.warning("the catalog is opened read-only", reason=why_not)
        try:
            return replace(await _open_for_reading(seen, version, why_not), damaged=unreadable | damaged)
        except ChainDamaged as error:
            damaged[seen.choice.holder] = str(error)
            why_not = f"{why_not} (and {error})"
            try:
                seen = await survey([*seen.places.values()], damaged)
            except ConfigError:
                raise error from None


async def _open_for_writing(
    seen: Survey,
    primary: PlaceId,
    struck: dict[PlaceId, str],
    listed: frozenset[PlaceId],
    m: int,
    files: Mapping[str, str],
    version: int,
    migrations: Sequence[Migration],
) -> Booted:
    """*struck* are not used, and those are added that fail, for the next attempt too."""
    chain = await Calls(m, lambda: 0, {}).long(seen.choice.holder, partial(_prepare, seen, primary))
    database = await _in_thread(open_database, seen.places[primary].folder / chain.folder)
    try:
        named = {ident: each.named for ident, each in seen.found.items() if each.named is not None}
        holders = Holders(database, primary, chain)
        members = Membership(seen.places, listed, m, seen.choice.parent, named, files, holders)
        members.struck = struck
        fitting = _spread(seen.places, primary, await _fitting(seen, primary, chain, database), m + 2)
        await members.begin(fitting)
        ids, mark = await _in_thread(begin, database, version, migrations)
        await members.hold(mark)
    except BaseException:
        with trio.CancelScope(shield=True):
            await _in_thread(database.close)
        raise
    return Booted(database, ids, members)


def _prepare(seen: Survey, primary: PlaceId, step: Step) -> Chain:
    """The chain to write to at the place *primary*: the one that was chosen, or a database made of it there. Blocks.

    What is copied is checked as a whole. What is opened where it lies is checked if its owner did not close it: that
    costs as much as reading it, which a large store should not pay at every opening. Raises: ChainDamaged; OSError,
    CatalogCorrupt if the fault is the primary's; nothing is left of what was made then.
    """
    manifest, holder = seen.manifest, seen.choice.holder
    if holder == primary and manifest.form is Form.DATABASE:
        if not seen.closed_in_order:
            chains.check_database(seen.places[primary].folder / manifest.folder, step)
        return Chain(manifest.folder, Form.DATABASE, manifest.salt)
    folder = chains.new_chain(seen.places[primary].folder)
    try:
        salt = chains.build_database(seen.places[holder].folder, manifest, folder, step)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)  # the place may be used no more, and then nobody looks there
        raise
    _log.warning("the catalog is made anew of a copy", place=seen.places[primary].label, copy=seen.places[holder].label)
    return Chain(folder.name, Form.DATABASE, salt)


async def _fitting(seen: Survey, primary: PlaceId, chain: Chain, database: Database) -> dict[PlaceId, Chain]:
    """Copies that held the newest epoch and can go on with the generation that is open: all else is seeded anew."""
    generation = (database.primary.salt() - chain.salt) % SALTS
    fitting: dict[PlaceId, Chain] = {}

    async def one(ident: PlaceId, manifest: Manifest) -> None:
        try:
            if await _by(LOOK_S, _fits, seen.places[ident], manifest, generation):
                fitting[ident] = Chain(manifest.folder, Form.COPY, manifest.salt)
        except TimeoutError as error:
            _log.warning("a copy of the catalog is not used", place=seen.places[ident].label, reason=str(error))

    await _side_by_side(
        [
            partial(one, ident, manifest)
            for ident in seen.chains  # none of those that are damaged, or could not be read
            if ident != primary
            and ident in seen.places
            and (manifest := seen.found[ident].manifest) is not None
            and (manifest.form, manifest.salt) == (Form.COPY, chain.salt)
            and seen.choice.parent.id in manifest.epoch.line
        ]
    )
    return fitting


def _spread(
    places: Mapping[PlaceId, Place], primary: PlaceId, fitting: Mapping[PlaceId, Chain], count: int
) -> dict[PlaceId, Chain]:
    """Those of *fitting* to go on with: none that shares a disk with another member while another disk can have one."""
    candidates = [Candidate(ident, place.disk, ident in fitting) for ident, place in places.items()]
    keep = [each for each in candidates if each.place == primary]
    chosen = choose_members(keep, candidates, count)
    return {ident: chain for ident, chain in fitting.items() if ident in chosen}


def _fits(place: Place, manifest: Manifest, generation: int) -> bool:
    return fits(place.folder / manifest.folder, generation)


async def _open_for_reading(seen: Survey, version: int, why_not: str) -> Booted:
    """A database as it lies; a copy is made one in a folder that goes away again."""
    manifest, place = seen.manifest, seen.places[seen.choice.holder]
    scratch: Path | None = None
    folder = place.folder / manifest.folder
    if manifest.form is Form.COPY:
        folder = scratch = await _in_thread(_scratch, place, manifest)
    try:
        database = await _in_thread(partial(open_database, folder, read_only=True))
        try:
            check_version(database, version)
        except BaseException:
            database.close()
            raise
    except BaseException:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Booted(database, {}, None, why_not, scratch, tuple(_copies(seen)))


def _copies(seen: Survey) -> Iterator[CopyAt]:
    """Copies beside the chosen chain that have all that it has."""
    longest = seen.chains[seen.choice.holder]
    for ident, chain in seen.chains.items():
        manifest = seen.found[ident].manifest
        if ident == seen.choice.holder or ident not in seen.places or manifest is None:
            continue
        if manifest.form is Form.COPY and (chain.epoch, chain.sequence) == (longest.epoch, longest.sequence):
            place = seen.places[ident]
            yield CopyAt(ident, place.label, place.folder / manifest.folder, manifest.salt, untouched=True)


def _scratch(place: Place, manifest: Manifest) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="stratumfs-"))
    try:
        chains.build_database(place.folder, manifest, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


async def _in_thread(fn: Callable[[*Ts], T], *args: *Ts) -> T:
    return await in_thread(fn, *args, limiter=trio.CapacityLimiter(1))


async def _by(seconds: float, fn: Callable[[*Ts], T], *args: *Ts) -> T:
    """*fn* in a thread that nobody waits for beyond the deadline. Raises: also Stalled then, a TimeoutError."""
    return await call_within(seconds, trio.CapacityLimiter(1), fn, *args)


async def _side_by_side(calls: Sequence[Callable[[], object]]) -> None:
    async with trio.open_nursery() as nursery:
        for call in calls:
            nursery.start_soon(call)  # type: ignore[arg-type]  # partials of async functions
