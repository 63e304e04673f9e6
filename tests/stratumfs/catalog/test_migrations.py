"""Steps from one version of the tables to the next."""

from pathlib import Path

import pytest

from stratumfs.catalog import schema
from stratumfs.catalog.engine import Catalog, Transaction
from stratumfs.catalog.migrations import MIGRATIONS, Migration, due
from stratumfs.errors import ConfigError
from stratumfs.limits import CATALOG_PAGE_SIZE
from tests.stratumfs.catalog.toy import PAGE, SCHEMA, everything


def add_one(tx: Transaction) -> None:
    tx.run("insert into thing values (2, x'02')")


def add_column(tx: Transaction) -> None:
    tx.run("alter table thing add column note text")


def stumble(tx: Transaction) -> None:
    tx.run("insert into thing values (3, x'03')")
    raise RuntimeError("half way")


async def test_steps_run_once_and_in_order(tmp_path: Path) -> None:
    Catalog.create(tmp_path / "c", SCHEMA, 1, page_size=PAGE)
    steps = [Migration(3, add_column), Migration(2, add_one)]
    for _ in range(2):
        catalog = await Catalog.open(tmp_path / "c", 3, steps)
        assert await catalog.read(everything) == [(2, b"\x02")]
        await catalog.close()
    with pytest.raises(ConfigError, match="newer"):
        await Catalog.open(tmp_path / "c", 1)


async def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    Catalog.create(tmp_path / "c", SCHEMA, 1, page_size=PAGE)
    with pytest.raises(RuntimeError):
        await Catalog.open(tmp_path / "c", 3, [Migration(2, add_one), Migration(3, stumble)])
    catalog = await Catalog.open(tmp_path / "c", 2)
    assert await catalog.read(everything) == [(2, b"\x02")]
    await catalog.close()


async def test_an_older_catalog_is_not_opened_read_only(tmp_path: Path) -> None:
    Catalog.create(tmp_path / "c", SCHEMA, 1, page_size=PAGE)
    with pytest.raises(ConfigError, match="for writing once"):
        await Catalog.open(tmp_path / "c", 2, [Migration(2, add_one)], read_only=True)


def test_a_missing_step_is_named() -> None:
    with pytest.raises(ConfigError, match="version 3"):
        due(1, 3, [Migration(2, add_one)])


async def test_the_log_of_decisions_is_added_in_a_step_that_does_not_grow_with_the_store(tmp_path: Path) -> None:
    older = [statement for statement in schema.TABLES if statement not in schema.DECISION_TABLES]
    Catalog.create(tmp_path / "c", (*older, *schema.ROWS), 5, page_size=CATALOG_PAGE_SIZE)
    catalog = await Catalog.open(tmp_path / "c", 5)
    await catalog.write(_many_moves)
    before = await catalog.read(_pages)
    await catalog.close()
    catalog = await Catalog.open(tmp_path / "c", 6, MIGRATIONS)
    assert await catalog.read(_pages) - before < 20
    await catalog.close()


def _pages(tx: Transaction) -> int:
    row = tx.one("pragma page_count")
    assert row is not None
    return int(row[0])


def _many_moves(tx: Transaction) -> None:
    for ino in range(20_000):
        tx.run("insert into moved values (?, randomblob(16), 'hot', 1)", (ino,))
