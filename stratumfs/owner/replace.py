"""``stratumfs device replace``: another folder takes a device's slot, and what that one held is rebuilt.

The identity file of the store folder says whose slot it is; from then on the rebuild is what any repair is, found by
looking, and goes on in the next owner too. Asked again after a stop, it goes on where it was.
"""

import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import trio

from stratumfs.catalog.damage import bytes_on, shard_counts
from stratumfs.catalog.devices import forget_device
from stratumfs.devices.check import check_distinct, check_empty
from stratumfs.devices.folder import FolderFacts, look_at
from stratumfs.devices.identity import DeviceEntry, Identity, has_identity, read_identity
from stratumfs.devices.space import space_of
from stratumfs.errors import DeviceRefused, NotFound
from stratumfs.ids import DeviceId, random_id
from stratumfs.limits import PROGRESS_S
from stratumfs.owner.exchange import exchange, finish, in_time
from stratumfs.owner.folders import Folders
from stratumfs.owner.messages import Progress, ReplaceDevice
from stratumfs.owner.places import CATALOG_FOLDER
from stratumfs.owner.status import status
from stratumfs.owner.wire import Running
from stratumfs.shards.layout import QUARANTINE_FOLDER, VOLUMES_FOLDER

_log = structlog.get_logger(__name__)

Follow = Callable[[Progress], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Replacement:
    """old: whose slot it is, None where *new* has it already; warning: empty if there is none."""

    old: DeviceEntry | None
    new: DeviceEntry
    facts: FolderFacts
    warning: str


async def replace_device(running: Running, request: ReplaceDevice, follow: Follow, left: trio.Event) -> dict[str, Any]:
    """Do it, and wait until all that can be rebuilt is, or whoever asked has *left*. What it says: see ``_outcome``.

    Raises: NotFound, DeviceError, StoreInUse: then nothing was changed; what the catalog raises: asked again, it goes
    on.
    """
    async with running.folders.turn:
        found = await in_time(running.folders, Path(request.new), plan, running.folders, request)
        if found.old is not None:
            await _check_room(running, found.old, found.facts)
            await exchange(running, found.old, found.new, found.facts)
        await finish(running, found.new)
    running.store.repairer.returns.try_soon(found.new.id)
    await _wait_rebuilt(running, follow, left)
    return await _outcome(running, found)


def plan(folders: Folders, request: ReplaceDevice) -> Replacement:
    """What there is to do, if it may be done. Blocking. Raises: NotFound, DeviceRefused."""
    identity = folders.identity
    facts = look_at(Path(request.new))
    old = _named(identity, request.old)
    shared = [each for each in identity.devices if each != old and _disk(folders, each) == facts.st_dev]
    warning = f"{facts.path} shares its disk with {shared[0].path}: both fail together" if shared else ""
    own = _own(identity, facts.path)
    listed = next((each for each in identity.devices if own is not None and each.id == own.id), None)
    if listed is not None and (old is None or old == listed):
        return Replacement(None, listed, facts, warning)
    if old is None:
        raise NotFound(f"{request.old!r} names no device of this store: a path, an id, or TIER:SLOT")
    if old.mount_point and not facts.mount_point and not request.plain_folder:
        message = f"{old.path} was a mount point and {facts.path} is none: mount the new disk there (or --plain-folder)"
        raise DeviceRefused(message, str(facts.path))
    _check_place(folders, old, facts)
    begun = own is not None and listed is None and (own.tier, own.slot) == (old.tier, old.slot)
    if not begun:
        # An owner that has not noticed yet has made folders again in a device that was emptied under it.
        check_empty(facts.path, (VOLUMES_FOLDER, QUARANTINE_FOLDER, CATALOG_FOLDER) if facts.path == old.path else ())
    ident = own.id if begun and own is not None else DeviceId(random_id())
    new = DeviceEntry(ident, old.tier, old.slot, facts.path, facts.mount_point, facts.st_dev, facts.fs_uuid)
    return Replacement(old, new, facts, warning)


def _named(identity: Identity, text: str) -> DeviceEntry | None:
    """Texts are compared first: what is replaced may be a mount that hangs whoever looks at it."""
    for spelled in (os.path.abspath, os.path.realpath):
        path = Path(spelled(text))
        for each in identity.devices:
            if text in (each.id.hex(), f"{each.tier}:{each.slot}") or path == each.path:
                return each
    return None


def _own(identity: Identity, path: Path) -> DeviceEntry | None:
    """The device of this store that the identity file in *path* says it is, a listed one or one that never became."""
    if not has_identity(path):
        return None
    found = read_identity(path)
    return found.own if found.store == identity.store else None


def _disk(folders: Folders, entry: DeviceEntry) -> int | None:
    facts = folders.attached.facts.get(entry.id)
    return facts.st_dev if facts is not None else None


def _check_place(folders: Folders, old: DeviceEntry, facts: FolderFacts) -> None:
    """It is no other device's place, and lies in none and around none, nor around the store folder."""
    for each in folders.identity.devices:
        if each.id != old.id and each.path == facts.path:
            message = f"{facts.path} is the place of device {each.slot} of tier {each.tier}: give another folder"
            raise DeviceRefused(message, str(facts.path))
    check_distinct([facts, *(found for ident, found in folders.attached.facts.items() if ident != old.id)])
    if folders.folder == facts.path or folders.folder.is_relative_to(facts.path):
        raise DeviceRefused(f"the store folder {folders.folder} lies in {facts.path}", str(facts.path))


async def _check_room(running: Running, old: DeviceEntry, facts: FolderFacts) -> None:
    needed = await running.store.catalog.read(bytes_on, old.id)
    free = (await in_time(running.folders, facts.path, space_of, facts.path)).free
    if free < needed:
        message = f"{facts.path} has {free} bytes free, and {needed} are to be rebuilt there: give a larger disk"
        raise DeviceRefused(message, str(facts.path))


async def _wait_rebuilt(running: Running, follow: Follow, left_alone: trio.Event) -> None:
    total = await _left(running)

    async def tell() -> None:
        while True:
            left, work = await _left(running), running.store.repairer.work
            done = max(0, total - left) + (work.done if work is not None else 0)
            await follow(Progress("rebuilds", min(done, total), total))
            await trio.sleep(PROGRESS_S)

    async with trio.open_nursery() as nursery:

        async def leave() -> None:
            await left_alone.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(tell)
        nursery.start_soon(leave)
        await running.store.repairer.wait_settled()
        nursery.cancel_scope.cancel()


async def _lost(running: Running) -> list[DeviceId]:
    """Devices that rows name and the store has no more."""
    listed = {each.id for each in running.folders.identity.devices}
    return [ident for ident, *_ in await running.store.catalog.read(shard_counts) if ident not in listed]


async def _left(running: Running) -> int:
    """Bytes that are still to be rebuilt for them."""
    return sum([await running.store.catalog.read(bytes_on, ident) for ident in await _lost(running)])


async def _outcome(running: Running, found: Replacement) -> dict[str, Any]:
    """The device, what of the lost one is not rebuilt (bytes), what all data survives now, and a warning."""
    if found.old is not None and found.old.id not in await _lost(running):
        await running.store.catalog.write(forget_device, found.old.id)
    now = await status(running, ())
    return {
        "device": next(each for each in now["devices"] if each["id"] == found.new.id.hex()),
        "bytes_left": await _left(running),
        "damaged_shards": now["damaged_shards"],
        "missing_shards": now["missing_shards"],
        "devices_survived": now["devices_survived"],
        "disks_survived": now["disks_survived"],
        "warning": found.warning,
    }
