"""Copies of a running catalog beside its primary: what changes meanwhile is no fault, and what cannot be looked into is
not blamed."""

import errno
import itertools
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest
import trio
import trio.testing

from stratumfs.catalog import comparing
from stratumfs.catalog.chains import copy_files
from stratumfs.catalog.compare import Change, Key, Row, Table, put_right, right_one
from stratumfs.catalog.comparing import Compared, _Comparison, compare_copies
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.snapshot import CopyAt
from stratumfs.catalog.transaction import Touched, Transaction
from stratumfs.errors import NoSuchBucket
from stratumfs.ids import ROOT_INODE, InodeNo
from stratumfs.limits import CATALOG_PAGE_SIZE
from stratumfs.store.store import Store
from stratumfs.values import NewExtent, Publication
from tests.faults.rot import rot
from tests.faults.run import make_here, opened
from tests.stratumfs.store.helpers import put

T = TypeVar("T")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    for slot in range(6):
        (tmp_path / f"d{slot}").mkdir()
    make_here(tmp_path)
    async with opened(tmp_path) as found:
        await found.objects.create_bucket("bucket", 1)
        for number in range(300):
            await found.catalog.write(_insert, number)
        await found.catalog.sync()
        yield found


def _insert(tx: Transaction, number: int) -> None:
    tx.run("insert into xattr values (1, ?, x'00')", (b"%04d" % number,))


async def _quiet(_: float, __: int) -> None:
    """Nobody is in a hurry."""


async def test_copies_of_a_catalog_that_nobody_changes_are_alike(store: Store) -> None:
    found = await compare_copies(store.catalog, _quiet, mend=True)
    assert (found.copies, found.wrong, found.bad, found.unknown) == (3, [], {}, [])
    assert found.rows >= 3 * 300


async def test_what_was_put_right_is_read_anew_by_who_remembered_it(store: Store) -> None:
    ino = (await put(store, b"k", b"x" * 40_000)).ino
    assert len(await store.reader.read(ino, 0, 50_000)) == 40_000
    inode = await store.catalog.read(_row, "inode", ino)
    named = await store.catalog.read(_columns, "inode")
    shorter = tuple(30_000 if column == "size" else value for column, value in zip(named, inode, strict=True))
    assert await store.catalog.commit(put_right, [("inode", (ino,), inode, shorter)], {}) == [True]
    assert await store.reader.read(ino, 0, 50_000) == b"x" * 30_000
    (extent,) = await store.reader.layout(ino, 0, 30_000)
    row = await store.catalog.read(_row, "extent", extent.id)
    assert await store.catalog.commit(put_right, [("extent", (extent.id,), row, None)], {}) == [True]
    assert await store.reader.read(ino, 0, 50_000) == bytes(30_000)


def _row(tx: Transaction, table: str, number: int) -> tuple[Any, ...]:
    key = "id" if table == "extent" else "ino"
    found = tx.one(f"select * from {table} where {key} = ?", (number,))
    assert found is not None
    return found


def _columns(tx: Transaction, table: str) -> list[str]:
    return [row[1] for row in tx.all(f"pragma table_info({table})")]


async def test_regression_a_bucket_and_the_sizes_of_parts_that_were_put_right_are_read_anew(store: Store) -> None:
    """A bucket was remembered by its name, and of a multipart object how it is cut; neither was touched."""
    told: list[Touched] = []
    row = await store.catalog.read(_bucket)
    first, second, third = [(await put(store, key, b"x")).ino for key in (b"1", b"2", b"3")]
    wrong = (first, "other", *row[2:])
    changes: list[Change] = [
        ("bucket", (row[0],), row, None),
        ("bucket", (first,), None, wrong),
        ("parts", (second,), None, (second, b"[1]")),
        ("void", (third, 0, 1, 1), None, (third, 0, 1, 1)),
    ]
    assert await store.catalog.commit(put_right, changes, {}, committed=told.append) == [True] * 4
    assert told[0].names == {(ROOT_INODE, b"bucket/"), (ROOT_INODE, b"other/")}
    assert {second, third} <= told[0].inodes
    with pytest.raises(NoSuchBucket):
        await store.objects.bucket("bucket")


