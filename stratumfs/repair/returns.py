"""Takes devices back that were struck: opened anew, verified and made whole shard by shard, and then up.

A step is one shard, so that volumes that are more urgent are repaired between two of them.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
import trio

from stratumfs.catalog.damage import shards_on
from stratumfs.catalog.engine import Catalog
from stratumfs.errors import AnotherHistory, DeviceError, DeviceFailed, DeviceSilent
from stratumfs.ids import CellIndex, DeviceId, VolumeId
from stratumfs.limits import REPAIR_RETURN_S
from stratumfs.repair.answer import in_time
from stratumfs.repair.fleet import Fleet, Folders
from stratumfs.repair.quarantine import drop_unfinished, quarantine_unknown
from stratumfs.threads import in_thread
from stratumfs.volumes.attached import AttachedDevice

_log = structlog.get_logger(__name__)

Mend = Callable[[AttachedDevice, VolumeId, CellIndex], Awaitable[None]]
"""Returns when that shard on the device was verified, was made anew, or is known to be damaged. Raises: DeviceError if
the device fails in this."""


@dataclass(slots=True)
class _Return:
    """A device that catches up. tidy: what was never finished on it is gone; waiting: the next of the shards to verify,
    which lie behind *after* in the catalog."""

    device: AttachedDevice
    tidy: bool = False
    after: VolumeId | bytes = b""
    waiting: list[tuple[VolumeId, CellIndex]] = field(default_factory=list)


class Returns:
    """One device catches up at a time; used by the repairer's task. The fleet gives it up if it stalls."""

    def __init__(self, catalog: Catalog, fleet: Fleet, mend: Mend) -> None:
        self._catalog, self._fleet, self._mend = catalog, fleet, mend
        self._current: _Return | None = None
        self._tries: dict[DeviceId, int] = {}
        self._not_before: dict[DeviceId, float] = {}
        self._opening: dict[DeviceId, trio.CapacityLimiter] = {}

    @property
    def under_way(self) -> AttachedDevice | None:
        """The device that catches up: there is a next `step`."""
        return self._current.device if self._current is not None else None

    def heed(self, device: DeviceId) -> None:
        """It was struck, or errs: not before a while has passed it is tried to take it back."""
        if device in self._fleet.struck:
            delay = REPAIR_RETURN_S * 2 ** min(self._tries.get(device, 0), 10)
            self._not_before.setdefault(device, trio.current_time() + delay)

    def again_in_s(self, device: DeviceId) -> float | None:
        """For how long it is not tried to take a struck device back; None if it is tried with every look."""
        left_s = self._not_before.get(device, float("-inf")) - trio.current_time()
        return left_s if left_s > 0 else None

    def try_soon(self, device: DeviceId) -> None:
        """Somebody says that it is well."""
        self._not_before.pop(device, None)

    async def look(self, folders: Folders) -> None:
        """Open a device anew that is there again, unless one catches up already.

        One whose folder hangs keeps a thread until it answers, and is not looked at meanwhile.
        """
        for ident in [] if self._current else self._fleet.struck:
            opening = self._opening.setdefault(ident, trio.CapacityLimiter(1))
            if opening.borrowed_tokens or self._not_before.get(ident, float("-inf")) > trio.current_time():
                continue
            reopen = in_thread(folders.reopen, ident, limiter=opening, abandon_on_cancel=True)
            try:
                device = await in_time(self._fleet.label(ident), reopen)
            except DeviceSilent as error:
                _log.warning("device_not_opened", device=self._fleet.label(ident), error=str(error))
                self._back_off(ident)
            except AnotherHistory as error:
                self._fleet.refuse(ident, error)
            except DeviceError:
                continue  # it is still away
            else:
                _log.info("device_catches_up", device=device.label)
                self._set(_Return(device))
                return

    async def step(self) -> bool:
        """Verify the next shard of the device that catches up; behind the last one it is up. Whether that is so.

        A device that fails or hangs in this is given up, and comes back later.
        """
        found = self._current
        assert found is not None
        if found.device.id not in self._fleet.struck:  # replaced meanwhile
            self._set(None)
            return False
        try:
            return await self._step(found)
        except DeviceError as error:
            _log.warning("device_not_caught_up", device=found.device.label, error=str(error))
            self._set(None)
            found.device.strike(DeviceFailed(str(error), found.device.label))  # for whoever waits for this object
            self._back_off(found.device.id)
            return False

    def _set(self, found: _Return | None) -> None:
        self._current = found
        self._fleet.returning = self.under_way

    async def _step(self, found: _Return) -> bool:
        device = found.device
        if not found.tidy:
            await drop_unfinished(device)
            found.tidy = True
        if not found.waiting:
            found.waiting = await self._catalog.read(shards_on, device.id, found.after)
        if found.waiting:
            ident, cell = found.waiting[0]
            await self._mend(device, ident, cell)
            found.after = ident
            del found.waiting[0]
            return False
        for error in (await quarantine_unknown(self._catalog, {device.id: device})).values():
            raise error
        await self._fleet.restore(device)
        self._set(None)
        self._tries[device.id] = self._tries.get(device.id, 0) + 1
        self._not_before.pop(device.id, None)
        _log.info("device_caught_up", device=device.label)
        return True

    def _back_off(self, device: DeviceId) -> None:
        self._not_before.pop(device, None)
        self._tries[device] = self._tries.get(device, 0) + 1
        self.heed(device)
