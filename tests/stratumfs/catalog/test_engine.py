"""What callers of the catalog may rely on."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.catalog.engine import Catalog, Touched, Transaction
from stratumfs.errors import (
    CatalogCorrupt,
    CatalogRefused,
    ConfigError,
    PreconditionFailed,
    StoreBusy,
    StoreClosing,
    StoreReadOnly,
)
from stratumfs.ids import InodeNo
from stratumfs.limits import ROUND_INTERVAL_S, UNSYNCED_TRANSACTIONS_MAX
from tests.stratumfs.catalog.toy import (
    PAGE,
    SCHEMA,
    FailingMember,
    StoppedMember,
    everything,
    get,
    get_name,
    listing,
    put,
    put_and_raise,
    put_if_absent,
    put_name,
    running,
)


class Outcome:
    """Runs one call in a task of its own and remembers how it ended."""

    def __init__(self, nursery: trio.Nursery, fn: Any, *args: Any, **kwargs: Any) -> None:
        self.result: Any = None
        self.error: Exception | None = None
        self.done = trio.Event()
        self.scope = trio.CancelScope()
        nursery.start_soon(self._run, partial(fn, *args, **kwargs))

    async def _run(self, call: Any) -> None:
        with self.scope:
            try:
                self.result = await call()
            except Exception as error:
                self.error = error
            self.done.set()


async def test_what_is_committed_is_read_back_after_reopening(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog:
        assert await catalog.commit(put, 1, b"one") == 1
        assert await catalog.write(put, 2, b"two") == 2
        assert await catalog.read(get, 1) == b"one"
    async with running(tmp_path / "c") as catalog:
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]


async def test_commits_that_wait_together_share_one_round(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog:
        before = catalog.statistics()
        rounds, sequence = before.rounds.rounds, before.sequence
        async with trio.open_nursery() as nursery:
            for ident in range(100):
                nursery.start_soon(catalog.commit, put, ident, b"v")
        after = catalog.statistics()
        assert (after.rounds.rounds, after.sequence) == (rounds + 1, sequence + 1)
        assert after.rounds.batch_max == 100
        assert after.rounds.batches[64] == 1


async def test_functions_of_a_round_run_in_the_order_queued_and_see_each_other(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog, trio.open_nursery() as nursery:
        first = Outcome(nursery, catalog.commit, put_if_absent, 1, b"first")
        await first.done.wait()
        member_order = [Outcome(nursery, catalog.commit, put_if_absent, 2, bytes([n])) for n in range(5)]
        for outcome in member_order:
            await outcome.done.wait()
        assert sum(outcome.error is None for outcome in member_order) == 1
        assert all(isinstance(o.error, PreconditionFailed) for o in member_order if o.error)


async def test_a_function_that_raises_leaves_nothing_and_spares_the_others(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog, trio.open_nursery() as nursery:
        outcomes = [
            Outcome(nursery, catalog.commit, put_and_raise if n % 3 == 1 else put, n, *([] if n % 3 == 1 else [b"v"]))
            for n in range(9)
        ]
        for outcome in outcomes:
            await outcome.done.wait()
        assert [n for n, outcome in enumerate(outcomes) if outcome.error] == [1, 4, 7]
        assert await catalog.read(listing, 0) == [0, 2, 3, 5, 6, 8]
        with pytest.raises(PreconditionFailed):
            await catalog.write(put_and_raise, 1)
        assert await catalog.read(get, 1) is None


async def test_commit_answers_only_when_every_member_holds_it(tmp_path: Path) -> None:
    member = StoppedMember()
    seen: list[Touched] = []
    async with running(tmp_path / "c", [member]) as catalog, trio.open_nursery() as nursery:
        outcome = Outcome(nursery, catalog.commit, put, 1, b"v", committed=seen.append)
        refused = Outcome(nursery, catalog.commit, put_and_raise, 2, committed=seen.append)
        await wait_all_tasks_blocked()
        # Committed, shown to the cache, and not answered: neither the success nor the error.
        assert seen == [Touched(frozenset({InodeNo(1)}))]
        assert await catalog.read(get, 1) == b"v"
        assert not outcome.done.is_set()
        assert not refused.done.is_set()
        member.let_go()
        await outcome.done.wait()
        await refused.done.wait()
        assert outcome.result == 1
        assert isinstance(refused.error, PreconditionFailed)
        assert catalog.statistics().unsynced == 0


async def test_a_refusal_waits_for_the_transaction_that_caused_it(tmp_path: Path) -> None:
    member = StoppedMember()
    async with running(tmp_path / "c", [member]) as catalog, trio.open_nursery() as nursery:
        await catalog.write(put, 1, b"v")
        refused = Outcome(nursery, catalog.commit, put_if_absent, 1, b"w")
        await wait_all_tasks_blocked()
        assert not refused.done.is_set()
        member.let_go()
        await refused.done.wait()
        assert isinstance(refused.error, PreconditionFailed)


async def test_a_cancelled_waiter_leaves_its_function_in_the_queue(tmp_path: Path) -> None:
    member = StoppedMember()
    async with running(tmp_path / "c", [member]) as catalog, trio.open_nursery() as nursery:
        Outcome(nursery, catalog.commit, put, 1, b"v")
        await wait_all_tasks_blocked()
        late = Outcome(nursery, catalog.commit, put, 2, b"w")
        await wait_all_tasks_blocked()
        late.scope.cancel()
        await wait_all_tasks_blocked()
        assert await catalog.read(get, 2) is None
        member.let_go()
        await catalog.commit(put, 3, b"x")
        assert await catalog.read(get, 2) == b"w"


async def test_who_is_cancelled_before_the_call_queues_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog:
        with trio.CancelScope() as scope:
            scope.cancel()
            await catalog.commit(put, 1, b"v")
        assert scope.cancelled_caught
        await catalog.commit(put, 2, b"w")
        assert await catalog.read(get, 1) is None


@pytest.mark.parametrize(
    ("change", "look"),
    [
        ((put, 7, b"v"), (get, 7)),
        ((put_name, 7, b"name"), (get_name, 7, b"name")),
        ((put_name, 7, b"name"), (listing, 7)),
    ],
)
async def test_an_answer_waits_for_what_it_saw_and_for_nothing_else(tmp_path: Path, change: Any, look: Any) -> None:
    member = StoppedMember()
    async with running(tmp_path / "c", [member]) as catalog, trio.open_nursery() as nursery:
        await catalog.write(*change)
        concerned = Outcome(nursery, catalog.read_settled, *look)
        await wait_all_tasks_blocked()
        assert not concerned.done.is_set()
        for elsewhere in ((get, 8), (get_name, 7, b"other"), (get_name, 8, b"name"), (listing, 8)):
            await catalog.read_settled(*elsewhere)
        await catalog.settle(inodes=[InodeNo(8)], names=[(InodeNo(7), b"other")])
        member.let_go()
        await concerned.done.wait()
        await catalog.read_settled(*look)
        assert concerned.error is None


async def test_an_error_that_a_read_answers_with_waits_too(tmp_path: Path) -> None:
    member = StoppedMember()
    async with running(tmp_path / "c", [member]) as catalog, trio.open_nursery() as nursery:
        await catalog.write(put, 1, b"v")
        refused = Outcome(nursery, catalog.read_settled, see_and_raise, 1)
        await wait_all_tasks_blocked()
        assert not refused.done.is_set()
        member.let_go()
        await refused.done.wait()
        assert isinstance(refused.error, PreconditionFailed)


def see_and_raise(tx: Transaction, ident: int) -> None:
    get(tx, ident)
    raise PreconditionFailed("if-none-match")


async def test_who_does_not_hurry_waits_for_a_round_of_others_or_of_the_second(
    tmp_path: Path, mock_clock: MockClock
) -> None:
    async with running(tmp_path) as catalog, trio.open_nursery() as nursery:
        for ident in (1, 2):
            await catalog.write(put, ident, b"x")
            rounds = catalog.statistics().rounds.rounds
            patient = Outcome(nursery, catalog.settle, inodes=[InodeNo(ident)], hurry=False)
            await wait_all_tasks_blocked()
            assert not patient.done.is_set()
            assert catalog.statistics().rounds.rounds == rounds
            if ident == 1:
                await catalog.sync()
            else:
                mock_clock.jump(ROUND_INTERVAL_S)
            await patient.done.wait()
            assert patient.error is None
            assert catalog.statistics().rounds.rounds == rounds + 1


async def test_settle_waits_for_inode_and_name_and_joins_the_running_round(tmp_path: Path) -> None:
    member = StoppedMember()
    async with running(tmp_path / "c", [member]) as catalog, trio.open_nursery() as nursery:
        await catalog.write(put, 1, b"v")
        await catalog.write(put_name, 5, b"n")
        waiting = [
            Outcome(nursery, catalog.settle, inodes=[InodeNo(1)]),
            Outcome(nursery, catalog.settle, names=[(InodeNo(5), b"n")]),
            Outcome(nursery, catalog.sync),
        ]
        await wait_all_tasks_blocked()
        await member.reached()
        joined = Outcome(nursery, catalog.settle, inodes=[InodeNo(1)])
        await wait_all_tasks_blocked()
        assert not any(outcome.done.is_set() for outcome in (*waiting, joined))
        assert len(member.marks) == 1
        member.let_go()
        for outcome in (*waiting, joined):
            await outcome.done.wait()
        assert len(member.marks) == 1
        await catalog.sync()
        assert len(member.marks) == 1


async def test_what_was_committed_after_the_mark_waits_for_the_next_round(tmp_path: Path) -> None:
    member = StoppedMember()
    async with running(tmp_path / "c", [member]) as catalog, trio.open_nursery() as nursery:
        first = Outcome(nursery, catalog.commit, put, 1, b"v")
        await wait_all_tasks_blocked()
        await catalog.write(put, 2, b"w")
        second = Outcome(nursery, catalog.settle, inodes=[InodeNo(2)])
        await wait_all_tasks_blocked()
        member.let_go()
        await first.done.wait()
        await second.done.wait()
        assert [mark.sequence for mark in member.marks] == [2, 3]
        assert member.marks[0].end < member.marks[1].end


async def test_each_second_a_round_covers_what_nobody_waits_for(tmp_path: Path, autojump_clock: Any) -> None:
    member = StoppedMember()
    async with running(tmp_path / "c", [member]) as catalog:
        await catalog.write(put, 1, b"v")
        assert catalog.statistics().unsynced == 1
        await member.reached()
        member.let_go()


async def test_a_round_takes_a_bounded_number_of_bytes(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog:
        async with trio.open_nursery() as nursery:
            for ident in range(10):
                nursery.start_soon(catalog.commit, put, ident, bytes(1 << 20))
        assert catalog.statistics().rounds.batch_max == 4
        assert len(await catalog.read(listing, 0)) == 10


async def test_writes_do_not_pile_up_unsynced(tmp_path: Path) -> None:
    member = StoppedMember()
    async with running(tmp_path / "c", [member]) as catalog, trio.open_nursery() as nursery:
        for ident in range(UNSYNCED_TRANSACTIONS_MAX):
            await catalog.write(put, ident, b"v")
        one_more = Outcome(nursery, catalog.write, put, UNSYNCED_TRANSACTIONS_MAX, b"v")
        await wait_all_tasks_blocked()
        assert not one_more.done.is_set()
        member.let_go()
        await one_more.done.wait()
        assert one_more.error is None


async def test_the_queue_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stratumfs.catalog.engine.COMMITS_WAITING_MAX", 3)
    member = StoppedMember()
    async with running(tmp_path / "c", [member]) as catalog, trio.open_nursery() as nursery:
        for ident in range(4):
            Outcome(nursery, catalog.commit, put, ident, b"v")
            if ident == 0:
                await wait_all_tasks_blocked()  # its round has begun; three more wait
        await wait_all_tasks_blocked()
        with pytest.raises(StoreBusy):
            await catalog.commit(put, 9, b"v")
        member.let_go()


async def test_an_error_of_the_committed_callback_reaches_its_caller_alone(tmp_path: Path) -> None:
    def broken(touched: Touched) -> None:
        raise ZeroDivisionError

    async with running(tmp_path / "c") as catalog, trio.open_nursery() as nursery:
        bad = Outcome(nursery, catalog.commit, put, 1, b"v", committed=broken)
        good = Outcome(nursery, catalog.commit, put, 2, b"v")
        await bad.done.wait()
        await good.done.wait()
        assert isinstance(bad.error, ZeroDivisionError)
        assert good.error is None


async def test_a_failed_sync_answers_nobody_and_is_never_tried_again(tmp_path: Path) -> None:
    member = FailingMember()
    async with running(tmp_path / "c", [member]) as catalog, trio.open_nursery() as nursery:
        await catalog.commit(put, 1, b"v")
        await catalog.write(put, 2, b"w")
        member.failing = True
        calls = member.calls
        waiting = [
            Outcome(nursery, catalog.commit, put, 3, b"x"),
            Outcome(nursery, catalog.commit, put_and_raise, 4),
            Outcome(nursery, catalog.settle, inodes=[InodeNo(2)]),
            Outcome(nursery, catalog.sync),
        ]
        for outcome in waiting:
            await outcome.done.wait()
            assert isinstance(outcome.error, StoreReadOnly)
        member.failing = False
        for call in (
            partial(catalog.commit, put, 5, b""),
            partial(catalog.write, put, 6, b""),
            catalog.sync,
            catalog.checkpoint,
            partial(catalog.read_settled, get, 2),
        ):
            with pytest.raises(StoreReadOnly):
                await call()
        assert member.calls == calls + 1
        assert catalog.failure is not None
        assert "Input/output" in catalog.failure
        # Reads go on, and what is durable can be answered.
        assert await catalog.read(get, 2) == b"w"
        assert await catalog.read_settled(get, 1) == b"v"


@pytest.mark.parametrize("how", ["removed", "replaced", "overwritten"])
async def test_a_lost_wal_is_noticed_before_the_answer(tmp_path: Path, how: str) -> None:
    async with running(tmp_path / "c") as catalog:
        wal = tmp_path / "c" / "catalog.db-wal"
        await catalog.commit(put, 1, b"v")
        if how == "overwritten":
            os.truncate(wal, 0)
        else:
            wal.unlink()
        if how == "replaced":
            wal.write_bytes(bytes(100_000))
        with pytest.raises(CatalogCorrupt, match=how):
            await catalog.commit(put, 2, b"w")
        with pytest.raises(StoreReadOnly):
            await catalog.write(put, 3, b"x")


async def test_close_answers_who_waits_and_refuses_who_comes_later(tmp_path: Path) -> None:
    Catalog.create(tmp_path / "c", SCHEMA, 1, page_size=PAGE)
    catalog = await Catalog.open(tmp_path / "c", 1)
    async with trio.open_nursery() as nursery:
        waiting = Outcome(nursery, catalog.commit, put, 1, b"v")  # nobody serves: the last round is close's
        await wait_all_tasks_blocked()
        await catalog.close()
        await waiting.done.wait()
        assert waiting.result == 1
    for call in (
        partial(catalog.commit, put, 2, b""),
        partial(catalog.write, put, 2, b""),
        partial(catalog.read, get, 1),
    ):
        with pytest.raises(StoreClosing):
            await call()
    await catalog.close()


async def test_a_cancelled_server_answers_what_waits(tmp_path: Path) -> None:
    Catalog.create(tmp_path / "c", SCHEMA, 1, page_size=PAGE)
    member = StoppedMember()
    catalog = await Catalog.open(tmp_path / "c", 1, members=[member])
    async with trio.open_nursery() as clients:
        async with trio.open_nursery() as nursery:
            await nursery.start(catalog.serve)
            first = Outcome(clients, catalog.commit, put, 1, b"v")
            await wait_all_tasks_blocked()
            second = Outcome(clients, catalog.commit, put, 2, b"w")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
            member.let_go()
        await first.done.wait()
        await second.done.wait()
        assert (first.result, second.result) == (1, 2)
        with pytest.raises(StoreClosing):
            await catalog.commit(put, 3, b"x")
    await catalog.close()


async def test_a_catalog_opened_read_only_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog:
        await catalog.commit(put, 1, b"v")
    before = [(tmp_path / "c" / name).read_bytes() for name in ("catalog.db", "catalog.db-wal")]
    async with running(tmp_path / "c", read_only=True) as catalog:
        assert await catalog.read_settled(get, 1) == b"v"
        assert catalog.read_only
        for call in (partial(catalog.commit, put, 2, b""), partial(catalog.write, put, 2, b""), catalog.ids.inodes):
            with pytest.raises(StoreReadOnly):
                await call()
    assert before == [(tmp_path / "c" / name).read_bytes() for name in ("catalog.db", "catalog.db-wal")]


@pytest.mark.parametrize("lost", ["catalog.db", "catalog.db-wal"])
async def test_a_missing_file_is_an_error_and_never_a_new_catalog(tmp_path: Path, lost: str) -> None:
    async with running(tmp_path / "c") as catalog:
        await catalog.commit(put, 1, b"v")
    (tmp_path / "c" / lost).unlink()
    with pytest.raises(ConfigError if lost == "catalog.db" else CatalogCorrupt):
        await Catalog.open(tmp_path / "c", 1)
    assert not (tmp_path / "c" / lost).exists()


async def test_a_damaged_page_turns_the_catalog_read_only(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog:
        for ident in range(100):
            await catalog.write(put, ident, bytes(2000))
    database = tmp_path / "c" / "catalog.db"
    pages = database.stat().st_size // PAGE
    with database.open("r+b") as file:
        file.seek((pages - 30) * PAGE)
        file.write(b"\xff" * 30 * PAGE)
    async with running(tmp_path / "c") as catalog:
        with pytest.raises(CatalogCorrupt):
            await catalog.read(everything)
        assert catalog.failure is not None
        with pytest.raises(StoreReadOnly):
            await catalog.commit(put, 1000, b"v")
        assert await catalog.read(get, 0) is not None


async def test_a_row_that_its_reader_rejects_leaves_the_catalog_writable(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog:
        for call in (catalog.read, catalog.write, catalog.commit):
            with pytest.raises(CatalogCorrupt):
                await call(reject)
        assert catalog.failure is None
        await catalog.commit(put, 1, b"v")


def reject(tx: Transaction) -> None:
    raise CatalogCorrupt("this row's hash is wrong")


async def test_a_read_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path / "c") as catalog:
        with pytest.raises(CatalogRefused):
            await catalog.read(put, 1, b"v")
        await catalog.read(sneak)
        assert await catalog.read(listing, 0) == []


def sneak(tx: Transaction) -> None:
    tx.all("insert into thing values (1, x'00') returning id")
