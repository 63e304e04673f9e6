"""``stratumfs device replace``: another folder takes a device's slot, and what that one held is rebuilt.

The identity file of the store folder says whose slot it is; from then on the rebuild is what any repair is, found by
looking, and goes on in the next owner too. Asked again after a stop, it goes on where it was.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import trio

from stratumfs.catalog.damage import devices_named
from stratumfs.catalog.devices import forget_removed
from stratumfs.catalog.held import held
from stratumfs.devices.check import BEGUN, check_empty
from stratumfs.devices.folder import FolderFacts, look_at
from stratumfs.devices.identity import DeviceEntry
from stratumfs.devices.space import space_of
from stratumfs.errors import DeviceRefused
from stratumfs.ids import DeviceId, random_id
from stratumfs.limits import NEVER_NS, PROGRESS_REST, PROGRESS_S
from stratumfs.owner.exchange import exchange, finish, in_time, is_used_up
from stratumfs.owner.folders import Folders
from stratumfs.owner.messages import Progress, ReplaceDevice
from stratumfs.owner.places import CATALOG_FOLDER
from stratumfs.owner.slots import check_place, demand_named, named, own, shared_disk
from stratumfs.owner.status import about_devices
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
        new = Path(request.new)
        used_up = await is_used_up(running, new)
        found = await in_time(running.folders, new, plan, running.folders, request, used_up)
        if found.old is not None:
            await _check_room(running, found.old, found.facts)
            await exchange(running, found.old, found.new, found.facts)
        await finish(running, found.new)
    running.store.repairer.returns.try_soon(found.new.id)
    await _wait_rebuilt(running, follow, left)
    return await _outcome(running, found)


def plan(folders: Folders, request: ReplaceDevice, used_up: bool) -> Replacement:
    """What there is to do, if it may be done. used_up: see `is_used_up`. Blocking. Raises: NotFound, DeviceRefused."""
    identity = folders.identity
    facts = look_at(Path(request.new))
    old = named(identity, request.old)
    warning = shared_disk(folders, facts, old)
    said = own(identity, facts.path)
    listed = next((each for each in identity.devices if said is not None and each.id == said.id), None)
    if listed is not None and (old is None or old == listed):
        return Replacement(None, listed, facts, warning)
    old = demand_named(identity, request.old)
    if old.mount_point and not facts.mount_point and not request.plain_folder:
        message = f"{old.path} was a mount point and {facts.path} is none: mount the new disk there (or --plain-folder)"
        raise DeviceRefused(message, str(facts.path))
    check_place(folders, facts, old)
    same_slot = said is not None and (said.tier, said.slot) == (old.tier, old.slot)
    begun = same_slot and listed is None and not used_up
    if not begun:
        # An owner that has not noticed yet has made folders again in a device that was emptied under it.
        again = (VOLUMES_FOLDER, QUARANTINE_FOLDER, CATALOG_FOLDER) if facts.path == old.path else ()
        check_empty(facts.path, (*BEGUN, *again))
    ident = said.id if begun and said is not None else DeviceId(random_id())
    new = DeviceEntry(ident, old.tier, old.slot, facts.path, facts.mount_point, facts.st_dev, facts.fs_uuid)
    return Replacement(old, new, facts, warning)


async def _check_room(running: Running, old: DeviceEntry, facts: FolderFacts) -> None:
    needed = (await held(running.store.catalog, old.id, NEVER_NS)).bytes  # what is kept for backups may go early
    free = (await in_time(running.folders, facts.path, space_of, facts.path)).free
    if free < needed:
        message = f"{facts.path} has {free} bytes free, and {needed} are to be rebuilt there: give a larger disk"
        raise DeviceRefused(message, str(facts.path))


async def _wait_rebuilt(running: Running, follow: Follow, left_alone: trio.Event) -> None:
    total = await _left(running)

    async def tell() -> None:
        while True:
            began = trio.current_time()
            left, works = await _left(running), running.store.repairer.works
            done = max(0, total - left) + sum(work.done for work in works)
            await follow(Progress("rebuilds", min(done, total), total))
            await trio.sleep(max(PROGRESS_S, PROGRESS_REST * (trio.current_time() - began)))

    async with trio.open_nursery() as nursery:

        async def leave() -> None:
            await left_alone.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(tell)
        nursery.start_soon(leave)
        await running.store.imager.leave(await _lost(running))  # first: what is superseded may be kept for backups
        await running.store.repairer.wait_settled()
        while running.folders.turn.locked():  # another device is on its way: what that one takes is not left
            async with running.folders.turn:
                pass
            await running.store.repairer.wait_settled()
        nursery.cancel_scope.cancel()


async def _lost(running: Running) -> list[DeviceId]:
    """Devices that rows name and the store has no more."""
    listed = {each.id for each in running.folders.identity.devices}
    return [ident for ident in await running.store.catalog.read(devices_named) if ident not in listed]


async def _left(running: Running) -> int:
    """Bytes that are still to be rebuilt for them."""
    catalog, since_ns = running.store.catalog, running.store.maintenance.kept_since_ns
    return sum([(await held(catalog, ident, since_ns)).bytes for ident in await _lost(running)])


async def _outcome(running: Running, found: Replacement) -> dict[str, Any]:
    """The device, what of the lost one is not rebuilt (bytes), what all data survives now, and a warning."""
    await running.store.catalog.write(forget_removed, tuple(each.id for each in running.folders.identity.devices))
    rest = {"bytes_left": await _left(running), "warning": found.warning}
    return await about_devices(running, found.new.id) | rest
