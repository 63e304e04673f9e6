"""Every inconsistency of rows that fsck knows is planted, found, and mended or said; what is right is left alone."""

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from stratumfs.catalog import schema
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.extents import delete_row, insert_row
from stratumfs.catalog.invariants import FOUND_MAX, INVARIANTS
from stratumfs.catalog.transaction import Transaction
from stratumfs.erasure.code import Code
from stratumfs.repair.check_rows import check_invariants, check_sums
from stratumfs.repair.findings import Outcome, Report
from stratumfs.store.store import Store
from tests.stores import running_store
from tests.stratumfs.store.helpers import get, put

LONG = b"n" * 260
KEYS = {b"a/b/c": b"abc", b"a/b/d": b"abd", b"e": b"e", b"f": b"f" * 300_000, LONG: b"long"}

_DIR = "(select inode from entry where name = x'622f')"  # b/
_FILE = "(select inode from entry where name = x'65')"  # e
_BUCKET = "(select ino from bucket where name = 'bucket')"

PLANTS: dict[str, Sequence[str]] = {
    "names that are no bytes": ["update entry set name = cast(name as text) where name = x'65'"],
    "orphans without an inode": ["insert into orphan values (999999)"],
    "orphans that are in use": [f"insert into orphan values ({_FILE})"],
    "extents of missing inodes": [f"delete from inode where ino = {_FILE}", "delete from entry where name = x'65'"],
    "entries of missing directories": [f"delete from inode where ino = {_DIR}"],
    "entries of missing inodes": ["update entry set inode = 999999 where name = x'65'"],
    "entries of what is no directory": [f"update entry set parent = {_FILE} where name = x'63'"],
    "names whose form is not that of what they name": ["update entry set name = x'652f' where name = x'65'"],
    "directories with several names": [f"insert into entry values ({_BUCKET}, x'7a2f', {_DIR}, 15, null)"],
    "directories that lie in a circle, or below one": [
        f"update entry set parent = {_DIR} where name = x'612f'"  # a/ below a/b/
    ],
    "buckets without an inode": ["insert into bucket values (999999, 'ghost', 1, 420, 493, 0)"],
    "buckets without a name": ["delete from entry where name = cast('bucket/' as blob)"],
    "directories of the root that are no buckets": ["delete from bucket"],
    "buckets with two names": ["update bucket set name = 'another'"],
    "implied directories that nothing lies in": [
        f"insert into entry values ({_BUCKET}, x'7a2f', 900000, 15, null)",
        "insert into inode values (900000, 16877, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, null, null, null, null)",
    ],
    "attributes of missing inodes": ["insert into xattr values (999999, x'61', x'62')"],
    "sizes of parts of missing inodes": ["insert into parts values (999999, x'5b5d')"],
    "voids of missing inodes": ["insert into void values (999999, 0, 1, 1)"],
    "records of moves of missing inodes": ["insert into moved values (999999, zeroblob(16), 'hot', 1)"],
    "inodes that a missing move took along": [f"insert into moved values ({_FILE}, zeroblob(16), 'hot', 1)"],
    "parts of missing inodes": [
        f"insert into upload values (x'77', {_BUCKET}, x'75', 1, null, null, 0, 'open', null)",
        "insert into part values (x'77', 1, 999999, 0, x'00', 1, null)",
    ],
    "parts of missing uploads": [
        "insert into part select x'77', 1, inode, 0, x'00', 1, null from entry where name = x'65'",
        "delete from entry where name = x'65'",
    ],
    "uploads of missing buckets": ["insert into upload values (x'77', 999999, x'75', 1, null, null, 0, 'open', null)"],
    "bodies of directories that are no files": [f"update inode set body = 999999 where ino = {_DIR}"],
    "inodes that nothing names": ["delete from entry where name = x'65'"],
    "files with a wrong number of links": [f"update inode set nlink = 7 where ino = {_FILE}"],
    "directories with a wrong number of children": [f"update inode set live = 9 where ino = {_DIR}"],
    "directories with a wrong number of links": [f"update inode set nlink = 9 where ino = {_DIR}"],
    "files that are shorter than their extents": [f"update inode set size = 0 where ino = {_FILE}"],
    "volumes with an impossible geometry": ["update volume set k = 0"],
    "volumes in an unknown state": ["update volume set state = 'odd'"],
    "extents in missing volumes": ["delete from volume"],
    "extents in freed volumes": ["update volume set state = 'freed'"],
    "extents behind the end of a sealed volume": ["update volume set length = 1"],
    "extents in stripes that a sealed volume has not": ["update volume set stripes = 0"],
    "volumes with a wrong number of shards": ["delete from shard where cell = 2"],
    "volumes with two shards on one device": [
        "update shard set device = (select device from shard where cell = 0) where cell = 1"
    ],
    "shards of missing volumes": ["insert into shard values (x'99', 0, x'98')"],
    "damage of missing shards": ["insert into damage values (x'99', 0, 1, 'odd')"],
    "looks at missing shards": ["insert into verified values (x'99', 0, 1)"],
    "volumes with a wrong count of live bytes": ["update volume set live = live + 1"],
    "a wrong count of inline bytes": ["update counter set value = value - 1 where name = 'inline_bytes'"],
    "a wrong count of bytes of uploads": ["delete from counter where name = 'upload_bytes'"],
    "inode numbers that will come again": ["update catalog_state set value = 2 where key = 'next_inode'"],
    "cookies that will come again": ["update catalog_state set value = 16 where key = 'next_cookie'"],
    "extent ids that will come again": ["update catalog_state set value = 1 where key = 'next_extent'"],
}

