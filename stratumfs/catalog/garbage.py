"""What is stored though nobody can name it any more, counted."""

from dataclasses import dataclass

from stratumfs.catalog.schema import HALF_DEAD
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import FREED, dead_bytes


@dataclass(frozen=True, slots=True)
class Garbage:
    """Room is in bytes on devices, parity among them.

    nameless           files that have lost their last name: unlinked ones that are open, and what is to be reaped
    dead_bytes         payload of volumes that nothing points at
    empty_volumes      nothing points at any of their bytes, and they are not kept for what was brought back
    half_dead_volumes  fewer of their bytes are pointed at than not, which pays for writing those elsewhere
    freed_volumes      their shards are unlinked after a grace period, and what is kept for backups behind its window
    """

    nameless: int
    dead_bytes: int
    empty_volumes: int
    empty_room: int
    half_dead_volumes: int
    half_dead_room: int
    freed_volumes: int
    freed_room: int


def garbage(tx: Transaction) -> Garbage:
    nameless = tx.one("select count(*) from orphan")
    assert nameless is not None
    unkept = "not exists (select 1 from clean where cold = volume.id)"
    wheres = (f"state = 'sealed' and live = 0 and {unkept}", f"{HALF_DEAD} and {unkept}", f"state = '{FREED}'")
    empty, half_dead, freed = (_volumes(tx, where) for where in wheres)
    return Garbage(nameless[0], dead_bytes(tx), *empty, *half_dead, *freed)


def _volumes(tx: Transaction, where: str) -> tuple[int, int]:
    """(how many, their room)."""
    row = tx.one(f"select count(*), coalesce(sum((k + m) * length), 0) from volume where {where}")  # noqa: S608
    assert row is not None
    return row[0], row[1]
