"""What the store tidies behind its users: inodes without a name, large truncates, uploads, empty and idle volumes."""

import time
from collections.abc import Awaitable, Callable, Collection, Sequence

import structlog
import trio

from stratumfs.catalog.clean import forget_clean, has_stale
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.extents import clear_void, voided_inodes
from stratumfs.catalog.reap import inline_bytes, orphans, reap
from stratumfs.catalog.untold import note_untold, untold
from stratumfs.catalog.uploads import drop_parts, forget_uploads, old_uploads, stale_uploads
from stratumfs.catalog.vacated import Vacated, forget_vacated, vacated
from stratumfs.catalog.volumes import FREED, VolumeRow, empty_volumes, forget_volume, free_volumes, volumes
from stratumfs.errors import StratumError
from stratumfs.ids import InodeNo, VolumeId
from stratumfs.limits import (
    MAINTENANCE_INTERVAL_S,
    NEVER_NS,
    REAP_CHUNK,
    REAP_DELAY_S,
    TRANSACTION_ROWS_MAX,
    UPLOAD_REMEMBERED_S,
    VOLUME_FREE_GRACE_S,
)
from stratumfs.store.heirs import Heirs
from stratumfs.store.holds import Holds
from stratumfs.store.reader import Reader
from stratumfs.store.writer import Writer

_log = structlog.get_logger(__name__)

FreeShards = Callable[[VolumeRow], Awaitable[bool]]
"""Unlinks all shards of a volume that nothing points at any more. False if one could not be reached: later again."""
Unlink = Callable[[Vacated], Awaitable[bool]]
"""Unlinks a file that a volume has left. False if it could not be reached: later again."""
Forgotten = Callable[[VolumeId], None]
"""Told of each volume that is no more."""


