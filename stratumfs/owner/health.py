"""How devices fare beside their peers, and what their disks say of themselves: who does badly is read last.

Nobody is struck for it. A device that fails or stalls is another matter, and the fleet's.
"""

from collections import defaultdict
from collections.abc import Mapping

import structlog
import trio

from stratumfs.devices.slow import NO_CALLS, Calls, slow_beside
from stratumfs.devices.smart import Smart, read_smart
from stratumfs.ids import DeviceId
from stratumfs.limits import HEALTH_LOOK_S, SLOW_SUSPECT_S, SMART_LOOK_S, SMART_WAIT_S
from stratumfs.store.fleet import Fleet
from stratumfs.threads import in_thread
from stratumfs.volumes.attached import AttachedDevice

_log = structlog.get_logger(__name__)


class Health:
    """One task of an owner with doors.

    smart  what the disks of devices have said last, where they say anything

    ``_before`` has the calls that there had been at the last look, by device and kind; ``_asking`` a slot for each
    disk: smartctl may hang with it, and keeps its thread until it returns.
    """

    def __init__(self, fleet: Fleet) -> None:
        self.smart: dict[DeviceId, Smart] = {}
        self._fleet = fleet
        self._before: Mapping[DeviceId, Mapping[str, Calls]] = {}
        self._asking: dict[int, trio.CapacityLimiter] = {}

    async def serve(self) -> None:
        """Until cancelled."""
        asked_at = float("-inf")
        while True:
            if trio.current_time() - asked_at >= SMART_LOOK_S:
                asked_at = trio.current_time()
                await self.ask_disks()
            self.look()
            await trio.sleep(HEALTH_LOOK_S)

    async def ask_disks(self) -> None:
        """Each disk once, side by side, however many devices it has."""
        by_disk: dict[int, list[DeviceId]] = defaultdict(list)
        for device in self._fleet.devices.values():
            if isinstance(device.disk, int):
                by_disk[device.disk].append(device.id)
        async with trio.open_nursery() as nursery:
            for disk, devices in by_disk.items():
                nursery.start_soon(self._ask, disk, devices)

    def look(self) -> None:
        """Doubt whoever is slow beside the others of its tier since the last look, or is on a disk that is failing."""
        found = {ident: _calls(device) for ident, device in self._fleet.devices.items()}
        before, self._before = self._before, found
        for tier in self._fleet.codes:
            for kind in ("read", "write"):
                since = {
                    each.id: found[each.id].get(kind, NO_CALLS).since(before.get(each.id, {}).get(kind, NO_CALLS))
                    for each in self._fleet.up(tier)
                }
                for ident, (mean_s, others_s) in slow_beside(since).items():
                    reason = f"a {kind} takes {mean_s * 1e3:.0f} ms, on the others {others_s * 1e3:.1f} ms"
                    self._fleet.doubt(ident, reason, SLOW_SUSPECT_S)
        for ident, smart in self.smart.items():
            if smart.failing is not None and not self._fleet.gone(ident):
                self._fleet.doubt(ident, smart.failing, 2 * HEALTH_LOOK_S)

    async def _ask(self, disk: int, devices: list[DeviceId]) -> None:
        limiter = self._asking.setdefault(disk, trio.CapacityLimiter(1))
        if limiter.borrowed_tokens:
            return
        with trio.move_on_after(SMART_WAIT_S):
            found = await in_thread(read_smart, disk, limiter=limiter, abandon_on_cancel=True)
            if found is not None:
                self.smart.update(dict.fromkeys(devices, found))


def _calls(device: AttachedDevice) -> dict[str, Calls]:
    """All that there have been, by kind."""
    counts, sums = dict[str, float](), dict[str, float]()
    for suffix, labels, value in device.seconds.samples():
        if suffix == "_count":
            counts[labels["call"]] = value
        elif suffix == "_sum":
            sums[labels["call"]] = value
    return {kind: Calls(int(count), sums[kind]) for kind, count in counts.items()}
