"""Which devices hold a new volume's shards. Pure."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from stratumfs.erasure.checksum import digest
from stratumfs.errors import DeviceFull
from stratumfs.ids import DeviceId, VolumeId


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device that could take a shard. disk: equal for devices that fail together; free: bytes."""

    device: DeviceId
    disk: Hashable
    free: int


def choose_devices(
    volume: VolumeId, n: int, candidates: Sequence[Candidate], used: Iterable[Hashable] = ()
) -> tuple[DeviceId, ...]:
    """*n* of *candidates* for *volume*, by cell index. used: the disk of each shard that it has already.

    Distinct disks first: no disk gets a second shard while another has none. Among equals, weighted rendezvous: each
    device draws a score from the volume's random id, a better one the more room it has; so the choice, and who holds
    parity, rotates from volume to volume without any state. With exactly n candidates it is all of them.

    Raises: DeviceFull if there are fewer than n.
    Source: Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", 2005.
    """
    if len(candidates) < n:
        raise DeviceFull(f"{len(candidates)} devices have room for a new volume, which needs {n}")
    ranked = sorted(candidates, key=lambda each: _score(volume, each))
    shards_on = Counter(used)
    layered = []
    for rank, candidate in enumerate(ranked):
        layer = shards_on[candidate.disk]
        shards_on[candidate.disk] += 1
        layered.append((layer, rank, candidate.device))
    chosen = sorted(sorted(layered)[:n], key=lambda each: each[1])
    return tuple(device for _, _, device in chosen)


def _score(volume: VolumeId, candidate: Candidate) -> float:
    """Smaller is better: exponentially distributed, at a rate that is the device's free space."""
    draw = (int.from_bytes(digest(volume + candidate.device)[:7], "little") + 1) / (2**56 + 1)
    return -math.log(draw) / max(candidate.free, 1)
