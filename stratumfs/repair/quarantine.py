"""Moves shards aside that no row knows: a volume's files come before its row, and a power cut can unmake that row."""

from collections.abc import Mapping

import structlog
import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.volumes import unknown_volumes
from stratumfs.errors import DeviceError
from stratumfs.ids import DeviceId, VolumeId
from stratumfs.limits import TRANSACTION_ROWS_MAX
from stratumfs.shards.layout import ShardName
from stratumfs.volumes.attached import AttachedDevice

_log = structlog.get_logger(__name__)

_CHUNK = 100
"""Shards that one call moves: it has a deadline."""


async def quarantine_unknown(
    catalog: Catalog, devices: Mapping[DeviceId, AttachedDevice]
) -> dict[DeviceId, DeviceError]:
    """Move every shard of *devices* aside whose volume has no row. Durable on return.

    Called by an owner that opens, before it opens a volume: one that is being opened looks the same. Nothing is
    deleted, for an older catalog must not destroy what a newer one knew.

    Returns the error of each device that could not do it; it keeps its files.
    """
    found: dict[DeviceId, list[ShardName]] = {}
    failures: dict[DeviceId, DeviceError] = {}
    async with trio.open_nursery() as nursery:
        for device in devices.values():
            nursery.start_soon(_list, device, found, failures)
    unknown = await _unknown(catalog, {name.volume for names in found.values() for name in names})
    for ident, names in found.items():
        aside = [name for name in names if name.volume in unknown]
        if aside:
            await _move(devices[ident], aside, failures)
    return failures


async def _list(
    device: AttachedDevice, found: dict[DeviceId, list[ShardName]], failures: dict[DeviceId, DeviceError]
) -> None:
    try:
        found[device.id] = await device.read(_names, device)
    except DeviceError as error:
        _log.warning("shards_not_listed", device=device.label, error=str(error))
        failures[device.id] = error


def _names(device: AttachedDevice) -> list[ShardName]:
    return list(device.shards.names())


async def _unknown(catalog: Catalog, idents: set[VolumeId]) -> set[VolumeId]:
    asked = sorted(idents)
    unknown: set[VolumeId] = set()
    for start in range(0, len(asked), TRANSACTION_ROWS_MAX):
        chunk = tuple(asked[start : start + TRANSACTION_ROWS_MAX])
        unknown.update(await catalog.read(unknown_volumes, chunk))
        await trio.lowlevel.checkpoint()
    return unknown


async def _move(device: AttachedDevice, names: list[ShardName], failures: dict[DeviceId, DeviceError]) -> None:
    try:
        for start in range(0, len(names), _CHUNK):
            await device.write(device.shards.quarantine, names[start : start + _CHUNK])
    except DeviceError as error:
        _log.warning("shards_not_quarantined", device=device.label, error=str(error))
        failures[device.id] = error
    else:
        _log.warning("shards_quarantined", device=device.label, shards=[str(name) for name in names])
