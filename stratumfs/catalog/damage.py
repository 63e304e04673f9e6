"""Shards that are known to be damaged, and where shards lie. What a look at the devices finds again is in no row."""

from collections.abc import Sequence
from dataclasses import dataclass

from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import FREED, SEALED
from stratumfs.ids import CellIndex, DeviceId, VolumeId

Shard = tuple[VolumeId, CellIndex]
FIRST: Shard = (VolumeId(b""), CellIndex(-1))
"""Behind it begins the first chunk."""


@dataclass(frozen=True, slots=True)
class DamageRow:
    """A shard with a cell that failed its check. since_ns: of the first such cell."""

    volume: VolumeId
    cell: CellIndex
    since_ns: int
    reason: str


def note_damage(tx: Transaction, found: Sequence[tuple[VolumeId, CellIndex, str]], now_ns: int) -> None:
    """Remember a chunk of damaged shards; of one that is known, or of a volume that is gone, nothing changes."""
    for volume, cell, reason in found:
        tx.run(
            "insert into damage select volume, cell, ?, ? from shard where volume = ? and cell = ?"
            " and not exists (select 1 from damage where volume = ? and cell = ?)",
            (now_ns, reason, volume, cell, volume, cell),
        )


def clear_damage(tx: Transaction, volume: VolumeId, cells: Sequence[CellIndex]) -> None:
    """These were verified or made anew."""
    for cell in cells:
        tx.run("delete from damage where volume = ? and cell = ?", (volume, cell))


def damage_rows(tx: Transaction, after: Shard = FIRST, limit: int = 200) -> list[DamageRow]:
    """A chunk of all damaged shards."""
    rows = tx.all(
        "select volume, cell, since_ns, reason from damage where (volume, cell) > (?, ?) order by volume, cell limit ?",
        (*after, limit),
    )
    return [DamageRow(*row) for row in rows]


def move_shard(
    tx: Transaction, volume: VolumeId, cell: CellIndex, source: DeviceId, target: DeviceId, whole: bool = True
) -> bool:
    """The shard lies on *target* from now on, where it was made anew; if it is *whole*, it is known as damaged no more.

    False if it is not on *source* any more, the volume is not sealed, or *target* holds another shard of it: then
    nothing changed.
    """
    moved = tx.run(
        "update shard set device = ? where volume = ? and cell = ? and device = ?"
        " and exists (select 1 from volume where id = ? and state = ?)"
        " and not exists (select 1 from shard where volume = ? and device = ?)",
        (target, volume, cell, source, volume, SEALED, volume, target),
    )
    if moved and whole:
        clear_damage(tx, volume, [cell])
    return bool(moved)


def shards_on(tx: Transaction, device: DeviceId, after: VolumeId | bytes = b"", limit: int = 200) -> list[Shard]:
    """A chunk of what *device* shall hold, by volume; it holds one shard of a volume at most."""
    rows = tx.all(
        "select volume, cell from shard where device = ? and volume > ? order by volume limit ?", (device, after, limit)
    )
    return [(VolumeId(volume), CellIndex(cell)) for volume, cell in rows]


def shard_counts(tx: Transaction) -> list[tuple[DeviceId, int, int]]:
    """(device, shards that it shall hold, how many of these are known to be damaged), of each that any row names."""
    rows = tx.all(
        "select device, count(*), (select count(*) from damage join shard s using (volume, cell)"
        " where s.device = shard.device) from shard group by device"
    )
    return [(DeviceId(device), held, damaged) for device, held, damaged in rows]


def bytes_on(tx: Transaction, device: DeviceId) -> int:
    """Bytes of the cells of all shards that *device* shall hold and that are wanted, tables of contents not counted."""
    row = tx.one(
        "select sum(length) from shard join volume on volume.id = shard.volume where device = ? and state != ?",
        (device, FREED),
    )
    return int(row[0] or 0) if row is not None else 0


def misplaced(tx: Transaction, device: DeviceId, shards: Sequence[Shard]) -> list[Shard]:
    """Those of *shards*, a chunk, that no row places on *device*."""
    return [
        (volume, cell)
        for volume, cell in shards
        if tx.one("select 1 from shard where volume = ? and cell = ? and device = ?", (volume, cell, device)) is None
    ]
