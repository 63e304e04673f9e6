"""Shards that are known to be damaged, and where shards lie. What a look at the devices finds again is in no row."""

from collections.abc import Sequence
from dataclasses import dataclass

from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.vacated import has_left
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


def is_damaged(tx: Transaction, volume: VolumeId) -> bool:
    """Whether any shard of it is known to be."""
    return tx.one("select 1 from damage where volume = ? limit 1", (volume,)) is not None


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

    False if it is not on *source* any more, the volume is neither sealed nor freed, or *target* holds another shard of
    it: then nothing changed.
    """
    moved = tx.run(
        "update shard set device = ? where volume = ? and cell = ? and device = ?"
        " and exists (select 1 from volume where id = ? and state in (?, ?))"
        " and not exists (select 1 from shard where volume = ? and device = ?)",
        (target, volume, cell, source, volume, SEALED, FREED, volume, target),
    )
    if moved:
        tx.run("delete from verified where volume = ? and cell = ?", (volume, cell))
    if moved and whole:
        clear_damage(tx, volume, [cell])
    return bool(moved)


def shards_on(tx: Transaction, device: DeviceId, after: VolumeId | bytes = b"", limit: int = 200) -> list[Shard]:
    """A chunk of what *device* shall hold, by volume; it holds one shard of a volume at most."""
    rows = tx.all(
        "select volume, cell from shard where device = ? and volume > ? order by volume limit ?", (device, after, limit)
    )
    return [(VolumeId(volume), CellIndex(cell)) for volume, cell in rows]


def placed_behind(tx: Transaction, device: DeviceId, after: VolumeId, limit: int) -> tuple[int, VolumeId | None]:
    """How many shards a chunk has of those that *device* shall hold, and behind which volume to go on; None at the
    end."""
    row = tx.one(
        "select count(*), max(volume) from"
        " (select volume from shard where device = ? and volume > ? order by volume limit ?)",
        (device, after, limit),
    )
    assert row is not None
    return row[0], VolumeId(row[1]) if row[0] == limit else None


def damaged_on(tx: Transaction) -> dict[DeviceId, int]:
    """How many shards of each device are known to be damaged, if any are."""
    rows = tx.all("select device, count(*) from damage join shard using (volume, cell) group by device")
    return {DeviceId(device): count for device, count in rows}


@dataclass(frozen=True, slots=True)
class Held:
    """Shards of a device, and the bytes of the cells of those that would be made anew: not of namespace images, which
    are superseded instead. Tables of contents are not counted."""

    shards: int
    bytes: int


def held_behind(
    tx: Transaction, device: DeviceId, kept_since_ns: int, after: VolumeId, limit: int
) -> tuple[Held, VolumeId | None]:
    """Of a chunk of the shards that *device* shall hold those that are wanted, and behind which volume to go on; None
    at the end. Of volumes that were freed only those since *kept_since_ns* are wanted: backups may name them."""
    _, behind = placed_behind(tx, device, after, limit)
    row = tx.one(
        "select count(*), coalesce(sum(case when state in (?, ?) then length else 0 end), 0) from"
        " (select volume from shard where device = ? and volume > ? order by volume limit ?) as some"
        " join volume on volume.id = some.volume where state != ? or changed_ns > ?",
        (SEALED, FREED, device, after, limit, FREED, kept_since_ns),
    )
    assert row is not None
    return Held(*row), behind


def devices_named(tx: Transaction) -> list[DeviceId]:
    """That any shard is placed on: a step of the index for each."""
    found: list[DeviceId] = []
    while row := tx.one(
        "select device from shard where device > ? order by device limit 1", (found[-1] if found else b"",)
    ):
        found.append(DeviceId(row[0]))
    return found


REBUILT_BYTES, REBUILT_NS = "rebuilt_bytes", "rebuilt_ns"


def note_rebuilt(tx: Transaction, volume: VolumeId, cells: Sequence[CellIndex], count: int, took_ns: int) -> None:
    """Shards were made anew, which nobody has read yet: so many bytes, in so long a time, the rests between its steps
    included."""
    for cell in cells:
        tx.run("delete from verified where volume = ? and cell = ?", (volume, cell))
    for name, value in ((REBUILT_BYTES, count), (REBUILT_NS, took_ns)):
        if not tx.run("update counter set value = value + ? where name = ?", (value, name)):
            tx.run("insert into counter values (?, ?)", (name, value))


def rebuilt(tx: Transaction) -> tuple[int, int]:
    """(bytes of shards that were ever made anew, ns that it took)."""
    found = dict(tx.all("select name, value from counter where name in (?, ?)", (REBUILT_BYTES, REBUILT_NS)))
    return found.get(REBUILT_BYTES, 0), found.get(REBUILT_NS, 0)


def misplaced(tx: Transaction, device: DeviceId, shards: Sequence[Shard]) -> list[Shard]:
    """Those of *shards*, a chunk, that no row knows on *device*, and that nothing is known to be missed for: where no
    row places one at all, but an extent names its volume, it is the row that is lost."""
    return [(volume, cell) for volume, cell in shards if _is_misplaced(tx, device, volume, cell)]


def _is_misplaced(tx: Transaction, device: DeviceId, volume: VolumeId, cell: CellIndex) -> bool:
    row = tx.one("select device from shard where volume = ? and cell = ?", (volume, cell))
    if has_left(tx, volume, cell, device):
        return False
    if row is not None:
        return bool(row[0] != device)
    return tx.one("select 1 from extent where volume = ? limit 1", (volume,)) is None
