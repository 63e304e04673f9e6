"""How much more fits: known before bytes are taken, so that ENOSPC and 507 come early."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from stratumfs.erasure.code import Code
from stratumfs.errors import StoreFull, StratumError
from stratumfs.ids import GIB, MIB, DeviceId
from stratumfs.volumes.attached import AttachedDevice

_log = structlog.get_logger(__name__)

_REFRESH_S = 1.0
_KEEP_BYTES = 1 * GIB
_KEEP_SHARE = 50


def keep_free(total: int) -> int:
    """Bytes of a device that new data leaves alone: for the catalog, deletes, and one repack."""
    return min(_KEEP_BYTES, total // _KEEP_SHARE)


def usable(free: list[int], code: Code) -> int:
    """Payload bytes that fit on devices with so many *free* bytes each, one shard of n on each of n devices.

    The most stripes-worth t per shard for which the devices, none holding more than t of any one position, hold n * t.
    """
    if len(free) < code.n:
        return 0
    low, high = 0, sum(free) // code.n
    while low < high:
        middle = (low + high + 1) // 2
        if sum(min(each, middle) for each in free) >= code.n * middle:
            low = middle
        else:
            high = middle - 1
    return low * code.k


@dataclass(frozen=True, slots=True)
class TierSpace:
    """Payload bytes of a tier: what fits in all, what still fits."""

    total: int
    free: int


class Space:
    """Free space of a tier's devices and of the catalog's folder, asked once a second and counted down in between.

    Owned by the store, used on the loop; it asks in the nursery that it was handed. A device that does not answer keeps
    its last number, and is not asked again until it does: a stall stops nobody here and takes one thread. A catalog
    without room takes no new data at all, so that deletes still find some.
    """

    def __init__(
        self, devices: Mapping[DeviceId, AttachedDevice], code: Code, catalog: Path, nursery: trio.Nursery
    ) -> None:
        self._devices, self._code, self._catalog, self._nursery = devices, code, catalog, nursery
        self._sizes: dict[DeviceId | None, tuple[int, int]] = {}
        self._taken = 0
        self._asking: dict[DeviceId | None, trio.Event] = {}
        self._catalog_limiter = trio.CapacityLimiter(1)
        self.now = TierSpace(0, 0)

    def check(self, count: int) -> None:
        """Take *count* payload bytes of what is free. Raises: StoreFull."""
        left = self.now.free - self._taken
        if count > left or left <= 0:
            raise StoreFull(f"{max(0, left) // MIB} MiB are left for new data")
        self._taken += count

    async def refresh(self) -> None:
        """Ask all of them, and wait a moment for the answers."""
        for ident in (None, *self._devices):
            if ident not in self._asking:
                self._asking[ident] = trio.Event()
                self._nursery.start_soon(self._ask, ident)
        with trio.move_on_after(_REFRESH_S):
            for answered in tuple(self._asking.values()):
                await answered.wait()
        self._sum_up()

    async def serve(self) -> None:
        while True:
            await trio.sleep(_REFRESH_S)
            await self.refresh()

    async def _ask(self, ident: DeviceId | None) -> None:
        try:
            if ident is None:
                sizes = await trio.to_thread.run_sync(
                    _folder_sizes, self._catalog, limiter=self._catalog_limiter, abandon_on_cancel=True
                )
            else:
                device = self._devices[ident]
                sizes = await device.read(_device_sizes, device)
            self._sizes[ident] = sizes
        except (OSError, StratumError) as error:
            _log.debug("free space is not known", place=ident.hex() if ident else "catalog", error=str(error))
        finally:
            self._asking.pop(ident).set()

    def _sum_up(self) -> None:
        disks = Counter(self._devices[ident].disk for ident in self._sizes if ident is not None)
        free, total = [], []
        for ident, (size, left) in self._sizes.items():
            if ident is not None:
                sharing = disks[self._devices[ident].disk]  # folders of one disk share what it has
                total.append((size - keep_free(size)) // sharing)
                free.append(max(0, left - keep_free(size)) // sharing)
        size, left = self._sizes.get(None, (0, 0))
        fits = usable(free, self._code) if left > keep_free(size) else 0
        self.now = TierSpace(usable(total, self._code), fits)
        self._taken = 0


def _device_sizes(device: AttachedDevice) -> tuple[int, int]:
    return device.total(), device.free()


def _folder_sizes(folder: Path) -> tuple[int, int]:
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
