"""Volumes and their shards: which exist, in which state, on which devices."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stratumfs.catalog.extents import COLUMNS, SHOWN, checked
from stratumfs.catalog.schema import PAYLOAD
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import names_of, path_of
from stratumfs.config import COLD, HOT, REMOTE_TIERS, WARM
from stratumfs.errors import CatalogCorrupt
from stratumfs.ids import DeviceId, InodeNo, VolumeId
from stratumfs.values import Extent

OPEN, SEALED, FREED = "open", "sealed", "freed"
IMAGE = "image"
"""Sealed, and a namespace image: no extent points into it, and nothing moves it."""


_LAYOUT_TOLD = 32
"""Extents of a file that are looked at for a table of contents."""


@dataclass(frozen=True, slots=True)
class VolumeRow:
    """devices: by cell index; live: payload bytes that extents point at; changed_ns: when it came into its state."""

    id: VolumeId
    tier: str
    k: int
    m: int
    state: str
    created_ns: int
    changed_ns: int
    length: int
    stripes: int
    live: int
    devices: tuple[DeviceId, ...]

    @property
    def placed(self) -> bool:
        """Whether rows say of each shard where it lies. Where they do not, they are lost, and `misnumbered` has it."""
        return len(self.devices) == self.k + self.m

    @property
    def remote(self) -> bool:
        """Whether it lies on none of the store's devices: nobody here looks for it, rebuilds it or counts upon it."""
        return self.tier in REMOTE_TIERS


def insert_volume(
    tx: Transaction, ident: VolumeId, tier: str, k: int, m: int, devices: Sequence[DeviceId], now_ns: int
) -> None:
    tx.run("insert into volume values (?, ?, ?, ?, ?, ?, ?, 0, 0, 0)", (ident, tier, k, m, OPEN, now_ns, now_ns))
    for cell, device in enumerate(devices):
        tx.run("insert into shard values (?, ?, ?)", (ident, cell, device))


def seal_volume(tx: Transaction, ident: VolumeId, length: int, stripes: int, now_ns: int) -> None:
    tx.run(
        "update volume set state = ?, length = ?, stripes = ?, changed_ns = ? where id = ? and state = ?",
        (SEALED, length, stripes, now_ns, ident, OPEN),
    )


def seal_image(tx: Transaction, ident: VolumeId, length: int, stripes: int, now_ns: int) -> None:
    """It holds an image that is whole."""
    tx.run(
        "update volume set state = ?, length = ?, stripes = ?, changed_ns = ? where id = ? and state = ?",
        (IMAGE, length, stripes, now_ns, ident, OPEN),
    )


def images(tx: Transaction) -> list[VolumeRow]:
    """The youngest first."""
    return with_devices(tx, tx.all("select * from volume where state = ? order by changed_ns desc, id", (IMAGE,)))


def free_images(tx: Transaction, keep: Collection[VolumeId], now_ns: int) -> list[VolumeId]:
    """Of all others the shards are unlinked, after the sync and a grace period: every place names one of *keep*.

    Returns them.
    """
    found = tx.all("select id from volume where state = ?", (IMAGE,))
    freed = [VolumeId(ident) for (ident,) in found if ident not in keep]
    for ident in freed:
        tx.run("update volume set state = ?, changed_ns = ? where id = ?", (FREED, now_ns, ident))
    return freed


def volume(tx: Transaction, ident: VolumeId) -> VolumeRow | None:
    rows = with_devices(tx, tx.all("select * from volume where id = ?", (ident,)))
    return rows[0] if rows else None


def volumes(tx: Transaction, state: str, after: bytes = b"", limit: int = 200) -> list[VolumeRow]:
    """A chunk of the volumes in one state, by id."""
    return with_devices(
        tx, tx.all("select * from volume where state = ? and id > ? order by id limit ?", (state, after, limit))
    )


def volume_summary(tx: Transaction) -> list[tuple[str, str, int, int, int, int]]:
    """(tier, state, k, m, volumes, live bytes) for each combination that exists."""
    rows = tx.all("select tier, state, k, m, count(*), sum(live) from volume group by tier, state, k, m order by 1, 2")
    return [(t, s, k, m, n, live) for t, s, k, m, n, live in rows]


def dead_bytes(tx: Transaction) -> int:
    """Payload bytes of sealed and freed volumes that nothing points at.

    Bytes that copies of objects share count as often as they are named, so that there may be more.
    """
    row = tx.one(
        f"select coalesce(sum({PAYLOAD} - live), 0) from volume where state in ('sealed', 'freed') and live < {PAYLOAD}"  # noqa: S608
    )
    assert row is not None
    return int(row[0])


def empty_volumes(tx: Transaction, now_ns: int, limit: int = 200) -> list[VolumeId]:
    """Sealed volumes that nothing points at, and that are kept for nobody."""
    rows = tx.all(
        "select id from volume where tier in (?, ?, ?) and state = 'sealed' and live = 0 and not exists"
        " (select 1 from clean where cold = volume.id and until_ns > ?) limit ?",
        (HOT, WARM, COLD, now_ns, limit),
    )
    return [VolumeId(ident) for (ident,) in rows if _is_empty(tx, ident)]


