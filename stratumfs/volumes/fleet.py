"""What the writer of volumes wants of whoever knows the devices, and keeps the list of volumes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from stratumfs.devices.health import DeviceState
from stratumfs.errors import DeviceError
from stratumfs.ids import DeviceId, VolumeId
from stratumfs.volumes.attached import AttachedDevice


@dataclass(frozen=True, slots=True)
class SealMark:
    """Where a volume ends that takes no more stripes: *stripes* of them, whose cells end at *length* in each shard."""

    volume: VolumeId
    length: int
    stripes: int


class GivesUp(Protocol):
    """Whoever writes to devices."""

    def give_up(self, device: DeviceId) -> Sequence[SealMark]:
        """Write no more to volumes that have a shard on *device*, which is struck.

        Returns their ends: behind the last stripe that was handed out as synced.
        """
        ...


class Devices(Protocol):
    """Knows which devices are up, and strikes those that fail."""

    def up(self, tier: str) -> Sequence[AttachedDevice]:
        """Those that take writes, full ones too."""
        ...

    def taking(self, tier: str) -> Sequence[AttachedDevice]:
        """Those that take new volumes."""
        ...

    def refusal(self, tier: str) -> str | None:
        """Why a tier takes no writes at all, if it is so: fewer than 1 + m devices are up."""
        ...

    def full(self, device: DeviceId, error: DeviceError) -> None:
        """It had no room: it takes no new volumes for a while. It has not failed."""
        ...

    async def strike(self, device: DeviceId, error: DeviceError, state: DeviceState = DeviceState.FAILED) -> None:
        """Return when the device is struck for good. Harmless for one that is. READ_ONLY: a sync of it failed."""
        ...

    async def settle(self) -> None:
        """Return when no strike is under way."""
        ...
