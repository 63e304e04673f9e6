"""Where shards are made that cannot stay where they are."""

from collections.abc import Collection, Sequence

from stratumfs.catalog.volumes import VolumeRow
from stratumfs.errors import DeviceError
from stratumfs.ids import CellIndex, DeviceId
from stratumfs.repair.answer import ask
from stratumfs.repair.fleet import Fleet
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.placement import Candidate, choose_devices


async def new_homes(
    fleet: Fleet, row: VolumeRow, cells: Sequence[CellIndex], but: Collection[DeviceId]
) -> dict[CellIndex, AttachedDevice]:
    """A device of the tier for each of *cells* that holds none of the volume, is none of *but* and has room: the first
    of them if there are fewer."""
    taken = {*row.devices, *but}
    spare = {each.id: each for each in fleet.taking(row.tier) if each.id not in taken}
    candidates = []
    for device in spare.values():
        try:
            free = await ask(device, device.free)
        except DeviceError:
            continue
        if free > 2 * row.length:
            candidates.append(Candidate(device.id, device.disk, free))
    number = min(len(cells), len(candidates))
    if not number:
        return {}
    used = [each.disk for ident, each in fleet.devices.items() if ident in row.devices and not each.struck]
    chosen = choose_devices(row.id, number, candidates, used)
    return {cell: spare[ident] for cell, ident in zip(cells, chosen, strict=False)}
