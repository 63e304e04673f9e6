"""What the writer of volumes wants of whoever keeps the list of them."""

from collections.abc import Sequence
from typing import Protocol

from stratumfs.ids import VolumeId
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.toc import TocEntry


class VolumeLedger(Protocol):
    """Keeps a row for each volume."""

    async def opened(self, volume: VolumeInfo) -> None:
        """Return when a row for the new *volume* is durable. No stripe of it is named before."""
        ...

    async def sealed(self, volume: VolumeId, length: int, stripes: int) -> None:
        """The volume takes no more stripes: *stripes* of them, whose cells end at *length* in each shard."""
        ...

    async def contents(self, volume: VolumeId) -> Sequence[TocEntry]:
        """What lies in the volume now, for its table of contents."""
        ...
