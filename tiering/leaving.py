"""What is to leave its tier, volume by volume: where that is all that lives in one, the volume moves whole."""

from contextlib import aclosing, suppress

from stratumfs.errors import CatalogCorrupt
from stratumfs.ids import InodeNo, VolumeId
from stratumfs.store.repack import foreign
from stratumfs.store.store import Store


async def add_leaving(store: Store, ino: InodeNo, tier: str, leaving: dict[VolumeId, int]) -> int:
    """Add what of an inode lies in other tiers than *tier*, as far as its rows can be read. Returns its bytes."""
    total = 0
    with suppress(CatalogCorrupt):  # said when its turn comes
        async with aclosing(foreign(store.catalog, store.reader, ino, tier)) as extents:
            async for extent in extents:
                assert extent.location is not None
                volume = extent.location.volume
                leaving[volume] = leaving.get(volume, 0) + extent.length
                total += extent.length
    return total
