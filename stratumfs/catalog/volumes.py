"""Volumes and their shards: which exist, in which state, on which devices."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stratumfs.catalog.extents import COLUMNS, checked
from stratumfs.catalog.schema import PAYLOAD
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import names_of, path_of
from stratumfs.errors import CatalogCorrupt
from stratumfs.ids import DeviceId, InodeNo, VolumeId
from stratumfs.values import Extent

OPEN, SEALED, FREED = "open", "sealed", "freed"


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
        f"select coalesce(sum({PAYLOAD} - live), 0) from volume where state != 'open' and live < {PAYLOAD}"  # noqa: S608
    )
    assert row is not None
    return int(row[0])


def empty_volumes(tx: Transaction, limit: int = 200) -> list[VolumeId]:
    """Sealed volumes that nothing points at."""
    rows = tx.all("select id from volume where state = 'sealed' and live = 0 limit ?", (limit,))
    return [VolumeId(ident) for (ident,) in rows if _is_empty(tx, ident)]


def free_volumes(tx: Transaction, idents: Sequence[VolumeId], now_ns: int) -> list[VolumeId]:
    """Mark those that are empty still; their shards are unlinked after the sync and a grace period.

    The caller has left out those with bytes that somebody is about to name. From here on no row can name a marked one.
    """
    freed = [ident for ident in idents if _is_empty(tx, ident)]
    for ident in freed:
        tx.run("update volume set state = ?, changed_ns = ? where id = ? and state = ?", (FREED, now_ns, ident, SEALED))
    return freed


def forget_volume(tx: Transaction, ident: VolumeId) -> None:
    """Its shards are gone."""
    tx.run("delete from damage where volume = ?", (ident,))
    tx.run("delete from shard where volume = ?", (ident,))
    tx.run("delete from volume where id = ? and state = ?", (ident, FREED))


def readable_extents_in(
    tx: Transaction, ident: VolumeId, after: tuple[int, int] = (-1, -1), limit: int = 200
) -> tuple[list[Extent], tuple[int, int] | None]:
    """A chunk of the extents that point into a volume, by (position, id), without rows that fail their check, and
    behind what to go on; None at the end.

    All that goes through a volume comes to an end in spite of a flipped bit.
    """
    rows = tx.all(
        f"select {COLUMNS} from extent where volume = ? and (position, id) > (?, ?) order by position, id limit ?",  # noqa: S608
        (ident, *after, limit),
    )
    found = []
    for row in rows:
        with suppress(CatalogCorrupt):  # whoever reads the file meets it
            found.append(checked(row))
    return found, (rows[-1][6], rows[-1][0]) if len(rows) == limit else None


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


def with_devices(tx: Transaction, rows: Sequence[tuple[Any, ...]]) -> list[VolumeRow]:
    return [VolumeRow(*(*row, _devices(tx, row[0]))) for row in rows]


def _devices(tx: Transaction, ident: VolumeId) -> tuple[DeviceId, ...]:
    rows = tx.all("select device from shard where volume = ? order by cell", (ident,))
    return tuple(DeviceId(device) for (device,) in rows)
