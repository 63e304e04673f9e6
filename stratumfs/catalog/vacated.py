"""Volumes that move to another tier whole: one row says where they lie now, and what they left is to be unlinked.

No extent is touched: what names a stripe names it wherever its volume lies. Whatever was overwritten, deleted or copied
while the files were copied is as it is, and needs no guard.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stratumfs.catalog.moves import record_moved
from stratumfs.catalog.schema import PAYLOAD
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import SEALED, VolumeRow, readable_extents_in, volume
from stratumfs.ids import CellIndex, DeviceId, InodeNo, VolumeId
from stratumfs.limits import VOLUMES_SUMMED


@dataclass(frozen=True, slots=True)
class Vacated:
    """A file that a volume has left. since_ns: of that."""

    volume: VolumeId
    cell: CellIndex
    device: DeviceId
    since_ns: int


@dataclass(frozen=True, slots=True)
class Told:
    """bytes: that extents point at, of those that were looked at; resume: behind what to go on, None at the end."""

    bytes: int
    resume: tuple[int, int] | None


def move_volume(
    tx: Transaction, before: VolumeRow, tier: str, devices: Sequence[DeviceId], move: bytes | None, now_ns: int
) -> Told | None:
    """A sealed volume lies on *devices* of *tier* from now on, where all its shards were made, whole and durable.

    None if it is not any more where it was *before*, or not sealed, or what it left the last time is there yet: then
    nothing changed. move: as of `swap_runs`; what is recorded of more than a chunk of extents is `tell_moved`.
    """
    row = volume(tx, before.id)
    if row is None or (row.state, row.tier, row.devices) != (SEALED, before.tier, before.devices):
        return None
    if has_left_any(tx, row.id):
        return None
    tx.run("update volume set tier = ? where id = ?", (tier, row.id))
    for cell, (old, new) in enumerate(zip(row.devices, devices, strict=True)):
        tx.run("insert into vacated values (?, ?, ?, ?)", (row.id, cell, old, now_ns))
        tx.run("update shard set device = ? where volume = ? and cell = ?", (new, row.id, cell))
    tx.run("delete from verified where volume = ?", (row.id,))
    tx.run("delete from damage where volume = ?", (row.id,))
    return tell_moved(tx, row.id, before.tier, (-1, -1), move, now_ns)


def tell_moved(
    tx: Transaction, ident: VolumeId, source: str, after: tuple[int, int], move: bytes | None, now_ns: int
) -> Told:
    """Record of a chunk of the files that have bytes in a volume that it has come from tier *source*."""
    extents, resume = readable_extents_in(tx, ident, after)
    found: dict[InodeNo, int] = {}
    for extent in extents:
        tx.move_inode(extent.ino)
        found[extent.ino] = found.get(extent.ino, 0) + extent.length
    if move is not None:
        record_moved(tx, source, found, move, now_ns)
    return Told(sum(found.values()), resume)


def vacated(tx: Transaction, after: Vacated | None = None, limit: int = 200) -> list[Vacated]:
    """A chunk of all. None that a row places there, whatever that came of."""
    rows = tx.all(
        "select * from vacated v where (volume, cell, device) > (?, ?, ?) and not exists"
        " (select 1 from shard where volume = v.volume and cell = v.cell and device = v.device)"
        " order by volume, cell, device limit ?",
        (*_key(after), limit),
    )
    return [Vacated(*row) for row in rows]


def vacated_bytes_behind(
    tx: Transaction, after: Vacated | None, limit: int = VOLUMES_SUMMED
) -> tuple[dict[DeviceId, float], Vacated | None]:
    """Of each device: payload bytes that volumes had there which have left, as far as files tell that are there still.

    A chunk, and behind which to go on; None at the end.
    """
    rows = tx.all(
        f"select n.*, {PAYLOAD} * 1.0 / (k + m) from (select * from vacated"  # noqa: S608 - our own words
        " where (volume, cell, device) > (?, ?, ?) order by volume, cell, device limit ?) n"
        " left join volume v on v.id = n.volume order by n.volume, n.cell, n.device",
        (*_key(after), limit),
    )
    found: dict[DeviceId, float] = {}
    for *row, count in rows:
        device = Vacated(*row).device
        found[device] = found.get(device, 0.0) + (count or 0.0)
    return found, Vacated(*rows[-1][:-1]) if len(rows) == limit else None


def _key(after: Vacated | None) -> tuple[bytes, int, bytes]:
    return (after.volume, after.cell, after.device) if after is not None else (b"", -1, b"")


def forget_vacated(tx: Transaction, gone: Sequence[Vacated]) -> None:
    """These were unlinked, or their device is the store's no more."""
    for each in gone:
        tx.run(
            "delete from vacated where volume = ? and cell = ? and device = ?", (each.volume, each.cell, each.device)
        )


def forget_all_vacated(tx: Transaction) -> None:
    """Of a catalog that was made again, or brought back: a volume may have come back since to where it had left, and an
    opening sets aside what no row knows."""
    tx.run("delete from vacated")


def has_left_any(tx: Transaction, ident: VolumeId) -> bool:
    return tx.one("select 1 from vacated where volume = ? limit 1", (ident,)) is not None


def has_left(tx: Transaction, ident: VolumeId, cell: int, device: DeviceId) -> bool:
    """Whether this file is one that is to be unlinked."""
    query = "select 1 from vacated where volume = ? and cell = ? and device = ?"
    return tx.one(query, (ident, cell, device)) is not None
