"""Moves shards aside that no row places where they are: files come before their row, and a power cut can unmake that
row; or a shard was made anew on another device while this one was away."""

from collections import deque
from collections.abc import Callable, Mapping

import structlog
import trio

from stratumfs.catalog.damage import misplaced
from stratumfs.catalog.engine import Catalog
from stratumfs.errors import DeviceError, DeviceFull, DeviceSilent
from stratumfs.ids import DeviceId
from stratumfs.limits import LISTING_S, TRANSACTION_ROWS_MAX
from stratumfs.repair.fleet import Fleet
from stratumfs.shards.layout import FOLDERS, ShardName
from stratumfs.volumes.attached import AttachedDevice

_log = structlog.get_logger(__name__)

_CHUNK = 100
"""Shards that one call moves: it has a deadline."""


async def quarantine_unknown(
    catalog: Catalog, devices: Mapping[DeviceId, AttachedDevice]
) -> dict[DeviceId, DeviceError]:
    """Move every shard of *devices* aside that no row places there, and drop what was not finished. Durable on return.

    Called for devices that nobody writes to: by an owner that opens, before it opens a volume, for one that is being
    opened looks the same; and for a device that comes back. Nothing whole is deleted, for an older catalog must not
    destroy what a newer one knew.

    Returns the error of each device that could not do it; it keeps its files.
    """
    found: dict[DeviceId, list[ShardName]] = {}
    failures: dict[DeviceId, DeviceError] = {}
    async with trio.open_nursery() as nursery:
        for device in devices.values():
            nursery.start_soon(_list, device, found, failures)
    for ident, names in found.items():
        if aside := await _misplaced(catalog, ident, names):
            await _move(devices[ident], aside, failures)
    return failures


async def unknown_shards(catalog: Catalog, device: AttachedDevice) -> list[ShardName]:
    """Those of *device* that no row places there; nothing is changed. Raises: DeviceError."""
    names: list[ShardName] = []

    def list_one(folder: str) -> None:
        names.extend(device.shards.names(folder))

    await _in_each_folder(device, list_one)
    return await _misplaced(catalog, device.id, names)


async def set_aside(fleet: Fleet, device: AttachedDevice, name: ShardName) -> None:
    """Move one shard aside that no row places on *device* any more. What is not done here the next opening does; who
    fails in it is struck."""
    try:
        await device.write(device.shards.quarantine, [name])
    except (DeviceFull, DeviceSilent) as error:
        _log.warning("shard_not_set_aside", device=device.label, shard=str(name), error=str(error))
    except DeviceError as error:
        await fleet.strike(device.id, error)


async def drop_unfinished(device: AttachedDevice) -> None:
    """What was begun there and never came to be a shard goes. Nobody writes to the device. Raises: DeviceError."""
    await _in_each_folder(device, device.shards.drop_unfinished)


async def _list(
    device: AttachedDevice, found: dict[DeviceId, list[ShardName]], failures: dict[DeviceId, DeviceError]
) -> None:
    names: list[ShardName] = []

    def list_one(folder: str) -> None:
        device.shards.drop_unfinished(folder)
        names.extend(device.shards.names(folder))

    try:
        await _in_each_folder(device, list_one)
        found[device.id] = names
    except DeviceError as error:
        _log.warning("shards_not_listed", device=device.label, error=str(error))
        failures[device.id] = error


async def _in_each_folder(device: AttachedDevice, do: Callable[[str], None]) -> None:
    """*do* it in each folder in which shards may lie, in calls that keep their deadline however many there are."""
    left = deque(FOLDERS)

    def some() -> None:
        until = device.clock() + LISTING_S
        while left:
            do(left.popleft())
            if device.clock() >= until:
                return

    while left:
        await device.write(some)


async def _misplaced(catalog: Catalog, device: DeviceId, names: list[ShardName]) -> list[ShardName]:
    found: list[ShardName] = []
    for start in range(0, len(names), TRANSACTION_ROWS_MAX):
        chunk = tuple((name.volume, name.index) for name in names[start : start + TRANSACTION_ROWS_MAX])
        found += [ShardName(*shard) for shard in await catalog.read(misplaced, device, chunk)]
        await trio.lowlevel.checkpoint()
    return found


async def _move(device: AttachedDevice, names: list[ShardName], failures: dict[DeviceId, DeviceError]) -> None:
    try:
        for start in range(0, len(names), _CHUNK):
            await device.write(device.shards.quarantine, names[start : start + _CHUNK])
    except DeviceError as error:
        _log.warning("shards_not_quarantined", device=device.label, error=str(error))
        failures[device.id] = error
    else:
        _log.warning("shards_quarantined", device=device.label, shards=[str(name) for name in names])
