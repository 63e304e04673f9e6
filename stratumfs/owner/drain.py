"""``stratumfs device drain``: what a device holds is made on others, so that it can be removed.

A row says that it is to be so; the rest is what any repair is, found by looking, and goes on in the next owner too. The
device takes no new volumes meanwhile, and what it holds is read and counted upon until a row says where else it lies;
its files are moved aside there then.
"""

from pathlib import Path
from typing import Any

import trio

from stratumfs.catalog.damage import Held
from stratumfs.catalog.held import held
from stratumfs.devices.identity import DeviceEntry
from stratumfs.errors import DeviceError, DeviceRefused
from stratumfs.ids import DeviceId
from stratumfs.limits import NEVER_NS, PROGRESS_REST, PROGRESS_S
from stratumfs.owner.exchange import in_time
from stratumfs.owner.messages import DrainDevice, Progress
from stratumfs.owner.replace import Follow
from stratumfs.owner.slots import demand_named
from stratumfs.owner.status import about_devices
from stratumfs.owner.wire import Running


async def drain_device(running: Running, request: DrainDevice, follow: Follow, left: trio.Event) -> dict[str, Any]:
    """Begin it, and wait until the device holds nothing that is wanted, no more can be done now, or whoever asked has
    *left*. Returns the device, what it holds still (bytes, shards), and what all data survives now.

    Raises: NotFound, DeviceRefused: then nothing was changed; what the catalog raises.
    """
    folders, fleet = running.folders, running.store.fleet
    async with folders.turn:
        entry = await in_time(folders, Path(request.device), demand_named, folders.identity, request.device)
        if not request.stop:
            await _check(running, entry)
        await fleet.drain(entry.id, not request.stop)
    if not request.stop:
        await _wait_drained(running, entry.id, follow, left)
    left_there = await held_by(running, entry.id)
    rest = {"bytes_left": left_there.bytes, "shards_left": left_there.shards}
    return await about_devices(running, entry.id) | rest


async def held_by(running: Running, device: DeviceId) -> Held:
    """What it holds that is wanted."""
    return await held(running.store.catalog, device, running.store.maintenance.kept_since_ns)


async def _check(running: Running, entry: DeviceEntry) -> None:
    """Others take what it holds, and volumes keep their width. Raises: DeviceRefused."""
    fleet = running.store.fleet
    code = fleet.codes[entry.tier]
    others = [each for each in fleet.taking(entry.tier) if each.id != entry.id]
    if len(others) < code.n:
        raise DeviceRefused(
            f"{len(others)} others of tier {entry.tier} take new volumes, and k + m = {code.n} must: add one first",
            str(entry.path),
        )
    # What is kept for backups moves too, as far as there is room, and goes early where there is little.
    needed, free = (await held(running.store.catalog, entry.id, NEVER_NS)).bytes, 0
    for device in others:
        try:
            free += await in_time(running.folders, Path(device.label), device.free)
        except DeviceError:
            continue
    if free < needed:
        raise DeviceRefused(
            f"the other devices of tier {entry.tier} have {free} bytes free, and {needed} are to go there: add one",
            str(entry.path),
        )


async def _wait_drained(running: Running, device: DeviceId, follow: Follow, left: trio.Event) -> None:
    repairer = running.store.repairer
    total = (await held_by(running, device)).bytes

    async def tell() -> None:
        while True:
            began = trio.current_time()
            now, works = (await held_by(running, device)).bytes, repairer.works
            done = max(0, total - now) + sum(work.done for work in works)
            await follow(Progress("drains", min(done, total), total))
            await trio.sleep(max(PROGRESS_S, PROGRESS_REST * (trio.current_time() - began)))

    async with trio.open_nursery() as nursery:

        async def leave() -> None:
            await left.wait()
            nursery.cancel_scope.cancel()

        nursery.start_soon(tell)
        nursery.start_soon(leave)
        while shards := (await held_by(running, device)).shards:
            await running.store.imager.leave([device])
            await repairer.wait_settled()
            # A volume that was opened while it began is found by the next look; where nothing moved, nothing can now.
            if (await held_by(running, device)).shards == shards:
                break
        nursery.cancel_scope.cancel()
