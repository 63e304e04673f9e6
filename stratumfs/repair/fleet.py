"""What repair wants of whoever knows the devices and their folders."""

from collections.abc import Mapping
from typing import Protocol

from stratumfs.errors import DeviceError, DeviceFailed
from stratumfs.ids import DeviceId
from stratumfs.volumes.attached import AttachedDevice


class Fleet(Protocol):
    """What repair wants of whoever knows the devices' states.

    returning  a struck device that catches up, by the object that it was opened anew by: given up if it stalls
    """

    returning: AttachedDevice | None

    @property
    def devices(self) -> Mapping[DeviceId, AttachedDevice]: ...
    @property
    def struck(self) -> list[DeviceId]:
        """Those that are not up, and may come back."""
        ...

    @property
    def draining(self) -> list[DeviceId]:
        """Those whose shards are to be made on others, and that are up."""
        ...

    def label(self, device: DeviceId) -> str:
        """How messages name it."""
        ...

    def up(self, tier: str) -> list[AttachedDevice]: ...
    def taking(self, tier: str) -> list[AttachedDevice]: ...
    def refuse(self, device: DeviceId, error: DeviceError) -> None:
        """It is there again, and may not come back: it stays struck."""
        ...

    def full(self, device: DeviceId, error: DeviceError) -> None: ...
    async def strike(self, device: DeviceId, error: DeviceError) -> None: ...
    async def restore(self, device: AttachedDevice) -> None:
        """It takes writes again, durably, by this object from now on.

        Raises: DeviceFailed if it was replaced meanwhile.
        """
        ...


class Folders(Protocol):
    """Looks at the folders of devices. Blocking."""

    def check(self, device: DeviceId) -> None:
        """Raises: DeviceError if its folder is not this device any more."""
        ...

    def reopen(self, device: DeviceId) -> AttachedDevice:
        """A device that was struck or away, opened anew: its disk may be another mount by now.

        Raises: DeviceError if it is not there, does not take writes, or is locked by somebody; AnotherHistory.
        """
        ...


class NoFolders:
    """Of a store whose devices are what they are."""

    def check(self, device: DeviceId) -> None:
        pass

    def reopen(self, device: DeviceId) -> AttachedDevice:
        raise DeviceFailed("nobody can open it again")
