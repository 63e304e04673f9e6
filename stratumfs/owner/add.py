"""``stratumfs device add``: one more device for a tier, beside those that it has.

From then on new volumes are placed on it too, the more of them the more room it has; nothing needs to move. The
identity file of the store folder says that it is one. Asked again after a stop, it goes on where it was.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stratumfs.devices.check import BEGUN, check_empty
from stratumfs.devices.folder import FolderFacts, look_at
from stratumfs.devices.identity import DeviceEntry
from stratumfs.errors import NotFound
from stratumfs.ids import DeviceId, random_id
from stratumfs.owner.exchange import enlist, finish, in_time, is_used_up
from stratumfs.owner.folders import Folders
from stratumfs.owner.messages import AddDevice
from stratumfs.owner.slots import check_place, own, shared_disk
from stratumfs.owner.status import about_devices
from stratumfs.owner.wire import Running


@dataclass(frozen=True, slots=True)
class Addition:
    """listed: it is one of the store's already; warning: empty if there is none."""

    new: DeviceEntry
    facts: FolderFacts
    listed: bool
    warning: str


async def add_device(running: Running, request: AddDevice) -> dict[str, Any]:
    """Do it. Returns the device, what all data survives now, and a warning.

    Raises: NotFound, DeviceError, StoreInUse: then nothing was changed; what the catalog raises: asked again, it goes
    on.
    """
    if request.tier not in running.store.fleet.codes:
        raise NotFound(f"this store has no tier {request.tier!r}: {', '.join(running.store.fleet.codes)}")
    async with running.folders.turn:
        new = Path(request.new)
        used_up = await is_used_up(running, new)
        found = await in_time(running.folders, new, plan, running.folders, request, used_up)
        if not found.listed:
            await enlist(running, found.new, found.facts)
        await finish(running, found.new)
    running.store.repairer.look_soon()
    return await about_devices(running, found.new.id) | {"warning": found.warning}


def plan(folders: Folders, request: AddDevice, used_up: bool) -> Addition:
    """What there is to do, if it may be done. used_up: see `is_used_up`. Blocking. Raises: DeviceRefused."""
    identity = folders.identity
    facts = look_at(Path(request.new))
    said = own(identity, facts.path)
    warning = shared_disk(folders, facts)
    for each in identity.devices:
        if said is not None and each.id == said.id and each.tier == request.tier and each.path == facts.path:
            return Addition(each, facts, True, warning)
    check_place(folders, facts)
    listed = said is not None and any(said.id == each.id for each in identity.devices)
    begun = said is not None and said.tier == request.tier and not listed and not used_up
    if not begun:
        check_empty(facts.path, BEGUN)
    ident = said.id if begun and said is not None else DeviceId(random_id())
    slot = 1 + max((each.slot for each in identity.devices if each.tier == request.tier), default=-1)
    new = DeviceEntry(ident, request.tier, slot, facts.path, facts.mount_point, facts.st_dev, facts.fs_uuid)
    return Addition(new, facts, False, warning)
