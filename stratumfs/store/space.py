"""How much more fits: known before bytes are taken, so that ENOSPC and 507 come early."""

import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog
import trio

from stratumfs.erasure.code import Code
from stratumfs.errors import StoreFull, StratumError
from stratumfs.ids import GIB, MIB, DeviceId
from stratumfs.limits import WINDOW_FREE_SHARE
from stratumfs.store.fleet import Fleet
from stratumfs.threads import in_thread
from stratumfs.volumes.attached import AttachedDevice

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_REFRESH_S = 1.0
SPACE_FIRST_S = 10.0
"""So long an opening waits for the first answers: until a device has said what it has, it counts for nothing."""
_KEEP_BYTES = 1 * GIB
_KEEP_SHARE = 50
_KEEP_LOG_BYTES = 256 * MIB


def keep_free(total: int) -> int:
    """Bytes of a device, or of the catalog's disk, that new data leaves alone: for deletes, for one repack, and for the
    catalog or a copy of it: a log as long as it may be is folded while it is there still, and what comes within the
    second between two looks is small files, in the catalog itself."""
    return max(min(_KEEP_BYTES, total // _KEEP_SHARE), min(_KEEP_LOG_BYTES, total // 4))


def usable(free: list[int], code: Code) -> int:
    """Payload bytes that fit on devices with so many *free* bytes each: in volumes of *code*, and in narrower ones, of
    1 + m devices at least, on those that are not full when others are."""
    fits = 0
    left = [each for each in free if each]
    while (width := min(code.n, len(left))) > code.m:
        level = _level(left, width)
        fits += level * (width - code.m)
        left = [each - level for each in left if each > level]
    return fits


def _level(free: list[int], width: int) -> int:
    """The most bytes per shard that fit, one shard of *width* on each of so many devices: the largest t for which the
    devices, none holding more than t of any one position, hold width * t."""
    low, high = 0, sum(free) // width
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(each, middle) for each in free) >= width * middle:
            low = middle
        else:
            high = middle - 1
    return low


@dataclass(frozen=True, slots=True)
class TierSpace:
    """Payload bytes of a tier: what fits in all, what still fits, and what fits of a repack that frees more."""

    total: int
    free: int
    for_repack: int = 0


class Space:
    """Free space of a tier's devices that are up, and of the catalog's folder: asked once a second and counted down in
    between.

    Owned by the store, used on the loop; it asks in the nursery that it was handed. A device that does not answer keeps
    its last number, and is not asked again until it does: a stall stops nobody here and takes one thread. A catalog
    without room takes no new data at all, so that deletes still find some.
    """

    def __init__(
        self,
        fleet: Fleet,
        tier: str,
        code: Code,
        catalog: Callable[[], Sequence[Path]],
        reusable: Callable[[], Awaitable[int]],
        nursery: trio.Nursery,
    ) -> None:
        """*catalog* says where the catalog lies now, and then its copies; *reusable* how many bytes of its file hold
        nothing."""
        self._fleet, self._tier, self._code, self._nursery = fleet, tier, code, nursery
        self._catalog, self._reusable = catalog, reusable
        self._sizes: dict[DeviceId, tuple[int, int]] = {}
        self._folders: dict[Path, tuple[int, int, int]] = {}
        self._catalog_spare = 0
        self._taken = 0
        self._asking: dict[DeviceId | Path, trio.Event] = {}
        self.now = TierSpace(0, 0)
        self.short = 0
        """Payload bytes that its devices lack until a WINDOW_FREE_SHARE is free."""
        self.refused: str | None = None
        """Why nothing new is taken however much is free on its devices: names the disk of the catalog that lacks it."""

    def check(self, count: int, *, freeing: bool = False) -> None:
        """Take *count* payload bytes of what is free; *freeing*: for a repack that frees more. Raises: StoreFull."""
        left = (self.now.for_repack if freeing else self.now.free) - self._taken
        if count > left or left <= 0:
            left_text = f"{max(0, left) // MIB} MiB are left for new data"
            raise StoreFull(self._fleet.shortage(self._tier) or self.refused or left_text)
        self._taken += count

    async def refresh(self, wait_s: float = _REFRESH_S) -> None:
        """Ask all of them, and wait a moment for the answers."""
        # The catalog goes on elsewhere where its disk hangs, and nobody asks there then if it is one question for both.
        for folder in self._catalog():
            self._begin(folder.parent, self._ask_folder, folder)
        for device in self._fleet.up(self._tier):
            self._begin(device.id, self._ask_device, device)
        with trio.move_on_after(wait_s):
            for answered in tuple(self._asking.values()):
                await answered.wait()
        self._sum_up()

    async def serve(self) -> None:
        while True:
            await trio.sleep(_REFRESH_S)
            await self.refresh()

    def _begin(self, place: DeviceId | Path, question: Callable[[T], Awaitable[None]], of: T) -> None:
        if place not in self._asking:
            self._asking[place] = trio.Event()
            self._nursery.start_soon(self._ask, place, question, of)

    async def _ask(self, place: DeviceId | Path, question: Callable[[T], Awaitable[None]], of: T) -> None:
        try:
            await question(of)
        except (OSError, StratumError) as error:
            _log.debug("free space is not known", place=str(of), error=str(error))
        finally:
            self._asking.pop(place).set()

    async def _ask_folder(self, folder: Path) -> None:
        """Where the catalog lies, or a copy; it may be none any more when it answers."""
        thread = trio.CapacityLimiter(1)
        self._folders[folder.parent] = await in_thread(_size_and_disk, folder, limiter=thread, abandon_on_cancel=True)
        self._catalog_spare = await self._reusable()

    async def _ask_device(self, device: AttachedDevice) -> None:
        self._sizes[device.id] = await device.read(_device_sizes, device)

    def _sum_up(self) -> None:
        places = {folder.parent for folder in self._catalog()}
        self._folders = {place: size for place, size in self._folders.items() if place in places}
        known = [device for device in self._fleet.up(self._tier) if device.id in self._sizes]
        disks = Counter(device.disk for device in known)
        taking = self._fleet.taking(self._tier)
        total, room, free, for_repack = [], [], [], []
        for device in known:
            size, left = self._sizes[device.id]
            sharing = disks[device.disk]  # folders of one disk share what it has
            total.append((size - keep_free(size)) // sharing)
            room.append(max(0, left - keep_free(size)) // sharing)
            if device in taking:
                free.append(room[-1])
                for_repack.append(max(0, left - keep_free(size) // 2) // sharing)
        self.refused = self._catalog_lacks(1)
        self.now = TierSpace(
            usable(total, self._code),
            usable(free, self._code) if self.refused is None else 0,
            usable(for_repack, self._code) if self._catalog_lacks(2) is None else 0,
        )
        # Whether a device takes new data just now, or the catalog has room, is another question.
        self.short = max(0, self.now.total // WINDOW_FREE_SHARE - usable(room, self._code))
        self._taken = 0

    def _catalog_lacks(self, part: int) -> str | None:
        """Where it has no more room than one *part* of what is kept free, and how much that is: some of it must be on
        its disk, for the log, and the rest there or in its file, which does not shrink when something is deleted.

        Half of that where a device lies on its disk, as with its copies: what is written there has left it all, and
        there may be more room on others. A copy goes to one of these before it has so little (`catalog.spares`), unless
        none has room for it. One that has said nothing yet is new. What a copy's place has said counts when the copy
        becomes the database, which lies in another folder there."""
        first, *copies = self._catalog()
        if first.parent not in self._folders:
            return f"{first} holds the catalog, and has not said yet how much is free there"
        disks = {device.disk for device in self._fleet.devices.values()}
        for folder in (first, *copies):
            total, free, disk = self._folders.get(folder.parent, (0, 1, 0))
            keep = keep_free(total) // (2 * part if folder != first or disk in disks else part)
            if not (free > keep // 2 and free + self._catalog_spare > keep):
                return (
                    f"{folder} holds the catalog: {free // MIB} MiB are free there, and more than {keep // MIB} must be"
                )
        return None


def _folder_size(folder: Path) -> tuple[int, int]:
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _size_and_disk(folder: Path) -> tuple[int, int, int]:
    return *_folder_size(folder), os.stat(folder).st_dev


def _device_sizes(device: AttachedDevice) -> tuple[int, int]:
    return device.total(), device.free()