class Maintenance:
    """One task in the store's nursery. Each step is a bounded transaction and leaves a state that is right by itself.

    ``_waiting`` holds orphans that somebody still has open; they are looked at again when they are let go.

    writer     of the tier that takes new data; writers: of all tiers
    forgotten  told of each volume that is gone
    unnamed    volumes that rows may be about to name
    heirs      of what was moved, in all tiers
    turn       held by a round, and so by whoever unlinks

    want_image is called where a volume waits for a namespace image.
    """

    def __init__(
        self,
        catalog: Catalog,
        reader: Reader,
        writer: Writer,
        writers: Collection[Writer],
        free_shards: FreeShards,
        unlink: Unlink,
        forgotten: Forgotten,
        unnamed: Callable[[], frozenset[VolumeId]],
        heirs: Heirs,
    ) -> None:
        self.holds = Holds(self._released)
        self._catalog, self._reader, self._free_shards, self._unlink = catalog, reader, free_shards, unlink
        self._writer, self._writers, self._forgotten, self._unnamed = writer, writers, forgotten, unnamed
        self.want_image: Callable[[], None] = lambda: None
        self.keep_s = 0.0
        """So long shards of freed volumes stay where there is room: an older catalog, brought back from a backup, names
        them."""
        self._heirs = heirs
        self._noted = 0
        self._begun = False
        self._unkept: set[VolumeId] = set()
        self._due = trio.Event()
        self._waiting: set[InodeNo] = set()
        self._voided: set[InodeNo] = set()
        self.turn = trio.Lock()

    @property
    def kept_since_ns(self) -> int:
        """Volumes that were freed since then are kept; none if it is in the future."""
        return time.time_ns() - int(self.keep_s * 1e9) if self.keep_s else NEVER_NS

    def wake(self) -> None:
        """Something may have lost its last name."""
        self._due.set()

    def clear_soon(self, ino: InodeNo) -> None:
        """A truncate or overwrite left rows to clear."""
        self._voided.add(ino)
        self._due.set()

    def keep_not(self, volumes: Collection[VolumeId]) -> None:
        """These are freed, and no file of an older catalog has bytes in them. A later owner does not know that."""
        self._unkept.update(volumes)

    async def serve(self) -> None:
        """Until cancelled; begins with what the last owner left. An error is logged and tried again later."""
        self._voided.update(await self._catalog.read(voided_inodes))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve_round)
            nursery.start_soon(self._serve_reaping)

    async def round(self) -> None:
        """Everything once."""
        async with self.turn:
            self._writer.inline.learn(await self._catalog.read(inline_bytes))
            if not self._writable:
                return
            await self._tidy_uploads()
            await self.reap()
            for writer in self._writers:
                if writer.read_only is None:
                    await writer.volumes.seal_idle()
            await self._free_volumes()

    async def reap(self) -> None:
        """What lost its last name, and what large truncates and overwrites hid."""
        if self._writable:
            await self._clear_voids()
            await self._reap()

    @property
    def _writable(self) -> bool:
        return not self._catalog.read_only and self._writer.read_only is None

    async def _serve_round(self) -> None:
        while True:
            await _log_errors(self.round)
            await trio.sleep(MAINTENANCE_INTERVAL_S)

    async def _serve_reaping(self) -> None:
        while True:
            await self._due.wait()
            await trio.sleep(REAP_DELAY_S)  # `rm -rf` and a busy S3 client wake it often: reap what came together
            self._due = trio.Event()
            await _log_errors(self.reap)

    def _released(self, ino: InodeNo) -> None:
        if ino in self._waiting:
            self._waiting.discard(ino)
            self._due.set()

    async def _clear_voids(self) -> None:
        for ino in tuple(self._voided):
            while await self._catalog.write(clear_void, ino):
                await trio.lowlevel.checkpoint()
            self._voided.discard(ino)

    async def _reap(self) -> None:
        after = InodeNo(0)
        while chunk := await self._catalog.read(orphans, after):
            after = chunk[-1]
            # Asked without an await before the reaping: nobody can open an inode that has no name.
            self._waiting.update(ino for ino in chunk if ino in self.holds)
            free = [ino for ino in chunk if ino not in self.holds]
            while free:
                again = await self._catalog.write(reap, tuple(free[:REAP_CHUNK]))
                free = again + free[REAP_CHUNK:]
                await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()  # any number of them may be held

    async def _tidy_uploads(self) -> None:
        now_ns = time.time_ns()
        for ident in await self._catalog.read(stale_uploads):
            while await self._catalog.write(drop_parts, ident, now_ns):
                await trio.lowlevel.checkpoint()
        # Read first: a store that nobody uses writes nothing.
        if old := await self._catalog.read(old_uploads, now_ns - int(UPLOAD_REMEMBERED_S * 1e9)):
            await self._catalog.write(forget_uploads, old)

    async def _free_volumes(self) -> None:
        """Empty volumes are marked; their shards go after the sync of that and the grace period, then their rows."""
        await self._note_untold()
        now_ns = time.time_ns()
        while await self._catalog.read(has_stale, now_ns):  # a store that nobody uses writes nothing
            await self._catalog.write(forget_clean, now_ns)
            await trio.lowlevel.checkpoint()
        empty = await self._catalog.read(empty_volumes, now_ns)
        # Asked without an await in between: a sealed volume gets no more stripes, and nobody finds an empty one.
        spare = self._reader.kept() | self._unnamed()
        if free := [ident for ident in empty if ident not in spare]:
            await self._catalog.write(free_volumes, tuple(free), now_ns)
        grace_ns = now_ns - int(VOLUME_FREE_GRACE_S * 1e9)
        await self._unlink_vacated(grace_ns)
        await self._unlink_freed(grace_ns, now_ns - int(self.keep_s * 1e9))

    async def _note_untold(self) -> None:
        """That something waits for an image is known to the next owner, and to this one of the last."""
        if not self._begun:
            newest = max((image.sequence for image in self._catalog.aside.images), default=0)
            if (sequence := await self._catalog.read(untold)) > newest:
                self._heirs.begun(sequence)
            self._begun = True
        if self._noted != (found := self._heirs.untold):
            await self._catalog.write(note_untold)
            self._noted = found

    async def _unlink_vacated(self, grace_ns: int) -> None:
        """What volumes have left that moved whole, but where somebody may still read it. What cannot be unlinked holds
        up nothing else."""
        last: Vacated | None = None
        while found := await self._catalog.read(vacated, last):
            last = found[-1]
            due = [each for each in found if each.since_ns <= grace_ns and each.volume not in self._reader.kept()]
            if due:
                await self._catalog.sync()
            gone = [each for each in due if await self._unlink(each)]
            if gone:
                await self._catalog.write(forget_vacated, gone)
            await trio.lowlevel.checkpoint()

    async def _unlink_freed(self, grace_ns: int, window_ns: int) -> None:
        """Those that cannot be unlinked everywhere are tried again in the next round, and hold up none.

        grace_ns, window_ns: what was freed since then stays, the latter for backups.
        """
        early = await self._wanted_room(grace_ns, window_ns)
        after = b""
        while rows := await self._catalog.read(volumes, FREED, after, TRANSACTION_ROWS_MAX):
            after = rows[-1].id
            over = [row for row in rows if row.changed_ns <= grace_ns and row.id not in self._reader.kept()]
            due = [row for row in over if row.changed_ns <= window_ns or row.id in self._unkept or row.id in early]
            due = [row for row in due if await self._is_told_of(row)]
            if due:
                await self._catalog.sync()
            for row in due:
                if await self._free_shards(row) and await self._catalog.write(forget_volume, row.id, row.devices):
                    self._unkept.discard(row.id)
                    self._heirs.forget(row.id)
                    self._forgotten(row.id)
            await trio.lowlevel.checkpoint()

    async def _is_told_of(self, row: VolumeRow) -> bool:
        """Whether a table of contents or an image says where what lay in a freed volume lies now. Volumes that are open
        yet are sealed for that. Else a catalog that is lost then would be made again without these bytes.

        An image needs room, so that a tier that is nearly full waits for none.
        """
        for heir in self._heirs.wait_for(row.id) or ():
            for writer in self._writers:
                if writer.read_only is None:
                    await writer.volumes.seal(heir)
        waits = self._heirs.wait_for(row.id)
        if waits is None:
            return True
        if waits:
            return False
        self.want_image()
        return any(writer.tier == row.tier and writer.space.short for writer in self._writers)

    async def _wanted_room(self, grace_ns: int, window_ns: int) -> set[VolumeId]:
        """What is kept for backups alone, and whose room a tier needs more."""
        short = {writer.volumes.tier: writer.space.short for writer in self._writers if writer.space.short}
        if not short:
            return set()
        kept: list[VolumeRow] = []
        after = b""
        while rows := await self._catalog.read(volumes, FREED, after, TRANSACTION_ROWS_MAX):
            after = rows[-1].id
            kept += [row for row in rows if window_ns < row.changed_ns <= grace_ns and row.id not in self._unkept]
            await trio.lowlevel.checkpoint()
        found = [
            row for tier, count in short.items() for row in oldest([row for row in kept if row.tier == tier], count)
        ]
        if found:
            until = time.strftime("%F %T", time.localtime(max(row.changed_ns for row in found) / 1e9))
            _log.warning(
                "the store is nearly full: a catalog of before then that is brought back will miss bytes",
                then=until,
                volumes=len(found),
            )
        return {row.id for row in found}


def oldest(rows: Sequence[VolumeRow], count: int) -> list[VolumeRow]:
    """Those that were freed first, until they hold *count* payload bytes."""
    found: list[VolumeRow] = []
    for row in sorted(rows, key=lambda row: row.changed_ns):
        if count <= 0:
            break
        found.append(row)
        count -= row.length * row.k
    return found


async def _log_errors(step: Callable[[], Awaitable[None]]) -> None:
    try:
        await step()
    except StratumError as error:
        _log.warning("tidying stopped, and goes on later", error=str(error))
