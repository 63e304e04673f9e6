"""Chains that count at no opening any more, and the room that they take.

A chain counts whose manifest names the newest epoch in force or a descendant of it (see `epochs`). Once an epoch is in
force, more than half of all places say so, and every opening that may write sees one of them: a chain whose manifest
does not descend from that epoch is never written to again, wherever it lies, and whatever the file of its own place
says, which may be behind where the disk was full. Only one that may not write, or that undoes what was answered since,
could miss it. So it may go; but it is kept, in case somebody needs it, as long as another copy would have room beside
it.

The manifest goes first: it must never name what is there in part. A stop behind that leaves a chain that nobody names.
Nobody waits for any of this but a copy that is to be made there, and no place is blamed for it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
import trio

from stratumfs.catalog import chains, seeding
from stratumfs.catalog.calls import Calls
from stratumfs.catalog.chains import Manifest
from stratumfs.catalog.connection import fsync_path
from stratumfs.catalog.deadlines import Stalled
from stratumfs.catalog.durability import Mark, PrimaryLost
from stratumfs.catalog.epochs import Epoch
from stratumfs.catalog.holders import Holders, close_lost
from stratumfs.catalog.members import Exclusive
from stratumfs.catalog.opening import Database
from stratumfs.catalog.places import Place
from stratumfs.catalog.progress import Progress, Step, unwatched
from stratumfs.catalog.spares import room_at
from stratumfs.catalog.succession import Succession
from stratumfs.errors import StratumError
from stratumfs.ids import PlaceId
from stratumfs.limits import REMOVED_S

ASIDE_MAX = 2
"""Chains that no manifest names any more, kept at a place that has room for them."""

Found = dict[PlaceId, list[Path]]

_log = structlog.get_logger(__name__)


def lacks_room(place: Path, needed: int) -> bool:
    """Whether *needed* more bytes would leave the disk less than is to be free there. Raises: OSError."""
    free, spare = room_at(place)
    return free - needed < spare


@dataclass(frozen=True, slots=True)
class Kept:
    """What is to stay at a place.

    in_force  what descends from this epoch, which is in force by the word of more than half of all places; None: nobody
              knows of one, and what is named stays
    used      names of chains that somebody is about to name
    needed    bytes that are about to come; where there is room for them more stays
    """

    in_force: Epoch | None
    used: Collection[str]
    needed: int

    def counts(self, manifest: Manifest) -> bool:
        return self.in_force is None or self.in_force.id in manifest.epoch.line or manifest.folder in self.used


def find(place: Path, kept: Kept) -> list[Path]:
    """Chains in the catalog folder *place* that are to go, the oldest first; the last of them may have a manifest.

    Raises: CatalogCorrupt, OSError: then nothing is known.
    """
    manifest = chains.read_manifest(place)
    named = [place / manifest.folder] if manifest is not None else []
    found = [each for each in chains.all_chains(place) if each.name not in kept.used and each not in named]
    found.sort(key=lambda each: each.stat().st_mtime_ns)
    if not place.exists() or not lacks_room(place, kept.needed):
        return found[: max(0, len(found) - ASIDE_MAX)]
    return found if manifest is None or kept.counts(manifest) else found + named


def set_aside(place: Path, kept: Kept, step: Step = unwatched) -> list[Path]:
    """As `find`; no manifest names them on return, whatever happens to the machine. Nobody writes one as long as
    somebody waits for this."""
    found = find(place, kept)
    if not found:
        return found
    manifest = chains.read_manifest(place)
    step()  # to read it may have taken longer than anybody waits, and the next owner has named another chain since
    if manifest is not None and place / manifest.folder in found:
        chains.forget_manifest(place)
    else:
        fsync_path(place)  # the manifest that was read may be newer than the one on the disk
    return found


def clear(place: Path, kept: Kept, step: Step) -> None:
    """Remove what is to go."""
    for folder in set_aside(place, kept, step):
        seeding.remove(folder, step)


def remove_closed(folder: Path, databases: Iterable[Database], step: Step) -> bool:
    """Remove a chain that no manifest names. *databases* are those in it that are open yet: as long as they are they
    keep their room. Returns whether nothing is left of it."""
    for database in databases:
        close_lost(database)
    seeding.remove(folder, step)
    return not folder.exists()


class Leftovers:
    """Of an open catalog, at *places* that can be reached. Who makes members beside the rounds holds *log_kept*."""

    def __init__(
        self,
        calls: Calls,
        places: Mapping[PlaceId, Place],
        succession: Succession,
        holders: Holders,
        log_kept: trio.Lock,
    ) -> None:
        self._calls, self._places, self._succession, self._holders = calls, places, succession, holders
        self._log_kept = log_kept
        self._needed = 0

    async def remove(self, exclusive: Exclusive) -> None:
        """Those that are to go; at a place that is at work, and may hang in it, not before a later look.

        Nobody is being made a member in the moment in which they are set aside.
        """
        found: Found = {}
        await self._each(find, [place for place in self._places if not self._calls.is_at_work(place)], found)
        if not found:
            return
        aside: Found = {}

        async def here(_: Mark) -> None:
            with trio.move_on_after(REMOVED_S):  # writes wait for it; a manifest that comes later waits in turn
                await self._each(set_aside, found, aside)

        async with self._log_kept:
            await exclusive(here)
        async with trio.open_nursery() as nursery:
            for place, folders in aside.items():
                nursery.start_soon(self._remove_beside, place, folders)

    async def remove_at(self, place: PlaceId) -> None:
        """Under the rounds' turn, where a copy is about to be made, which says itself if it cannot. Raises: Stalled."""
        look = partial(set_aside, self._places[place].folder, self._kept(place))
        try:
            await self._remove(place, await self._calls.long(place, look))
        except Stalled:
            raise
        except (OSError, StratumError) as error:  # a manifest that is damaged gives way to that of the copy
            _log.debug("nobody knows what is left over", place=self._label(place), error=str(error))

    async def remove_at_end(self, place: PlaceId) -> None:
        """Not behind long work there, which may hang: nobody makes a copy any more, until the next owner does."""
        progress = Progress()
        try:
            await self._calls.short(place, clear, self._places[place].folder, self._kept(place), progress.step)
        finally:
            progress.give_up()

    async def _remove_beside(self, place: PlaceId, folders: Sequence[Path]) -> None:
        """Nobody needs this at once, so a place that fails or stalls in it is left to others to judge."""
        try:
            await self._remove(place, folders)
        except (OSError, StratumError) as error:
            _log.warning("chains that count no more are not removed", place=self._label(place), reason=str(error))

    async def _remove(self, place: PlaceId, folders: Sequence[Path]) -> None:
        """Raises: Stalled; StratumError, OSError."""
        gone = 0
        for folder in folders:
            gone += await self._calls.long(place, partial(remove_closed, folder, self._holders.replaced_in(folder)))
        if folders:
            _log.info("chains that count no more are removed", place=self._label(place), chains=gone, of=len(folders))

    async def _each(self, fn: Callable[[Path, Kept], list[Path]], at: Collection[PlaceId], found: Found) -> None:
        """*found* is what *fn* finds at each of these places; a place that cannot say has nothing."""

        async def one(place: PlaceId) -> None:
            if (there := self._places.get(place)) is not None:
                folders = await self._calls.short(place, fn, there.folder, self._kept(place))
                if folders:
                    found[place] = folders

        failed = await self._calls.each(at, one, patient=False)
        for place, error in failed.items():
            _log.debug("nobody knows what is left over", place=self._label(place), error=str(error))

    def _kept(self, place: PlaceId) -> Kept:
        """What counts there, for it is of the epoch in force, or the next one is to name it; and a copy's size."""
        with suppress(PrimaryLost):
            self._needed = self._holders.database.primary.database_bytes()
        chain = self._holders.chains.get(place)
        return Kept(self._succession.proven, [chain.folder] if chain is not None else [], self._needed)

    def _label(self, place: PlaceId) -> str:
        return self._places[place].label if place in self._places else place.hex()
