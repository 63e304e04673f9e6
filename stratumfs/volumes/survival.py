"""How many losses all data survives: of devices, and of disks. Pure.

A disk is what fails together: folders with one ``st_dev``. What counts is the least over all volumes and the catalog;
the store folder counts as a device.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shards:
    """What a volume, or all volumes that are alike, have now: *k* shards are needed; *disks* are those of the shards
    that are there, one entry a shard."""

    k: int
    disks: tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class Survival:
    """devices  any so many device folders may be lost at once; negative: some bytes cannot be read as it is
    disks    any so many disks, the one with the catalog among them; negative likewise
    """

    devices: int
    disks: int


def survival(volumes: Iterable[Shards], catalog_disks: Sequence[Hashable]) -> Survival:
    """The least over all *volumes* and the catalog, which lies whole on each of *catalog_disks*, one entry a place."""
    found = list(volumes)
    devices = min((len(each.disks) - each.k for each in found), default=0)
    disks = min((disks_survived(each) for each in found), default=0)
    return Survival(min(devices, len(catalog_disks) - 1), min(disks, len(set(catalog_disks)) - 1))


def disks_survived(shards: Shards) -> int:
    """Any so many disks may be lost: the worst case takes those that hold most."""
    left = len(shards.disks)
    if left < shards.k:
        return -1
    lost = 0
    for _, count in Counter(shards.disks).most_common():
        left -= count
        if left < shards.k:
            break
        lost += 1
    return lost