NOT_MENDED = {invariant.text for invariant in INVARIANTS if invariant.mend is None}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")

    async def fill() -> None:
        async with running_store(folder, Code(4, 2)) as store:
            await store.objects.create_bucket("bucket", 1)
            for key, data in KEYS.items():
                await put(store, key, data)

    trio.run(fill)
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    """A store with a few objects, closed."""
    return shutil.copytree(template, tmp_path / "store")


@asynccontextmanager
async def _opened(folder: Path) -> AsyncIterator[Catalog]:
    """The catalog alone: nobody tidies in it."""
    catalog = await Catalog.open(folder / "catalog", schema.VERSION)
    async with trio.open_nursery() as nursery:
        await nursery.start(catalog.serve)
        yield catalog
        await catalog.close()


async def _check(catalog: Catalog, *, mend: bool) -> Report:
    report = Report()
    await check_sums(catalog, report, _silent, mend=mend)
    await check_invariants(catalog, report, _silent, mend=mend)
    return report


def _silent(text: str, done: int, total: int | None) -> None:
    """Nobody watches."""


def _plant(tx: Transaction, statements: Sequence[str]) -> None:
    for statement in statements:
        assert tx.run(statement) > 0, statement


def test_every_invariant_has_a_plant() -> None:
    assert {invariant.text for invariant in INVARIANTS} == set(PLANTS)


async def test_nothing_is_found_where_nothing_is_wrong(folder: Path) -> None:
    async with _opened(folder) as catalog:
        for mend in (False, True):
            report = await _check(catalog, mend=mend)
            assert [each for each in report.findings if each.outcome is not Outcome.NOTED] == []
            assert report.rows == len(KEYS)


@pytest.mark.parametrize("text", PLANTS)
async def test_what_is_planted_is_found_and_mended_or_said(folder: Path, text: str) -> None:
    async with _opened(folder) as catalog:
        await catalog.write(_plant, PLANTS[text])
        before = await _check(catalog, mend=False)
        assert text in {each.text for each in before.findings if each.outcome is Outcome.LEFT}
        assert before.mended == 0
        assert (await _check(catalog, mend=False)).findings == before.findings  # a look changes nothing
        mended = await _check(catalog, mend=True)
        if text in NOT_MENDED:
            assert text in {each.text for each in mended.findings if each.outcome is Outcome.LEFT}
            return
        assert (mended.left, text in {each.text for each in mended.findings}) == (0, True), mended.findings
        assert (await _check(catalog, mend=True)).clean
    async with running_store(folder, Code(4, 2)) as store:
        assert await _bytes(store) == sorted(KEYS.values())  # whatever their names are now


@pytest.mark.parametrize("mend", [False, True])
async def test_regression_what_cannot_be_mended_hides_nothing_behind_it(folder: Path, mend: bool) -> None:
    count = 2 * FOUND_MAX + 50
    many = (
        f"with recursive number(n) as (select 0 union all select n + 1 from number where n < {count - 1})"
        " insert into shard select x'99', n, cast('device ' || n as blob) from number"
    )
    async with _opened(folder) as catalog:
        await catalog.write(_plant, [many])
        report = await _check(catalog, mend=mend)
        assert (report.left, report.mended) == (count, 0)


async def _bytes(store: Store) -> list[bytes]:
    """Of all objects."""
    found = []
    for bucket in await store.objects.buckets():
        for each in (await store.objects.list(bucket.name)).objects:
            async with store.objects.open(bucket.name, each.key) as reader:
                data = b"".join([bytes(chunk) async for chunk in reader.chunks(0, reader.info.size)])
            if data:
                found.append(data)
    return sorted(found)


def _overlap(tx: Transaction, ident: int, offset: int, data: bytes) -> None:
    """An extent of ``g`` beside the one that is there, as only a fault of ours could insert it; 0: the last of ids."""
    last = tx.one("select value - 1 from catalog_state where key = 'next_extent'")
    assert last is not None
    ident = ident or last[0]
    row = tx.one("select inode from entry where name = x'67'")
    assert row is not None
    insert_row(tx, ident, row[0], offset, len(data), None, data)


@pytest.mark.parametrize(("ident", "expected"), [(1, b"0123456789"), (0, b"01ABCD6789")])
async def test_of_extents_that_overlap_the_later_one_lies_above(folder: Path, ident: int, expected: bytes) -> None:
    async with running_store(folder, Code(4, 2)) as store:
        await put(store, b"g", b"0123456789")
    async with _opened(folder) as catalog:
        await catalog.write(_free, ident)
        await catalog.write(_overlap, ident, 2, b"ABCD")
        before = await _check(catalog, mend=False)
        assert "extents that overlap" in {each.text for each in before.findings if each.outcome is Outcome.LEFT}
        mended = await _check(catalog, mend=True)
        assert (mended.left, mended.mended >= 1) == (0, True), mended.findings
        assert (await _check(catalog, mend=True)).clean
    async with running_store(folder, Code(4, 2)) as store:
        assert await get(store, b"g") == expected


def _free(tx: Transaction, ident: int) -> None:
    """An id that is to be given once more: of the first extent of all, whose bytes nobody asks for here."""
    row = tx.one("select volume, length from extent where id = ?", (ident,))
    if row is not None:
        delete_row(tx, ident, *row)
