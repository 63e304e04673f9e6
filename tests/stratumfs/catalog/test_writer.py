"""When SQLite itself fails in the middle of a transaction."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apsw
import pytest

from stratumfs.catalog.connection import connect
from stratumfs.catalog.create import create_catalog
from stratumfs.catalog.transaction import Seen, Transaction
from stratumfs.catalog.unsynced import Unsynced
from stratumfs.catalog.writer import Slot, Writer
from stratumfs.errors import CatalogCorrupt, CatalogRefused, StoreBusy, StoreFull
from tests.stratumfs.catalog.toy import PAGE, SCHEMA, everything, get, put, put_and_raise


@pytest.fixture
def db(tmp_path: Path) -> Iterator[apsw.Connection]:
    create_catalog(tmp_path / "c", SCHEMA, 1, page_size=PAGE)
    connection = connect(tmp_path / "c" / "catalog.db")
    yield connection
    connection.close()


@pytest.fixture
def unsynced() -> Unsynced:
    return Unsynced()


@pytest.fixture
def writer(db: apsw.Connection, unsynced: Unsynced) -> Writer:
    return Writer(SimpleNamespace(connection=db), unsynced, 0)


def batch(writer: Writer, *calls: Any) -> list[Slot]:
    queue = deque(Slot(fn=call[0], args=call[1:]) for call in calls)
    taken: list[Slot] = []
    while queue:  # what a failing batch did not take is the next one's
        round_: list[Slot] = []
        writer.batch(queue, round_)
        taken += round_
    return taken


def idents(writer: Writer) -> list[int]:
    return [row[0] for row in writer.read(everything, ())]


def limit_pages(db: apsw.Connection, spare: int) -> None:
    db.pragma("max_page_count", db.pragma("page_count") + spare)


def test_without_room_each_function_runs_again_alone(db: apsw.Connection, writer: Writer, unsynced: Unsynced) -> None:
    limit_pages(db, 4)
    slots = batch(writer, (put, 1, b"a"), (put, 2, bytes(100_000)), (put, 3, b"c"), (put_and_raise, 4))
    assert [type(slot.error).__name__ for slot in slots] == ["NoneType", "StoreFull", "NoneType", "PreconditionFailed"]
    assert idents(writer) == [1, 3]
    assert (writer.sequence, len(unsynced)) == (2, 2)
    assert db.execute("select value from catalog_state where key = 'sequence'").get == 2


def test_a_function_that_goes_on_after_sqlite_gave_up_commits_nothing(db: apsw.Connection, writer: Writer) -> None:
    def stubborn(tx: Transaction) -> str:
        put(tx, 1, b"before")
        for _ in range(2):
            with pytest.raises(StoreFull):
                tx.run("insert into thing values (2, zeroblob(100000))")
        with pytest.raises(StoreFull):
            put(tx, 3, b"after")
        return "done"

    limit_pages(db, 4)
    slots = batch(writer, (stubborn,), (put, 4, b"other"))
    assert isinstance(slots[0].error, StoreFull)
    assert slots[0].result is None
    assert idents(writer) == [4]


def test_an_interrupted_function_does_not_take_the_others_along(db: apsw.Connection, writer: Writer) -> None:
    def slow(tx: Transaction) -> None:
        db.set_progress_handler(lambda: True, 1000)  # as sqlite3_interrupt does, at a sure moment
        try:
            tx.run(
                "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000)"
                " insert into thing select i + 10, x'00' from n"
            )
        finally:
            db.set_progress_handler(None)

    slots = batch(writer, (put, 1, b"a"), (slow,), (put, 2, b"b"))
    assert [type(slot.error) for slot in slots] == [type(None), StoreBusy, type(None)]
    assert idents(writer) == [1, 2]


def test_a_statement_that_the_schema_forbids_undoes_only_itself(writer: Writer) -> None:
    def twice(tx: Transaction) -> str:
        put(tx, 1, b"a")
        with pytest.raises(CatalogRefused):
            put(tx, 1, b"b")
        put(tx, 2, b"c")
        return "done"

    slots = batch(writer, (twice,))
    assert slots[0].result == "done"
    assert idents(writer) == [1, 2]


@pytest.mark.parametrize("statements", [["commit"], ["rollback"], ["commit", "begin"]])
def test_a_function_that_ends_the_transaction_puts_the_catalog_in_doubt(writer: Writer, statements: list[str]) -> None:
    def meddle(tx: Transaction) -> None:
        for statement in statements:
            tx.run(statement)

    with pytest.raises(CatalogCorrupt):
        batch(writer, (put, 1, b"a"), (meddle,), (put, 2, b"b"))


def test_a_transaction_without_a_success_writes_nothing(writer: Writer, unsynced: Unsynced) -> None:
    batch(writer, (put_and_raise, 1), (put_and_raise, 2))
    assert (writer.sequence, len(unsynced)) == (0, 0)


def test_a_transaction_that_was_kept_is_dead(writer: Writer) -> None:
    kept: list[Transaction] = []
    writer.write(kept.append, ())
    with pytest.raises(CatalogRefused, match="ended"):
        get(kept[0], 1)


def test_run_counts_the_rows_that_it_changed(writer: Writer) -> None:
    def count(tx: Transaction) -> list[int]:
        put(tx, 1, b"a")
        put(tx, 2, b"a")
        return [
            tx.run("update thing set value = x'01'"),
            tx.run("delete from thing where id = 9"),
            tx.run("create table other (a integer)"),
            tx.run("delete from thing"),
        ]

    assert writer.write(count, ()).result == [2, 0, 0, 2]


def test_what_a_replay_needs_is_kept_until_synced(writer: Writer, unsynced: Unsynced) -> None:
    batch(writer, (put, 1, b"a"), (put_and_raise, 2), (put, 3, b"c"))
    writer.write(put, (4, b"d"))
    kept = [(sequence, [(c.fn, c.args, c.result) for c in calls]) for sequence, calls in unsynced.kept()]
    assert kept == [(1, [(put, (1, b"a"), 1), (put, (3, b"c"), 3)]), (2, [(put, (4, b"d"), 4)])]
    unsynced.synced(1)
    assert [sequence for sequence, _ in unsynced.kept()] == [2]


@pytest.mark.parametrize("left", ["begin", "begin immediate", "savepoint slot"])
def test_regression_nothing_is_answered_from_inside_a_transaction_that_was_left_open(
    db: apsw.Connection, writer: Writer, unsynced: Unsynced, left: str
) -> None:
    """The savepoint of a function that was alone nested in it, and its RELEASE committed nothing."""
    calls: list[Callable[[], object]] = [
        lambda: writer.write(put, (1, b"a")),
        lambda: batch(writer, (put, 1, b"a")),
        lambda: batch(writer, (put, 1, b"a"), (put, 2, b"b")),
        lambda: writer.read(everything, ()),
    ]
    for call in calls:
        db.execute(left)
        db.execute("insert into thing values (9, x'00')")
        with pytest.raises(CatalogCorrupt, match="left open"):
            call()
        assert (writer.sequence, len(unsynced)) == (0, 0)
        assert idents(writer) == []
    assert writer.write(put, (1, b"a")).sequence == 1


def test_regression_a_function_that_leaves_a_savepoint_is_not_answered(writer: Writer, unsynced: Unsynced) -> None:
    def nest(tx: Transaction) -> None:
        put(tx, 1, b"a")
        tx.run("savepoint slot")

    with pytest.raises(CatalogCorrupt, match="left open"):
        writer.write(nest, ())
    assert (writer.sequence, len(unsynced), idents(writer)) == (0, 0, [])


class _Full(list[Seen]):
    def append(self, seen: Seen) -> None:
        raise MemoryError


def test_regression_no_transaction_stays_open_behind_a_failure_beside_the_function(
    db: apsw.Connection, writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MemoryError):
        writer.read(everything, (), _Full())
    assert not db.in_transaction
    with pytest.raises(MemoryError):
        writer.batch(deque([Slot(fn=put, args=(1, b"a"), seen=_Full())]), [])
    assert not db.in_transaction

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Transaction, "__init__", fail)
    for call in (lambda: writer.read(everything, ()), lambda: writer.write(put, (1, b"a"))):
        with pytest.raises(KeyboardInterrupt):
            call()
        assert not db.in_transaction
