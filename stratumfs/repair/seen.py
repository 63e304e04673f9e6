"""What looks at the devices have found of shard files: which are missing, and of which nothing is known. Pure."""

from collections.abc import Callable, Collection

from stratumfs.ids import CellIndex, DeviceId, VolumeId


class Seen:
    """Kept by the repairer, read by anybody on its loop.

    missing  shards whose device is up and has no such file, of each volume that lacks any
    listeners  told of each shard that was made anew, before the catalog is
    took_s   for how long the last look at all volumes went on; None before the first has ended
    """

    def __init__(self) -> None:
        self.missing: dict[VolumeId, frozenset[CellIndex]] = {}
        self.silent: frozenset[DeviceId] = frozenset()
        self.listeners: list[Callable[[VolumeId, CellIndex], None]] = []
        self.took_s: float | None = None

    def note(self, volume: VolumeId, missing: Collection[CellIndex]) -> None:
        """It was looked at, and lacks these."""
        if missing:
            self.missing[volume] = frozenset(missing)
        else:
            self.forget(volume)

    def made(self, volume: VolumeId, cell: CellIndex) -> None:
        """This one is there again."""
        self.note(volume, self.missing.get(volume, frozenset()) - {cell})
        for listener in self.listeners:
            listener(volume, cell)

    def forget(self, volume: VolumeId) -> None:
        self.missing.pop(volume, None)

    def looked(self, silent: Collection[DeviceId], took_s: float) -> None:
        """A look at all volumes has ended; *silent* devices did not say in it what they have."""
        self.silent, self.took_s = frozenset(silent), took_s

    def knows(self, device: DeviceId) -> bool:
        """Whether what it has was asked of it: then what is not missing is there."""
        return self.took_s is not None and device not in self.silent
