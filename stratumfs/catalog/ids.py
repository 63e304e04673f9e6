"""Inode numbers, cookies and extent ids, which never go back.

SQLite alone reuses the id of a deleted last row, and a commit that a power cut unmade must not hand its ids out again.
So they are drawn from blocks, and a block may be drawn from only once the row that reserves it is on stable storage.
An opening begins behind everything that was ever reserved: what was left of the last block is jumped over.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from stratumfs.catalog.state import GET_STATE
from stratumfs.catalog.transaction import Transaction
from stratumfs.errors import InvalidArgument, StoreReadOnly
from stratumfs.ids import Cookie, ExtentId, InodeNo
from stratumfs.limits import ID_BLOCK

FIRST = {"next_inode": 2, "next_cookie": 16, "next_extent": 1}
"""What a new catalog begins with: inode 1 is the root; the mount keeps small cookies for ``.`` and ``..``."""

Reserve = Callable[[str, int], Awaitable[None]]


def reserve_ids(tx: Transaction, key: str, upto: int) -> None:
    """Ids of this kind below *upto* may be handed out once this is synced."""
    tx.run("update catalog_state set value = ? where key = ? and value < ?", (upto, key, upto))


def reserve_first(tx: Transaction) -> dict[str, int]:
    """Reserve a block of each kind, behind all earlier ones. Returns where each begins."""
    begins = {}
    for key in FIRST:
        row = tx.one(GET_STATE, (key,))
        assert row is not None
        begins[key] = int(row[0])
        reserve_ids(tx, key, begins[key] + ID_BLOCK)
    return begins


@dataclass(slots=True)
class _Block:
    next: int
    limit: int
    refilling: trio.Lock = field(default_factory=trio.Lock)


class IdBlocks:
    """Draws ids. *reserve* makes `reserve_ids` durable; used on the loop alone.

    A draw awaits nothing as long as its block lasts; `serve` reserves the next block when half of one is gone.
    """

    def __init__(self, begins: dict[str, int], reserve: Reserve) -> None:
        self._blocks = {key: _Block(begin, begin + ID_BLOCK) for key, begin in begins.items()}
        self._reserve = reserve
        self._low = trio.Event()

    async def inodes(self, count: int = 1) -> InodeNo:
        """The first of *count* consecutive inode numbers. Raises: InvalidArgument if count is not 1 to ID_BLOCK;
        StoreReadOnly, StoreClosing if no further block can be reserved."""
        return InodeNo(await self._draw("next_inode", count))

    async def cookies(self, count: int = 1) -> Cookie:
        """The first of *count* consecutive cookies; as `inodes`."""
        return Cookie(await self._draw("next_cookie", count))

    async def extents(self, count: int = 1) -> ExtentId:
        """The first of *count* consecutive extent ids; as `inodes`."""
        return ExtentId(await self._draw("next_extent", count))

    async def serve(self) -> None:
        """Reserve blocks ahead of need, until cancelled."""
        while True:
            await self._low.wait()
            self._low = trio.Event()
            for key, block in self._blocks.items():
                if block.limit - block.next < ID_BLOCK // 2:
                    await self._refill(key, block, ID_BLOCK // 2)

    async def _draw(self, key: str, count: int) -> int:
        if not 1 <= count <= ID_BLOCK:
            raise InvalidArgument(f"{count} ids at once: 1 to {ID_BLOCK}")
        block = self._blocks.get(key)
        if block is None:
            raise StoreReadOnly("the catalog was opened read-only: it hands out no ids")
        while block.limit - block.next < count:  # again: others may have drawn while we waited
            await self._refill(key, block, count)
        first = block.next
        block.next += count
        if block.limit - block.next < ID_BLOCK // 2:
            self._low.set()
        return first

    async def _refill(self, key: str, block: _Block, count: int) -> None:
        async with block.refilling:
            if block.limit - block.next >= count:
                return
            # Cancelled here, the row may be reserved all the same: the next refill reserves the same block again.
            limit = block.limit + ID_BLOCK
            await self._reserve(key, limit)
            block.limit = limit
