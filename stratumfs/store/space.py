"""How much more fits: known before bytes are taken, so that ENOSPC and 507 come early."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import trio

from stratumfs.erasure.code import Code
from stratumfs.errors import StoreFull
from stratumfs.ids import GIB, MIB, DeviceId
from stratumfs.volumes.attached import AttachedDevice

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
    low, high = 0, max(free)
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
    """Free space of a tier's devices, asked once a second and counted down in between.

    Owned by the store, used on the loop; ``serve`` runs in its nursery. A device that does not answer keeps its last
    number, so that a stall stops nobody here.
    """

    def __init__(self, devices: Mapping[DeviceId, AttachedDevice], code: Code) -> None:
        self._devices, self._code = devices, code
        self._sizes: dict[DeviceId, tuple[int, int]] = {}
        self._taken = 0
        self._asking: set[DeviceId] = set()
        self.now = TierSpace(0, 0)

    def check(self, count: int) -> None:
        """Take *count* payload bytes of what is free. Raises: StoreFull."""
        if count > self.now.free - self._taken:
            raise StoreFull(f"{max(0, self.now.free - self._taken) // MIB} MiB are left for new data")
        self._taken += count

    async def refresh(self) -> None:
        """Ask all devices; those that are still being asked keep their last number."""
        async with trio.open_nursery() as nursery:
            for device in self._devices.values():
                if device.id not in self._asking:
                    nursery.start_soon(self._ask, device)
            nursery.cancel_scope.deadline = trio.current_time() + _REFRESH_S
        self._sum_up()

    async def serve(self) -> None:
        while True:
            await trio.sleep(_REFRESH_S)
            await self.refresh()

    async def _ask(self, device: AttachedDevice) -> None:
        self._asking.add(device.id)
        try:
            self._sizes[device.id] = await device.read(_sizes, device)
        finally:
            self._asking.discard(device.id)

    def _sum_up(self) -> None:
        disks = Counter(self._devices[ident].disk for ident in self._sizes)
        free, total = [], []
        for ident, (size, left) in self._sizes.items():
            sharing = disks[self._devices[ident].disk]  # folders of one disk share what it has
            total.append((size - keep_free(size)) // sharing)
            free.append(max(0, left - keep_free(size)) // sharing)
        self.now = TierSpace(usable(total, self._code), usable(free, self._code))
        self._taken = 0


def _sizes(device: AttachedDevice) -> tuple[int, int]:
    return device.total(), device.free()
