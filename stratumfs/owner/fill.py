"""Notices a new disk in the place of one that failed, and fills it as ``stratumfs device replace`` would.

Only where the device was a mount point when it became one, and an empty file system is mounted there now: an empty
folder looks like the mount point of a disk that is not mounted, and is left alone. And only a disk of its own: memory,
or a folder of a disk that another device is on, becomes a device when somebody asks for it.
"""

import structlog
import trio

from stratumfs.devices.check import BEGUN, NOT_FOREIGN
from stratumfs.devices.folder import FolderFacts, look_at
from stratumfs.devices.health import DeviceState
from stratumfs.devices.identity import DEVICE_FILE, DeviceEntry
from stratumfs.errors import DeviceError, DeviceFailed, DeviceRefused, DeviceSilent, StratumError
from stratumfs.ids import DeviceId
from stratumfs.limits import REPAIR_LOOK_S
from stratumfs.owner.exchange import in_time
from stratumfs.owner.folders import Folders
from stratumfs.owner.messages import Progress, ReplaceDevice
from stratumfs.owner.mounts import mount_at
from stratumfs.owner.places import COLD_KEY_FILE
from stratumfs.owner.replace import replace_device
from stratumfs.owner.slots import own, shared_disk
from stratumfs.owner.wire import Running

_log = structlog.get_logger(__name__)

_OURS = NOT_FOREIGN | {DEVICE_FILE, COLD_KEY_FILE, f"{COLD_KEY_FILE}.new", *BEGUN}
"""What a replacement that was stopped may have left, beside what every new file system has."""

_MEMORY = frozenset({"tmpfs", "ramfs"})


class Filler:
    """One task of an owner with doors. ``_said`` has what was logged last of each device that could not be filled."""

    def __init__(self, running: Running) -> None:
        self._running = running
        self._said: dict[DeviceId, str] = {}

    async def serve(self) -> None:
        """Until cancelled."""
        while True:
            await trio.sleep(REPAIR_LOOK_S)
            await self.round()

    async def round(self) -> None:
        """Look at the place of each device that failed."""
        fleet, folders = self._running.store.fleet, self._running.folders
        for ident in [each.id for each in folders.identity.devices]:
            if self._running.store.catalog.read_only:
                return
            entry = folders.entry(ident)
            if entry is None:  # it left the store while another one was looked at
                continue
            if entry.mount_point and fleet.state(entry.id)[0] is DeviceState.FAILED:
                try:
                    if await in_time(folders, entry.path, is_new_disk, folders, entry):
                        await self._fill(entry)
                except DeviceSilent:
                    continue
                except StratumError as error:
                    if self._said.get(entry.id) != str(error):
                        _log.warning("device_not_filled", device=str(entry.path), reason=str(error))
                    self._said[entry.id] = str(error)

    async def _fill(self, entry: DeviceEntry) -> None:
        _log.warning("new_disk_noticed", device=str(entry.path), tier=entry.tier, slot=entry.slot)
        request, left = ReplaceDevice(entry.id.hex(), str(entry.path)), trio.Event()
        left.set()
        await replace_device(self._running, request, _nobody, left)


def is_new_disk(folders: Folders, entry: DeviceEntry) -> bool:
    """Whether an empty file system is mounted where *entry* was; or one that was about to be filled. Blocking.

    Raises: DeviceFailed; DeviceRefused if it is no disk of its own.
    """
    try:
        facts = look_at(entry.path)
        if not facts.mount_point or any(each.name not in _OURS for each in facts.path.iterdir()):
            return False
        said = own(folders.identity, facts.path)
    except OSError as error:
        raise DeviceFailed(f"{entry.path} cannot be read: {error.strerror}", str(entry.path)) from error
    except DeviceError:
        return False  # nothing is there, or it is damaged: for people to look at
    if said is None and (facts.path / DEVICE_FILE).exists():
        return False
    if said is not None:
        listed = any(each.id == said.id for each in folders.identity.devices)
        if listed or (said.tier, said.slot) != (entry.tier, entry.slot):
            return False
    _check_own_disk(folders, entry, facts)
    return True


def _check_own_disk(folders: Folders, entry: DeviceEntry, facts: FolderFacts) -> None:
    """Raises: DeviceRefused."""
    mount = mount_at(facts.path)
    reason = shared_disk(folders, facts, entry)
    if mount is not None and mount.filesystem in _MEMORY:
        reason = f"{facts.path} is in memory ({mount.filesystem})"
    if reason:
        raise DeviceRefused(f"{reason}: `stratumfs device replace` takes it", str(facts.path))


async def _nobody(progress: Progress) -> None:
    """Nobody asked."""
