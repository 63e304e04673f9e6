"""In which tier new data is written: in the one that takes new data, unless somebody knows better."""

from collections.abc import Mapping
from typing import Protocol

from stratumfs.ids import InodeNo
from stratumfs.store.writer import Writer
from stratumfs.values import ObjectSpec

_SPARED = 100
"""Part of a tier that is left to what is moved there: who has begun to write there cannot go elsewhere any more."""


class Landing(Protocol):
    """Who knows better: told of what is about to be written, and names a tier; None: no other than usual."""

    async def of_object(self, bucket: InodeNo, key: bytes, spec: ObjectSpec) -> str | None: ...

    async def of_file(self, ino: InodeNo) -> str | None: ...


class Writers:
    """Chooses the writer of new data. A tier that cannot be written to, or is full, is none that was named.

    landing  None: nobody knows better
    """

    def __init__(self, writers: Mapping[str, Writer], first: Writer) -> None:
        self.landing: Landing | None = None
        self._writers, self._first = writers, first

    async def of_object(self, bucket: InodeNo, key: bytes, spec: ObjectSpec) -> Writer:
        """Raises: what the catalog raises."""
        return self._first if self.landing is None else self._of(await self.landing.of_object(bucket, key, spec))

    async def of_file(self, ino: InodeNo) -> Writer:
        """Raises: as `of_object`."""
        return self._first if self.landing is None else self._of(await self.landing.of_file(ino))

    def _of(self, tier: str | None) -> Writer:
        writer = self._first if tier is None else self._writers.get(tier, self._first)
        now = writer.space.now
        return self._first if writer.read_only is not None or now.free <= now.total // _SPARED else writer
