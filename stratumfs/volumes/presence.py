"""Which shards of volumes are there: asked of the devices themselves, not of what anybody remembers."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence

import trio

from stratumfs.errors import DeviceError, ShardMissing
from stratumfs.ids import CellIndex, DeviceId, VolumeId
from stratumfs.shards.layout import ShardName
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import VolumeInfo

Present = dict[VolumeId, set[CellIndex]]


async def shards_present(
    devices: Mapping[DeviceId, AttachedDevice],
    volumes: Collection[VolumeInfo],
    wait_s: float,
) -> tuple[Present, set[DeviceId]]:
    """The cells of each volume whose shard file is there, and the devices that did not say within *wait_s*.

    A file that is there may still be damaged: reads and scrubs find that. One thread a device, all at once.
    """
    wanted: dict[DeviceId, list[ShardName]] = defaultdict(list)
    for volume in volumes:
        for number, device in enumerate(volume.devices):
            wanted[device].append(ShardName(volume.id, CellIndex(number)))
    present: Present = {volume.id: set() for volume in volumes}
    silent: set[DeviceId] = set(devices)

    async def ask(device: AttachedDevice, names: Sequence[ShardName]) -> None:
        found = await device.read(_existing, device, names)
        silent.discard(device.id)
        for name in found:
            present[name.volume].add(name.index)

    with trio.move_on_after(wait_s):
        async with trio.open_nursery() as nursery:
            for one in devices.values():
                nursery.start_soon(ask, one, wanted.get(one.id, []))
    return present, silent


def _existing(device: AttachedDevice, names: Sequence[ShardName]) -> list[ShardName]:
    found = []
    for name in names:
        try:
            device.shards.size(name)
        except ShardMissing:
            continue
        except DeviceError:
            break  # what it cannot say now it cannot give either
        found.append(name)
    return found
