"""In which tier new data is written: in the one that takes new data, unless somebody knows better."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from stratumfs.errors import DeviceFull, StoreFull, StoreReadOnly
from stratumfs.ids import Buffer, InodeNo
from stratumfs.store.writer import Gathered, PendingStripe, Writer
from stratumfs.values import ObjectSpec

_SPARED = 100
"""Part of a tier that is left to what is moved there: who has begun to write an object there cannot go elsewhere any
more."""
_REFUSED = (StoreFull, StoreReadOnly, DeviceFull)


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

    @property
    def full(self) -> bool:
        """Whether no tier has room that new data could land in."""
        named = self._writers.values() if self.landing is not None else ()
        return all(each.read_only is not None or each.space.now.free <= 0 for each in (self._first, *named))

    async def of_object(self, bucket: InodeNo, key: bytes, spec: ObjectSpec, length: int) -> Writer:
        """*length*: bytes that are to come, as far as that is known. Raises: what the catalog raises."""
        if self.landing is None:
            return self._first
        return self._of(await self.landing.of_object(bucket, key, spec), length)

    async def of_file(self, ino: InodeNo) -> Writer:
        """Raises: as `of_object`."""
        return self._first if self.landing is None else self._of(await self.landing.of_file(ino))

    def _of(self, tier: str | None, length: int = 0) -> Writer:
        writer = self._first if tier is None else self._writers.get(tier, self._first)
        left = writer.space.now.free - length
        return self._first if writer.read_only is not None or left <= writer.space.now.total // _SPARED else writer


class FileWriter:
    """Writes stripes of one file, which may stay open for long: to where it was said to land, and from the moment on
    when that takes nothing any more to the first tier, what is not synced yet too. On the loop.

    Raises where the first tier takes nothing either: as `Writer` does.
    """

    def __init__(self, first: Writer) -> None:
        self.inline, self.stripe_payload = first.inline, first.stripe_payload
        self._first = self._now = first
        self._before: Writer | None = None

    def land(self, writer: Writer) -> None:
        """Before the first stripe."""
        self._now = writer

    def reserve(self, count: int) -> None:
        """See `Writer.reserve`. The store takes no writes where the first tier takes none."""
        self._first.check_writable()
        try:
            self._now.reserve(count)
        except _REFUSED:
            if not self._leave(self._now):
                raise
            self._first.reserve(count)

    async def append(self, stripe: PendingStripe, after: PendingStripe | None = None) -> None:
        """See `Writer.append`."""
        to = self._now
        try:
            await to.append(stripe, after)
        except _REFUSED:
            if not self._leave(to):
                raise
            await self._first.append(stripe)

    async def gather(self, segments: Sequence[tuple[int, Buffer]], held: list[PendingStripe]) -> list[Gathered]:
        """See `Writer.gather`."""
        to = self._now
        try:
            return await to.gather(segments, held)
        except _REFUSED:
            if not self._leave(to):
                raise
            return await self._first.gather(segments, held)

    async def sync(self, stripes: Iterable[PendingStripe]) -> None:
        """See `Writer.sync`."""
        stripes, to = list(stripes), self._now
        if to is not self._first:
            try:
                await to.sync(stripes)
            except _REFUSED:
                self._leave(to)
            else:
                return
        await self._sync_before(stripes)
        await self._first.sync(stripes)

    async def _sync_before(self, stripes: Sequence[PendingStripe]) -> None:
        """What lies in a tier that was left is synced there, or lost: then it is written again with all that is."""
        before = self._before
        while before is not None and (held := [each for each in stripes if before.holds(each)]):
            try:
                await before.sync(held)
            except _REFUSED:
                if all(map(before.holds, held)):
                    raise

    def _leave(self, tier: Writer) -> bool:
        """*tier* has refused something. False if there is no other one."""
        if tier is not self._first:
            self._before, self._now = tier, self._first
        return tier is not self._first