async def test_rows_of_a_file_that_was_deleted_before_they_were_put_right_are_not_made(store: Store) -> None:
    ino = (await put(store, b"k", b"x" * 1000)).ino
    (extent,) = await store.reader.layout(ino, 0, 1000)
    inode = await store.catalog.read(_row, "inode", ino)
    row = await store.catalog.read(_row, "extent", extent.id)
    name: Row = (ROOT_INODE, b"name", ino, 99, None)
    await store.catalog.commit(put_right, [("extent", (extent.id,), row, None), ("inode", (ino,), inode, None)], {})
    late: list[Change] = [("extent", (extent.id,), None, row), ("entry", name[:2], None, name)]
    assert await store.catalog.commit(put_right, late, {}) == [False, False]
    assert await store.catalog.commit(put_right, [*late, ("inode", (ino,), None, inode)], {}) == [True] * 3


async def test_bytes_that_came_anew_are_not_covered_by_what_was_lost_before(store: Store, tmp_path: Path) -> None:
    """A scrub has judged that an extent is missing; before it puts that right the file is written anew."""
    ino = (await put(store, b"k", b"x" * 1000)).ino
    (extent,) = await store.reader.layout(ino, 0, 1000)
    assert await store.catalog.checkpoint()
    (tmp_path / "none").touch()
    rot(store.catalog.folder / "catalog.db", tmp_path / "none", [("delete from extent where id = ?", (extent.id,))])
    commit = store.catalog.commit

    async def late(fn: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if fn is put_right:
            new = Publication(0, (NewExtent(0, 500, data=b"y" * 500),), 1000, 1)
            await store.files.publish(ino, new, time.time_ns(), durable=True)
        return await commit(fn, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.catalog, "commit", late)
        found = await compare_copies(store.catalog, _quiet, mend=True)
    assert [restored for _, restored in found.wrong] == [False]
    assert await store.reader.read(ino, 0, 1000) == b"y" * 500 + bytes(500)


def _bucket(tx: Transaction) -> tuple[Any, ...]:
    (row,) = tx.all("select * from bucket")
    return row


class _Cache:
    def __init__(self) -> None:
        self.names: list[tuple[InodeNo, bytes]] = []

    async def invalidate(self, _: Collection[InodeNo], names: Collection[tuple[InodeNo, bytes]]) -> None:
        self.names += names


async def test_regression_the_mount_is_told_of_rows_that_a_scrub_puts_right(store: Store, tmp_path: Path) -> None:
    assert await store.catalog.checkpoint()
    cache = _Cache()
    store.changes.attach(cache)
    (tmp_path / "none").touch()
    gone = ("delete from entry where name = ?", (b"bucket/",))
    rot(store.catalog.folder / "catalog.db", tmp_path / "none", [gone])
    await store.scrubber.round(at_once=True)
    await trio.testing.wait_all_tasks_blocked()
    assert cache.names == [(ROOT_INODE, b"bucket/")]


async def test_what_is_changed_meanwhile_is_no_fault(store: Store) -> None:
    number = 0

    async def change(_: float, __: int) -> None:
        nonlocal number
        number += 1
        await put(store, f"o{number}".encode(), b"data")
        await store.catalog.write(_change, number)

    found = await compare_copies(store.catalog, change, mend=True)
    assert number > 20
    assert (found.copies, found.wrong, found.bad, found.unknown) == (3, [], {}, [])


async def test_regression_what_comes_and_goes_while_copies_are_asked_is_no_fault(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The primary had no such row before, and none behind; good copies were made anew for what they had between."""
    numbers, synced = itertools.count(1), comparing._synced

    async def come(catalog: Catalog) -> None:
        await store.catalog.write(_come, next(numbers))
        await synced(catalog)

    def go_behind(ask: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        async def asked(*args: object, **more: object) -> T:
            found = await ask(*args, **more)
            await store.catalog.write(_go)
            return found

        return asked

    monkeypatch.setattr(comparing, "_synced", come)
    for name in ("_snapshot", "_voices"):
        monkeypatch.setattr(_Comparison, name, go_behind(getattr(_Comparison, name)))
    found = await compare_copies(store.catalog, _quiet, mend=True)
    assert next(numbers) == 3 + 1 + 1
    assert (found.copies, found.wrong, found.bad, found.unknown) == (3, [], {}, [])


async def test_a_copy_that_does_not_say_in_time_what_it_has_holds_up_no_commit(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While copies are asked who is right no round comes to them."""
    gate, hangs, rows, asked = threading.Event(), threading.Event(), comparing._rows, itertools.count(1)
    found = list[Compared]()

    def hang(copy: CopyAt, suspects: Sequence[tuple[Table, Key]]) -> list[Row | None]:
        if next(asked) == 4:  # what is merely changed has been sorted out
            hangs.set()
            assert gate.wait(60)
        return rows(copy, suspects)

    async def compare() -> None:
        found.append(await compare_copies(store.catalog, _quiet, mend=False))

    monkeypatch.setattr(comparing, "_rows", hang)
    monkeypatch.setattr(comparing, "_HEARD_S", 1.0)
    copy = await _rot(store, tmp_path, "update xattr set value = x'99' where name = ?", (b"0010",))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(compare)
        await trio.to_thread.run_sync(hangs.wait)
        await store.objects.create_bucket("other", 1)  # on other pages
        gate.set()
    assert next(asked) > 4 + 3
    assert found[0].bad.keys() == {copy.label}, "it was judged when all had said what they have"
    assert (found[0].wrong, found[0].unknown) == ([], [])


def _come(tx: Transaction, number: int) -> None:
    tx.run("insert into xattr values (1, x'00', ?)", (b"%d" % number,))


def _go(tx: Transaction) -> None:
    tx.run("delete from xattr where name = x'00'")


def _change(tx: Transaction, number: int) -> None:
    tx.run("update xattr set value = ?", (b"%d" % number,))


async def test_a_copy_that_is_no_database_any_more_is_made_anew(store: Store) -> None:
    assert await store.catalog.checkpoint()  # what lies in the log is not the base's
    copy = store.catalog.copies[1]
    path = copy.folder / f"base.{copy_files(copy.folder).base}"
    data = bytearray(path.read_bytes())
    for page in range(1, len(data) // CATALOG_PAGE_SIZE):
        data[page * CATALOG_PAGE_SIZE : page * CATALOG_PAGE_SIZE + 100] = bytes(100)
    path.write_bytes(data)
    found = await compare_copies(store.catalog, _quiet, mend=True)
    assert set(found.bad) == found.remade == {copy.label}
    found = await compare_copies(store.catalog, _quiet, mend=True)
    assert (len(store.catalog.copies), found.copies, found.bad) == (2, 2, {})  # the third one joins in its own time


async def test_what_is_no_copy_any_more_is_not_blamed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has become the primary: its files have other names by now, and it must not be struck for that."""
    assert await store.catalog.checkpoint()
    before = list(store.catalog.copies)
    (before[1].folder / f"base.{copy_files(before[1].folder).base}").unlink()
    asked = iter([before])
    monkeypatch.setattr(type(store.catalog), "copies", property(lambda _: next(asked, [before[0], before[2]])))
    found = await compare_copies(store.catalog, _quiet, mend=True)
    assert (found.copies, found.bad, found.remade, set(found.not_looked)) == (2, {}, set(), {before[1].label})


async def test_where_there_is_no_room_to_look_nobody_is_blamed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: str) -> NoReturn:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    found = await compare_copies(store.catalog, _quiet, mend=True)
    assert (found.copies, len(found.not_looked), found.bad) == (0, 3, {})


def test_who_is_right_is_what_most_have() -> None:
    table = Table("inode", ("ino",), (0,))
    a, b, c = (1, "a"), (1, "b"), (1, "c")
    assert right_one(table, [a, b, b]) == (b, True)
    assert right_one(table, [a, a, b, b]) == (a, False)
    assert right_one(table, [a, b])[1] is False
    assert right_one(table, [None, b, b]) == (b, True)
    assert right_one(table, [a, None, None]) == (None, True)
    assert right_one(table, [a, b, c])[1] is False


async def test_a_whole_extent_is_right_where_nobody_says_that_there_is_none(store: Store) -> None:
    ino = (await put(store, b"k", b"x" * 1000)).ino
    (extent,) = await store.reader.layout(ino, 0, 1000)
    whole = await store.catalog.read(_row, "extent", extent.id)
    named = await store.catalog.read(_columns, "extent")
    rotten = tuple(0 if column == "length" else value for column, value in zip(named, whole, strict=True))
    table = Table("extent", ("id",), (named.index("id"),))
    found: dict[str, tuple[list[Row | None], tuple[Row | None, bool]]] = {
        "the others fail": ([rotten, rotten, whole], (whole, True)),
        "most have it": ([None, whole, whole], (whole, True)),
        "most have deleted it": ([whole, None, None], (None, True)),
        "a copy kept a page": ([None, None, None, whole], (None, True)),
        "most have none": ([rotten, None, None], (None, True)),
    }
    for why, (rows, right) in found.items():
        assert right_one(table, rows) == right, why
    for rows in ([None, whole], [whole, None], [None, whole, rotten], [rotten, None], [rotten, None, whole, None]):
        assert right_one(table, rows)[1] is False
    assert right_one(table, [(*rotten,), (*rotten[:-1], b"other")])[1] is False


async def test_regression_a_copy_that_kept_a_deleted_extent_cannot_bring_it_back(store: Store, tmp_path: Path) -> None:
    """A page of one copy was not written, and its row passes its check; all others have deleted it."""
    ino = (await put(store, b"k", b"x" * 1000)).ino
    (extent,) = await store.reader.layout(ino, 0, 1000)
    row = await store.catalog.read(_row, "extent", extent.id)
    await store.catalog.commit(put_right, [("extent", (extent.id,), row, None)], {})
    copy = await _rot(store, tmp_path, f"insert into extent values ({', '.join('?' * len(row))})", row)
    found = await compare_copies(store.catalog, _quiet, mend=True)
    assert (found.wrong, set(found.bad), found.remade) == ([], {copy.label}, {copy.label})
    assert await store.reader.layout(ino, 0, 1000) == []


async def test_regression_a_busy_store_hides_nothing_behind_what_merely_changed(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many rows as are judged together change before the one that is wrong is met."""
    monkeypatch.setattr(comparing, "COMPARED_MAX", 50)
    await store.catalog.write(_insert_long)  # on pages of its own, which no change takes along
    copy = await _rot(store, tmp_path, "update xattr set value = ? where name = x'ff'", (bytes(19_999) + b"x",))

    async def change(_: float, __: int) -> None:
        await store.catalog.write(_change_early)

    found = await compare_copies(store.catalog, change, mend=True)
    assert (found.copies, found.wrong, found.unknown) == (3, [], [])
    assert set(found.bad) == found.remade == {copy.label}


async def test_a_copy_that_may_be_right_where_nobody_knows_is_not_made_anew(store: Store, tmp_path: Path) -> None:
    """Two against two in one row, and one of them is wrong in another: it is said, and kept."""
    wrong, also = store.catalog.copies[:2]
    for copy in (wrong, also):
        await _rot(store, tmp_path, "update xattr set value = x'99' where name = ?", (b"0010",), copy)
    await _rot(store, tmp_path, "update xattr set value = x'99' where name = ?", (b"0011",), wrong)
    found = await compare_copies(store.catalog, _quiet, mend=True)
    assert (found.wrong, len(found.unknown), set(found.bad), found.remade) == ([], 1, {wrong.label}, set())


async def _rot(
    store: Store, tmp_path: Path, statement: str, arguments: tuple[Any, ...], copy: CopyAt | None = None
) -> CopyAt:
    """One copy has another page than it was told."""
    assert await store.catalog.checkpoint()
    copy = copy or store.catalog.copies[1]
    (tmp_path / "none").touch()
    rot(copy.folder / f"base.{copy_files(copy.folder).base}", tmp_path / "none", [(statement, arguments)])
    return copy


def _insert_long(tx: Transaction) -> None:
    tx.run("insert into xattr values (1, x'ff', zeroblob(20000))")


def _change_early(tx: Transaction) -> None:
    tx.run("update xattr set value = value || x'00' where name < ?", (b"0200",))
