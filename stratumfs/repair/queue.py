"""Volumes that wait to be repaired, in the order in which they are. Pure."""

from dataclasses import dataclass

from stratumfs.ids import VolumeId
from stratumfs.limits import REPAIRS_QUEUED_MAX


@dataclass(frozen=True, slots=True)
class Exposed:
    """A volume that has fewer good shards than it should. margin: how many more losses it survives; below 0: some of it
    may be lost already; kept: it is freed, and only backups may name it."""

    volume: VolumeId
    margin: int
    created_ns: int
    kept: bool = False


class RepairQueue:
    """The most exposed volume first, then the oldest, then those that are only kept. One entry a volume, the last that
    was offered.

    more  the bound left something out, so that a look at all volumes is due when this is empty
    """

    def __init__(self, bound: int = REPAIRS_QUEUED_MAX) -> None:
        self.more = False
        self._bound = bound
        self._waiting: dict[VolumeId, Exposed] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, found: Exposed) -> None:
        self._waiting[found.volume] = found
        if len(self._waiting) > self._bound:
            least = max(self._waiting.values(), key=_order)
            del self._waiting[least.volume]
            self.more = True

    def drop(self, volume: VolumeId) -> None:
        """It needs nothing any more; harmless if it is not there."""
        self._waiting.pop(volume, None)

    def pop(self) -> Exposed:
        """The next one. Raises: IndexError if there is none."""
        if not self._waiting:
            raise IndexError("no volume waits to be repaired")
        return self._waiting.pop(min(self._waiting.values(), key=_order).volume)

    def pop_beside(self, other: Exposed) -> Exposed | None:
        """The next one, if it is as exposed as *other* at least."""
        following = self.first(1)
        return self.pop() if following and _order(following[0])[:2] <= _order(other)[:2] else None

    def first(self, count: int) -> list[Exposed]:
        """The next *count* of them, for status."""
        return sorted(self._waiting.values(), key=_order)[:count]


def _order(each: Exposed) -> tuple[bool, int, int, VolumeId]:
    return each.kept, each.margin, each.created_ns, each.volume
