"""Volumes worth a repack are found by rows of their own, never by a walk over all."""

from pathlib import Path

import pytest

from stratumfs.catalog import compaction, schema
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.migrations import MIGRATIONS
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import empty_volumes, insert_volume
from stratumfs.ids import DeviceId, VolumeId
from stratumfs.limits import CATALOG_PAGE_SIZE, MERGE_BOUNDS, MERGE_VOLUMES
from stratumfs.location import CELL_HEADER_SIZE
from tests.stratumfs.catalog.tables import Tables

NOBODY: compaction.But = frozenset()


def add(tx: Transaction, number: int, live: int, payload: int = 1 << 20, k: int = 4, state: str = "sealed") -> VolumeId:
    """A volume with so much room for payload, in stripes of 64 KiB."""
    ident = VolumeId(b"%016d" % number)
    insert_volume(tx, ident, "hot", k, 2, [DeviceId(bytes([cell]) * 16) for cell in range(k + 2)], 1)
    stripes = payload // 65536
    length = payload // k + stripes * CELL_HEADER_SIZE
    tx.run(
        "update volume set state = ?, length = ?, stripes = ?, live = ? where id = ?",
        (state, length, stripes, live, ident),
    )
    return ident


def test_the_one_that_costs_least_is_first() -> None:
    tx = Tables().tx
    add(tx, 1, 1 << 19)  # just half is not more than half
    add(tx, 2, 0)
    add(tx, 3, 100, state="open")
    much, little = add(tx, 4, 400_000), add(tx, 5, 9)
    assert [row.id for row in compaction.half_dead(tx, "hot", NOBODY)] == [little]
    assert [row.id for row in compaction.half_dead(tx, "hot", frozenset({little}))] == [much]
    assert compaction.half_dead(tx, "hot", frozenset({little, much})) == []
    assert compaction.half_dead(tx, "warm", NOBODY) == []


def test_the_narrowest_is_first() -> None:
    tx = Tables().tx
    thin, thinner = add(tx, 1, 1 << 20, k=3), add(tx, 2, 1 << 20, k=1)
    add(tx, 3, 1 << 20, k=4)
    still_open = add(tx, 4, 0, k=3, state="open")
    assert [row.id for row in compaction.narrow(tx, "hot", 6, NOBODY)] == [thinner]
    assert [row.id for row in compaction.narrow(tx, "hot", 6, frozenset({thinner}))] == [thin]
    assert [row.id for row in compaction.narrow_open(tx, "hot", 6)] == [still_open]


def test_small_ones_are_chosen_by_their_like() -> None:
    tx = Tables().tx
    low = [add(tx, number, 1000 + number, 1024) for number in range(MERGE_VOLUMES - 1)]
    high = [add(tx, 100 + number, MERGE_BOUNDS[1], MERGE_BOUNDS[1]) for number in range(MERGE_VOLUMES - 1)]
    assert compaction.small(tx, "hot", NOBODY) == []
    high.append(add(tx, 200, MERGE_BOUNDS[1] + 1, MERGE_BOUNDS[1] + 1))
    assert {row.id for row in compaction.small(tx, "hot", NOBODY)} == set(high)
    assert compaction.small(tx, "hot", frozenset(high[:1])) == []
    low.append(add(tx, 201, 5000, 1024))
    assert {row.id for row in compaction.small(tx, "hot", NOBODY)} == set(low)
    assert compaction.waiting(tx, "hot", 6) == {"half_dead": 0, "narrow": 0, "small": 2 * MERGE_VOLUMES}


class Planned(Transaction):
    """Says how SQLite finds what is asked for."""

    def all(self, sql: str, args: object = ()) -> list[tuple[object, ...]]:
        plan = super().all(f"explain query plan {sql}", args)  # type: ignore[arg-type]
        steps = [str(row[3]) for row in plan if "volume" in str(row[3])]
        assert steps
        # Of open volumes there are few.
        assert all("INDEX volume_" in step for step in steps), steps
        assert all("(tier=?" in step or "volume_state" in step for step in steps), steps
        return []

    def one(self, sql: str, args: object = ()) -> tuple[object, ...]:
        self.all(sql, args)
        return (0,)


def test_each_query_goes_by_an_index_and_passes_over_volumes_of_other_tiers() -> None:
    tx = Planned(Tables()._connection, writable=False)
    compaction.half_dead(tx, "hot", NOBODY)
    compaction.half_dead_behind(tx, "hot", (0, b""))
    compaction.narrow(tx, "hot", 6, NOBODY)
    compaction.narrow_open(tx, "hot", 6)
    compaction.small(tx, "hot", NOBODY)
    compaction.waiting(tx, "hot", 6)
    empty_volumes(tx, 0)


def test_half_dead_ones_are_gone_through_in_chunks() -> None:
    tx = Tables().tx
    made = [add(tx, number, 100 - number // 2) for number in range(7)]
    found, after = list[VolumeId](), (0, b"")
    while rows := compaction.half_dead_behind(tx, "hot", after, 2):
        after = rows[-1].live, rows[-1].id
        found += [row.id for row in rows]
    assert sorted(found) == sorted(made)
    assert len(set(found)) == 7


async def test_a_catalog_of_version_1_gets_what_later_ones_have(tmp_path: Path) -> None:
    later = {
        *schema.VOLUME_INDEXES,
        *schema.SCRUB_TABLES,
        schema.DRAIN,
        schema.USAGE,
        *schema.DECISION_TABLES,
        *schema.CLEAN,
        schema.VACATED,
    }
    before = [statement for statement in schema.TABLES if statement not in later]
    Catalog.create(tmp_path / "c", (*before, *schema.ROWS), 1, page_size=CATALOG_PAGE_SIZE)
    with pytest.raises(Exception, match="older version"):
        await Catalog.open(tmp_path / "c", schema.VERSION, MIGRATIONS, read_only=True)
    catalog = await Catalog.open(tmp_path / "c", schema.VERSION, MIGRATIONS)
    Catalog.create(tmp_path / "new", (*schema.TABLES, *schema.ROWS), schema.VERSION, page_size=CATALOG_PAGE_SIZE)
    new = await Catalog.open(tmp_path / "new", schema.VERSION, MIGRATIONS)
    assert await catalog.read(_schema) == await new.read(_schema)
    await catalog.close()
    await new.close()


def _schema(tx: Transaction) -> list[tuple[object, ...]]:
    return tx.all("select name, sql from sqlite_master order by name")
