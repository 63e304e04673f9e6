"""What is read of the catalog beside its rounds by who makes images, dumps and backups of it."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import apsw
import trio

from stratumfs.catalog.checkpoints import Checkpoints
from stratumfs.catalog.connection import stable_view
from stratumfs.catalog.durability import Mark, Primary, PrimaryLost
from stratumfs.catalog.epochs import Named, NamedImage
from stratumfs.catalog.members import Members
from stratumfs.catalog.membership import Membership
from stratumfs.catalog.opening import Database
from stratumfs.catalog.rounds import Rounds
from stratumfs.catalog.spool import Spool, has_room
from stratumfs.catalog.standings import Standings
from stratumfs.catalog.transaction import Transaction
from stratumfs.errors import StoreBusy, StoreClosing, StoreReadOnly, StratumError
from stratumfs.ids import MIB
from stratumfs.limits import CHECKPOINT_BYTES, CHECKPOINT_LATE_BYTES, SNAPSHOT_LOG_MAX
from stratumfs.threads import in_thread

T = TypeVar("T")
U = TypeVar("U")
Ts = TypeVarTuple("Ts")

COPY_SPARE_LOG_BYTES, COPY_SPARE_LOG_SHARE = 128 * MIB, 8
"""Of a disk with a copy of the catalog, or such a share of a small one: half of what new data leaves free there
(`store.space`). Where it has less, nobody keeps the log from being started over."""
COPY_ROOM_S = 1.0
"""For a disk to say how much it has."""


@dataclass(frozen=True, slots=True)
class KeptLog:
    """The database that is written to, and a mark that every member holds. Used on the loop."""

    primary: Primary
    mark: Mark
    _checkpoints: Checkpoints
    _unkept: int

    def check(self) -> None:
        """What was read of the database and its log since the block began is of one state.

        Raises: StoreBusy if a checkpoint has run beside, which waits for nobody once the log is very long; PrimaryLost.
        """
        unkept = self._checkpoints.unkept
        if unkept != self._unkept or unkept % 2 or self.primary.salt() != self.mark.salt:
            raise StoreBusy("so much was written meanwhile that the log had to be folded: try again")


class Aside:
    """Of one open catalog, used on its loop. checkpoints: None if it is read-only; sync: the catalog's."""

    def __init__(
        self,
        rounds: Rounds,
        database: Database,
        members: Members,
        checkpoints: Checkpoints | None,
        sync: Callable[[], Awaitable[None]],
    ) -> None:
        self._rounds, self._database, self._members = rounds, database, members
        self._checkpoints, self._sync = checkpoints, sync
        self._asking: dict[Path, trio.CapacityLimiter] = {}

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[apsw.Connection]:
        """A connection of its own that shows one moment however long it is used: in threads, one call at a time.

        What it shows is durable. As long as it is open the log is not started over, and grows: whoever reads for long
        asks `check_log` again and again. It is closed before the catalog is.
        Raises: CatalogCorrupt, StoreReadOnly, StoreClosing.
        """
        if self._rounds.closed:
            raise StoreClosing("the catalog is closed")
        thread = trio.CapacityLimiter(1)
        view = await in_thread(stable_view, self._database.primary.folder, limiter=thread)
        try:
            if self._checkpoints is not None:
                await self._sync()
            yield view
        finally:
            with trio.CancelScope(shield=True):
                await in_thread(view.close, limiter=thread)

    async def read_beside(
        self, ask: Callable[[], Awaitable[U]], fn: Callable[[Transaction, *Ts], T], *args: *Ts
    ) -> tuple[T, U]:
        """What *fn* sees, and what *ask* finds in the copies, of one moment. Commits wait meanwhile: *ask* has a bound.

        Raises: what they raise; CatalogCorrupt, StoreClosing.
        """
        return await self._rounds.read_beside(ask, fn, *args)

    async def check_log(self) -> bool:
        """Whether the log is so long that who keeps it from being started over should hurry.

        Raises: StoreBusy if it has to give up, for the log is too long, or takes the room that the catalog needs.
        """
        primary = self._database.primary
        size = primary.wal_bytes()
        if size < self._members.log_bytes * CHECKPOINT_LATE_BYTES // CHECKPOINT_BYTES:
            return False
        has_its = size < SNAPSHOT_LOG_MAX and await in_thread(has_room, primary.folder, 0, size)
        if not has_its or not await self._copies_have_room():
            raise StoreBusy("so much was written meanwhile that the log must be started over: try again")
        return True

    async def _copies_have_room(self) -> bool:
        """For the log to go on growing, as far as their disks say so in time: a copy that has none is a member no more,
        and with too few of them nothing can be written."""
        members = self._members
        short = False

        async def ask(folder: Path) -> None:
            nonlocal short
            turn = self._asking.setdefault(folder, trio.CapacityLimiter(1))  # one that hangs is not asked again
            with suppress(OSError, StratumError):  # whoever writes there meets it
                fits = await in_thread(_has_log_room, folder, limiter=turn, abandon_on_cancel=True)
                short = short or not fits

        with trio.move_on_after(COPY_ROOM_S):
            async with trio.open_nursery() as nursery:
                for copy in members.copies if isinstance(members, Membership) else ():
                    nursery.start_soon(ask, copy.folder)
        return not short

    def spool_to(self, spool: Spool) -> None:
        """*spool* gets what a generation of the log has before it is over."""
        if self._checkpoints is not None:
            self._checkpoints.spool = spool

    @asynccontextmanager
    async def kept_log(self) -> AsyncIterator[KeptLog]:
        """No checkpoint runs in the block unless the log becomes very long: whoever relies on that calls `check`.

        Raises: StoreReadOnly, StoreClosing; StoreBusy if another place becomes the primary just now.
        """
        if self._checkpoints is None:
            raise StoreReadOnly("the catalog was opened read-only")
        async with self._members.log_kept:
            found: list[Mark] = []

            async def held(mark: Mark) -> None:
                await self._members.hold(mark)
                found.append(mark)

            try:
                await self._rounds.exclusive(held)
            except PrimaryLost as error:
                raise StoreBusy("another place has become the primary just now") from error
            yield KeptLog(self._database.primary, found[-1], self._checkpoints, self._checkpoints.unkept)

    @property
    def images(self) -> tuple[NamedImage, ...]:
        """The newest namespace images that a place names, the youngest first."""
        members = self._members
        found = [each.images for each in members.named if each.images] if isinstance(members, Membership) else []
        return max(found, key=lambda images: images[0].sequence, default=())

    async def name_images(self, images: Sequence[NamedImage]) -> bool:
        """All places that are there name these. False if one may name others still."""
        return await self._tell(partial(replace, images=tuple(images)))

    async def name_standings(self, said: Standings) -> None:
        """All places that are there say this of devices."""
        members = self._members
        if isinstance(members, Membership) and not all(each.standings.same(said) for each in members.named):
            await self._tell(partial(replace, standings=said))

    async def _tell(self, change: Callable[[Named], Named]) -> bool:
        return not isinstance(self._members, Membership) or await self._members.tell(change)


def _has_log_room(folder: Path) -> bool:
    """Blocking. Raises: OSError."""
    found = os.statvfs(folder)
    spare = min(COPY_SPARE_LOG_BYTES, found.f_blocks * found.f_frsize // COPY_SPARE_LOG_SHARE)
    return found.f_bavail * found.f_frsize >= spare
