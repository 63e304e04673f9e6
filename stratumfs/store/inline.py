"""How many bytes lie inline in the catalog, and whether more may."""

import trio

from stratumfs.limits import INLINE_BYTES_MAX, INLINE_MAX


class InlineBytes:
    """A bound, and when packing begins and ends below it: at a quarter and an eighth.

    Packing waits that long because what is overwritten or deleted by then need not be written to volumes at all, and
    what is packed at once shares stripes with more; and no longer, so that what is inline fits into the catalog's own
    cache, and there is room for what is written faster than it is packed.

    Owned by the store, used on the loop. What is written inline or packed is counted here; what else becomes of inline
    bytes the catalog counts, which is asked every few seconds.
    """

    def __init__(self, most: int = INLINE_BYTES_MAX) -> None:
        self.most = most
        self.count = 0
        self._many = trio.Event()

    @property
    def many(self) -> bool:
        """Whether packing should begin."""
        return self.count >= self.most // 4

    @property
    def surplus(self) -> int:
        """Bytes to pack, once packing has begun."""
        return self.count - self.most // 8

    def allows(self, length: int) -> bool:
        """Whether a run this long becomes an inline extent rather than a stripe."""
        return length <= INLINE_MAX and self.count + length <= self.most

    def add(self, count: int) -> None:
        """So many bytes more, or fewer, lie inline now."""
        self.learn(self.count + count)

    def learn(self, count: int) -> None:
        """So many lie inline in all."""
        self.count = count
        if self.many:
            self._many.set()

    async def wait_many(self) -> None:
        """Return when ``many`` is true."""
        while not self.many:
            self._many = trio.Event()
            await self._many.wait()
