"""Which volumes are worth a repack: found by an index, however many there are, and no extent is looked at."""

from itertools import pairwise
from typing import Any

from stratumfs.catalog.schema import HALF_DEAD
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import VolumeRow, with_devices
from stratumfs.ids import VolumeId
from stratumfs.limits import MERGE_BOUNDS, MERGE_VOLUMES

But = frozenset[VolumeId]
"""Volumes that are not wanted. Some hundred at most: each makes a query look at one row more."""

_IN_USE = "state = 'sealed' and live > 0"
_NARROW = f"tier = ? and k + m < ? and {_IN_USE}"
_OF_CLASS = "tier = ? and state = 'sealed' and live >= ? and live < ?"


def half_dead(tx: Transaction, tier: str, but: But) -> list[VolumeRow]:
    """Of a tier's sealed volumes with more dead bytes than live ones the one with fewest live ones, or none."""
    query = f"select * from volume where {HALF_DEAD} and tier = ? order by live limit ?"  # noqa: S608
    return _first(tx, tx.all(query, (tier, len(but) + 1)), but, 1)


def half_dead_behind(tx: Transaction, tier: str, after: tuple[int, bytes], limit: int = 200) -> list[VolumeRow]:
    """A chunk of them all, by their live bytes and id, without those that are kept for what was brought back."""
    query = (
        f"select * from volume where {HALF_DEAD} and tier = ? and (live, id) > (?, ?) and not exists"  # noqa: S608
        " (select 1 from clean where cold = volume.id) order by live, id limit ?"
    )
    return with_devices(tx, tx.all(query, (tier, *after, limit)))


def narrow(tx: Transaction, tier: str, width: int, but: But) -> list[VolumeRow]:
    """The narrowest of a tier's sealed volumes with fewer than *width* shards, or none."""
    query = f"select * from volume where {_NARROW} order by k + m limit ?"  # noqa: S608
    return _first(tx, tx.all(query, (tier, width, len(but) + 1)), but, 1)


def narrow_open(tx: Transaction, tier: str, width: int) -> list[VolumeRow]:
    """A tier's open volumes with fewer than *width* shards."""
    return with_devices(
        tx, tx.all("select * from volume where state = 'open' and tier = ? and k + m < ?", (tier, width))
    )


def small(tx: Transaction, tier: str, but: But) -> list[VolumeRow]:
    """``MERGE_VOLUMES`` of a tier's sealed volumes that are small and about equally so, or none."""
    for low, high in pairwise(MERGE_BOUNDS):
        query = f"select * from volume where {_OF_CLASS} order by live limit ?"  # noqa: S608
        found = _first(tx, tx.all(query, (tier, low, high, len(but) + MERGE_VOLUMES)), but, MERGE_VOLUMES)
        if len(found) == MERGE_VOLUMES:
            return found
    return []


def waiting(tx: Transaction, tier: str, width: int) -> dict[str, int]:
    """How many of a tier's volumes want a repack, by reason; one may be there for two."""
    classes = [_count(tx, _OF_CLASS, (tier, *bounds)) for bounds in pairwise(MERGE_BOUNDS)]
    return {
        "half_dead": _count(tx, f"{HALF_DEAD} and tier = ?", (tier,)),
        "narrow": _count(tx, _NARROW, (tier, width)),
        "small": sum(count for count in classes if count >= MERGE_VOLUMES),
    }


def _first(tx: Transaction, rows: list[tuple[Any, ...]], but: But, count: int) -> list[VolumeRow]:
    return with_devices(tx, [row for row in rows if row[0] not in but][:count])


def _count(tx: Transaction, where: str, args: tuple[str | int, ...]) -> int:
    row = tx.one(f"select count(*) from volume where {where}", args)  # noqa: S608
    assert row is not None
    return int(row[0])
