"""Background work on volumes, as `status` shows it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from stratumfs.ids import VolumeId


@dataclass(slots=True)
class Work:
    """What is being done, for status. done, total: bytes of the shards concerned; 0 where that is not known."""

    what: str
    volume: VolumeId | None
    device: str
    done: int = 0
    total: int = 0


class Works(list[Work]):
    """Those that are under way."""

    @contextmanager
    def one(self, what: str, volume: VolumeId | None, device: str) -> Iterator[Work]:
        """It is one of them in the block."""
        work = Work(what, volume, device)
        self.append(work)
        try:
            yield work
        finally:
            self.remove(work)
