"""What a reader of volumes wants of what keeps their shards: a device that is up, or somebody's S3."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar, TypeVarTuple

from stratumfs.ids import DeviceId, VolumeId
from stratumfs.shards.backend import ShardReader
from stratumfs.shards.recalled import Recalled

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Source(Protocol):
    @property
    def shards(self) -> ShardReader: ...

    @property
    def in_doubt(self) -> bool:
        """Others are read first."""
        ...

    def stalled(self, after_s: float) -> bool:
        """Whether some read has not come back for longer than *after_s*: others are asked first then."""
        ...

    def expect(self, volume: VolumeId, spans: Sequence[tuple[int, int]]) -> None:
        """These bytes, from and to, of its shard of a volume will be read soon: a hint. Waits for nothing, raises
        nothing."""
        ...

    @property
    def recalled(self) -> Recalled | None:
        """What was fetched ahead; None of a device, whose kernel has it."""
        ...

    async def read(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """*fn* in a thread; a cancelled waiter goes on."""
        ...


Sources = Mapping[DeviceId, Source]