def free_volumes(tx: Transaction, idents: Sequence[VolumeId], now_ns: int) -> list[VolumeId]:
    """Mark those that are empty still; their shards are unlinked after the sync and a grace period.

    The caller has left out those with bytes that somebody is about to name. From here on no row can name a marked one.
    """
    freed = [ident for ident in idents if _is_empty(tx, ident)]
    for ident in freed:
        tx.run("update volume set state = ?, changed_ns = ? where id = ? and state = ?", (FREED, now_ns, ident, SEALED))
    return freed


def forget_volume(tx: Transaction, ident: VolumeId, devices: Sequence[DeviceId]) -> bool:
    """Its shards are gone, which lay on *devices*. False if one lies elsewhere by now: that is to go first."""
    if _devices(tx, ident) != tuple(devices):
        return False
    tx.run("delete from damage where volume = ?", (ident,))
    tx.run("delete from verified where volume = ?", (ident,))
    tx.run("delete from clean where volume = ? or cold = ?", (ident, ident))
    tx.run("delete from shard where volume = ?", (ident,))
    tx.run("delete from volume where id = ? and state = ?", (ident, FREED))
    return True


def readable_extents_in(
    tx: Transaction, ident: VolumeId, after: tuple[int, int] = (-1, -1), limit: int = 200, *, shown: bool = False
) -> tuple[list[Extent], tuple[int, int] | None]:
    """A chunk of the extents that point into a volume, by (position, id), without rows that fail their check, and
    behind what to go on; None at the end. *shown*: without those that a void hides.

    All that goes through a volume comes to an end in spite of a flipped bit.
    """
    rows = tx.all(
        f"select {COLUMNS} from extent where volume = ? and (position, id) > (?, ?){SHOWN if shown else ''}"  # noqa: S608
        " order by position, id limit ?",
        (ident, *after, limit),
    )
    found = []
    for row in rows:
        with suppress(CatalogCorrupt):  # whoever reads the file meets it
            found.append(checked(row))
    return found, (rows[-1][6], rows[-1][0]) if len(rows) == limit else None


def content_row(tx: Transaction, ino: InodeNo) -> tuple[Any, ...] | None:
    """What a table of contents says of an inode beside its path: see `stratumfs.volumes.toc.Attributes`."""
    row = tx.one(
        "select mode, uid, gid, size, mtime_ns, modified_ns, content, etag, object, sizes"
        " from inode left join parts using (ino) where ino = ?",
        (ino,),
    )
    if row is None:
        return None
    first = tx.all(
        f"select offset, length, volume is null from extent where ino = ?{SHOWN} order by offset limit ?",  # noqa: S608
        (ino, _LAYOUT_TOLD),
    )
    return (*row, tuple((offset, length) for offset, length, inline in first if inline))


def path_of_inode(tx: Transaction, ino: InodeNo) -> bytes:
    """``bucket/key`` under one of its names.

    Empty for what has none (an unfinished part, an open unlinked file), and for a file that lies too deep.
    """
    names = names_of(tx, ino, 1)
    try:
        return path_of(tx, *names[0]) if names else b""
    except CatalogCorrupt:
        return b""


def _is_empty(tx: Transaction, ident: VolumeId) -> bool:
    """The counter is no proof."""
    return tx.one("select 1 from extent where volume = ? limit 1", (ident,)) is None


def misnumbered(tx: Transaction) -> list[tuple[VolumeRow, dict[int, DeviceId]]]:
    """Volumes that have not one shard for each cell, and where rows place those that they have."""
    rows = tx.all(
        "select * from volume v where k + m != (select count(*) from shard where volume = v.id"
        " and cell >= 0 and cell < v.k + v.m) or exists (select 1 from shard where volume = v.id"
        " and (cell < 0 or cell >= v.k + v.m))"
    )
    return [
        (row, dict(tx.all("select cell, device from shard where volume = ?", (row.id,))))
        for row in with_devices(tx, rows)
    ]


def lost_volumes(tx: Transaction) -> list[VolumeId]:
    """That extents name, and no row knows."""
    rows = tx.all(
        "select distinct volume from extent where volume is not null and volume not in (select id from volume)"
    )
    return [VolumeId(ident) for (ident,) in rows]


def remember_volume(tx: Transaction, ident: VolumeId, tier: str, k: int, m: int, now_ns: int) -> None:
    """A sealed one of which no row was left. Where it ends, and its stripes, are those that extents name: to be counted
    by who checks."""
    tx.run("insert into volume values (?, ?, ?, ?, ?, ?, ?, 0, 0, 0)", (ident, tier, k, m, SEALED, now_ns, now_ns))


def place_shards(
    tx: Transaction, ident: VolumeId, cells: Sequence[tuple[int, DeviceId]], tier: str | None = None
) -> None:
    """These are all the shards of a volume, and where they lie. *tier*: another one than rows say, if it may be."""
    tx.run("delete from shard where volume = ?", (ident,))
    tx.run("delete from vacated where volume = ?", (ident,))
    for cell, device in cells:
        tx.run("insert into shard values (?, ?, ?)", (ident, cell, device))
    if tier is not None:
        tx.run("update volume set tier = ? where id = ?", (tier, ident))


def with_devices(tx: Transaction, rows: Sequence[tuple[Any, ...]]) -> list[VolumeRow]:
    return [VolumeRow(*(*row, _devices(tx, row[0]))) for row in rows]


def _devices(tx: Transaction, ident: VolumeId) -> tuple[DeviceId, ...]:
    rows = tx.all("select device from shard where volume = ? order by cell", (ident,))
    return tuple(DeviceId(device) for (device,) in rows)
