"""A catalog on several places: openings, strikes, joins, fail-overs."""

import errno
import os
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.catalog import checkpoints, copies, deadlines, membership, seeding
from stratumfs.catalog.chains import COPY_CHUNK, Form, read_manifest
from stratumfs.catalog.copies import Copy, seed
from stratumfs.catalog.deadlines import within
from stratumfs.catalog.durability import Checkpointer, Mark, Primary, PrimaryLost
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.membership import Membership
from stratumfs.catalog.writer import Writer
from stratumfs.errors import CatalogCorrupt, ConfigError, StoreClosing, StoreReadOnly
from stratumfs.ids import STORE_PLACE
from stratumfs.limits import STRIKE_S
from tests.stratumfs.catalog.somewhere import (
    FolderPlace,
    make_catalog,
    member_numbers,
    open_at,
    pass_s,
    pass_until,
    place_id,
    places_in,
    unanswered,
    until,
)
from tests.stratumfs.catalog.toy import everything, get, put


async def test_an_opening_makes_copies_and_every_one_of_them_has_what_was_answered(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        assert member_numbers(places, booted.members.members) == {0, 1, 2, 3}
        await catalog.commit(put, 1, b"kept")
    for number in (1, 2, 3):
        async with open_at(places, {number, 4, 5, 6}) as (catalog, _):
            assert await catalog.read(get, 1) == b"kept"


async def test_without_more_than_half_of_the_places_nothing_is_written(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, _):
        await catalog.commit(put, 1, b"kept")
    async with open_at(places, {0, 1, 5}) as (catalog, booted):
        assert "3 of 7 places" in booted.why_not
        assert await catalog.read(get, 1) == b"kept"
        with pytest.raises(StoreReadOnly):
            await catalog.commit(put, 2, b"refused")


async def test_a_place_that_was_made_anew_is_no_witness_of_what_the_lost_one_knew(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, _):
        await catalog.commit(put, 1, b"kept")
    async with open_at(places, {0, 4, 5, 6}) as (catalog, _):
        await catalog.commit(put, 2, b"answered")
    shutil.rmtree(places[0].root)
    places[0].root.mkdir()
    async with open_at(places, {0, 1, 2, 3}) as (_, booted):
        assert "3 of 7 places" in booted.why_not
    async with open_at(places, {0, 1, 2, 3, 4}) as (catalog, booted):
        assert not booted.why_not
        assert await catalog.read(everything) == [(1, b"kept"), (2, b"answered")]


async def test_the_store_folder_is_made_anew_of_a_copy(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, _):
        await catalog.commit(put, 1, b"kept")
    async with open_at(places, range(1, 7)) as (catalog, booted):
        assert booted.members is not None
        assert STORE_PLACE not in booted.members.members
        await catalog.commit(put, 2, b"without the store folder")
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        assert booted.members.primary == STORE_PLACE
        assert await catalog.read(everything) == [(1, b"kept"), (2, b"without the store folder")]


@pytest.mark.parametrize("call", ["open", "fsync_path"])
async def test_copies_that_have_no_descriptor_for_their_next_log_wait_for_one(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(deadlines, "STARVED_S", 0.0)
    module = os if call == "open" else copies
    asked, real = list[object](), getattr(module, call)

    def refuse_twice(path: Path, *rest: object) -> object:
        if call == "fsync_path" or Path(path).name.startswith("wal."):
            asked.append(path)
            if len(asked) <= 2:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(path, *rest)

    async with open_at(places) as (catalog, booted):
        await catalog.commit(put, 1, b"kept")
        assert booted.members is not None
        members = list(booted.members.members)
        monkeypatch.setattr(module, call, refuse_twice)
        assert await catalog.checkpoint()
        await catalog.commit(put, 2, b"in the next generation")
        assert len(asked) > 2
        assert list(booted.members.members) == members
        assert booted.members.struck == {}
    async with open_at(places, {1, 2, 5, 6}) as (catalog, _):
        assert await catalog.read(everything) == [(1, b"kept"), (2, b"in the next generation")]


async def test_copies_that_were_members_go_on_and_are_not_made_anew(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, _):
        await catalog.commit(put, 1, b"kept")
        assert await catalog.checkpoint()
        await catalog.commit(put, 2, b"in the next generation")
    before = [_manifest(place).folder for place in places[:4]]
    async with open_at(places) as (catalog, _):
        await catalog.commit(put, 3, b"later")
    assert [_manifest(place).folder for place in places[:4]] == before
    async with open_at(places, {2, 4, 5, 6}) as (catalog, _):
        assert len(await catalog.read(everything)) == 3


async def test_a_copy_that_fails_is_struck_before_anything_is_answered(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        await catalog.commit(put, 1, b"one")
        _break(places[2])
        await catalog.commit(put, 2, b"two")
        assert 2 not in member_numbers(places, booted.members.members)
        assert len(booted.members.members) >= 3
    _mend(places[2])
    async with open_at(places, {1, 2, 5, 6}) as (catalog, _):
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]
    async with open_at(places, {2, 4, 5, 6}) as (catalog, _):
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]


async def test_a_new_member_joins_for_one_that_was_struck(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        _break(places[2])
        await catalog.commit(put, 1, b"one")
        await members.join_spares(catalog._rounds.exclusive)
        assert member_numbers(places, members.members) == {0, 1, 3, 4}
        await catalog.commit(put, 2, b"two")
    async with open_at(places, {4, 2, 5, 6}) as (catalog, _):
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]


async def test_the_primary_dies_and_a_copy_takes_over(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        await catalog.write(put, 2, b"not durable yet")
        _break(places[0])
        await catalog.commit(put, 3, b"three")
        assert members.primary != STORE_PLACE
        assert await catalog.read(everything) == [(1, b"one"), (2, b"not durable yet"), (3, b"three")]
        assert await catalog.checkpoint()
        await catalog.commit(put, 4, b"four")
    async with open_at(places, {members_number(places, members.primary), 4, 5, 6}) as (catalog, _):
        assert len(await catalog.read(everything)) == 4


async def test_while_a_copy_takes_over_reads_show_all_that_was_shown_before(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        await catalog.commit(put, 1, b"one")
        lose_primary(monkeypatch, catalog)
        await catalog.write(put, 2, b"shown, and on no copy")
        async with trio.open_nursery() as nursery:
            with Gate(places[6]) as gate:
                nursery.start_soon(catalog.commit, put, 3, b"three")
                await gate.reached()
                assert booted.members.primary != STORE_PLACE
                assert await catalog.read(get, 2) == b"shown, and on no copy"
        assert len(await catalog.read(everything)) == 3
    for number in (1, 2, 3):
        async with open_at(places, {number, 4, 5, 6}) as (catalog, _):
            assert len(await catalog.read(everything)) == 3


async def test_reads_wait_where_the_new_database_fails_before_it_shows_everything(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another copy takes over then."""
    replay, failures = Writer.replay, [apsw.IOError("disk I/O error")]

    def replayed(self: Writer, kept: Sequence[Any]) -> None:
        if failures:
            raise CatalogCorrupt("the catalog's database fails") from failures.pop()
        replay(self, kept)

    monkeypatch.setattr(Writer, "replay", replayed)
    seen: list[bytes | None] = []

    async def look() -> None:
        while len(seen) < 100:
            seen.append(await catalog.read(get, 2))
            await trio.lowlevel.checkpoint()
        await catalog.sync()

    async with open_at(places) as (catalog, booted):
        await catalog.commit(put, 1, b"one")
        lose_primary(monkeypatch, catalog)
        await catalog.write(put, 2, b"shown")
        synced = catalog.statistics().synced
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            await catalog.commit(put, 3, b"three")
        assert not failures
        assert set(seen) == {b"shown"}
        assert catalog.statistics().synced > synced
        assert booted.members is not None
        assert len(set(booted.members.struck)) == 2


async def test_what_comes_out_otherwise_when_it_is_shown_again_is_shown_to_nobody(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    def odd(tx: Any, ident: int) -> object:
        put(tx, ident, b"odd")
        return object()

    async with open_at(places) as (catalog, _):
        await catalog.commit(put, 1, b"one")
        lose_primary(monkeypatch, catalog)
        await catalog.write(put, 2, b"two")
        await catalog.write(odd, 3)
        with pytest.raises(CatalogCorrupt, match="otherwise than before"):
            await catalog.sync()
        assert catalog.diverged
        for read in (catalog.read, catalog.read_settled):
            with pytest.raises(CatalogCorrupt, match="what it has shown"):
                await read(get, 1)


async def test_where_no_copy_can_take_over_what_was_shown_is_shown_on(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the database that is lost, as far as it can be read."""
    async with open_at(places) as (catalog, _):
        await catalog.commit(put, 1, b"one")
        lose_primary(monkeypatch, catalog)
        await catalog.write(put, 2, b"two")
        for place in places[1:]:
            place.dead = True
        with pytest.raises(StoreReadOnly):
            await catalog.sync()
        assert not catalog.diverged
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]


async def test_a_copy_that_was_made_of_a_lost_database_does_not_join(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its log would be the lost one's, and what that lacks would be held against the new one."""
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        copy, chain = await members._holders.seed(members._calls, places[5])
        lose_primary(monkeypatch, catalog)
        await catalog.commit(put, 2, b"two")
        primary = members.primary
        with pytest.raises(StoreReadOnly, match="another place"):
            await catalog._rounds.exclusive(partial(members._join, copy, chain))
        await catalog.commit(put, 3, b"three")
        assert members.primary == primary != STORE_PLACE
        assert members._holders.copies.get(places[5].id) is not copy


@pytest.mark.parametrize("how", ["cut", "EISDIR"])
async def test_a_strike_of_a_store_whose_log_cannot_be_read_any_more_is_of_the_copy_that_takes_over(
    places: list[FolderPlace], how: str
) -> None:
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        lose_log(catalog, how)
        await catalog.strike(places[3].id, "EIO")
        assert not {STORE_PLACE, places[3].id} & {*members.members}
        await catalog.commit(put, 2, b"two")
        assert len(await catalog.read(everything)) == 2


async def test_a_log_that_cannot_be_read_is_not_held_against_the_place_that_a_copy_is_made_at(
    places: list[FolderPlace],
) -> None:
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        await catalog.commit(put, 1, b"one")
        lose_log(catalog, "EISDIR")
        with pytest.raises(PrimaryLost):
            await booted.members._holders.seed(booted.members._calls, places[5])


async def test_a_checkpoint_that_cannot_read_the_log_goes_on_with_a_copy(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        await catalog.commit(put, 1, b"one")
        lose_log(catalog, "EISDIR")
        assert not await catalog.checkpoint()
        await catalog.commit(put, 2, b"two")
        assert booted.members.primary != STORE_PLACE
        assert await catalog.checkpoint()


async def test_a_checkpoint_of_the_lost_database_that_fails_late_says_nothing_against_the_new_one(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, may = threading.Event(), threading.Event()

    def bulk(self: Checkpointer) -> None:
        reached.set()
        assert may.wait(60)
        raise apsw.IOError("disk I/O error")

    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        monkeypatch.setattr(Checkpointer, "bulk", bulk)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.checkpoint)
            assert await trio.to_thread.run_sync(reached.wait, 10)
            lose_primary(monkeypatch, catalog)
            await catalog.commit(put, 2, b"two")
            monkeypatch.undo()
            primary = members.primary
            assert primary != STORE_PLACE
            may.set()
        await catalog.commit(put, 3, b"three")
        assert members.primary == primary
        assert members.struck.keys() == {STORE_PLACE}


@pytest.mark.parametrize("still", [True, False])
async def test_who_does_not_answer_is_struck_and_not_where_the_owner_itself_stood_still(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock, still: bool
) -> None:
    """A loop that comes back late sees its deadlines before it sees what threads have brought."""
    hold, reached, may = Copy.hold, threading.Event(), threading.Event()

    def stopped(self: Copy, mark: Mark) -> None:
        hold(self, mark)
        if self.place == places[2].id:
            reached.set()
            assert may.wait(60)

    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        monkeypatch.setattr(Copy, "hold", stopped)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.commit, put, 1, b"one")
            assert await trio.to_thread.run_sync(reached.wait, 10)
            await pass_by(mock_clock, still, catalog, lambda: bool(members.struck))
            may.set()
        assert members.struck.keys() == (set() if still else {places[2].id})


async def test_where_all_copies_are_silent_nobody_is_struck_though_the_store_folder_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mock_clock: MockClock
) -> None:
    places = places_in(tmp_path, 3)
    make_catalog(places)
    hold, reached, may = Copy.hold, threading.Semaphore(0), threading.Event()
    hold_primary = Primary.hold

    def stopped(self: Copy, mark: Mark) -> None:
        hold(self, mark)
        reached.release()
        assert may.wait(60)

    def answered(self: Primary, mark: Mark) -> None:
        hold_primary(self, mark)
        reached.release()

    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        monkeypatch.setattr(Copy, "hold", stopped)
        monkeypatch.setattr(Primary, "hold", answered)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.commit, put, 1, b"one")
            for _ in range(3):
                assert await trio.to_thread.run_sync(reached.acquire, True, 60)
            waited = ""
            for _ in range(10):  # each is found silent when its own time is over
                await pass_s(mock_clock, STRIKE_S)
                waited = catalog.waiting or ""
                if "p1, p2" in waited:
                    break
            may.set()
        assert "p1, p2" in waited
        assert not members.struck
        assert catalog.waiting is None
        assert await catalog.read(everything) == [(1, b"one")]


@pytest.mark.parametrize("still", [True, False])
async def test_a_call_at_a_place_has_time_anew_where_the_owner_stood_still(
    places: list[FolderPlace], mock_clock: MockClock, still: bool
) -> None:
    reached, may = threading.Event(), threading.Event()
    outcome: list[object] = []

    def stopped() -> str:
        reached.set()
        assert may.wait(60)
        return "an answer"

    async def call() -> None:
        try:
            outcome.append(await within(STRIKE_S, partial(members._calls.short, places[5].id, stopped)))
        except OSError as error:
            outcome.append(error.errno)

    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        members = booted.members
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            assert await trio.to_thread.run_sync(reached.wait, 10)
            await pass_by(mock_clock, still, catalog, lambda: bool(outcome))
            may.set()
        assert outcome == ["an answer" if still else errno.ETIMEDOUT]


async def pass_by(clock: MockClock, still: bool, catalog: Catalog, enough: Callable[[], bool]) -> None:
    """Twice the deadline passes at once, or the loop sees each second until it is *enough*."""
    members = catalog._members
    assert isinstance(members, Membership)
    short = members._calls._short.values()
    while unanswered(members) + sum(each.borrowed_tokens for each in short) > 1:
        await trio.lowlevel.checkpoint()  # all but one have answered then, however fast this machine is
    if still:
        clock.jump(STRIKE_S * 2)
        await wait_all_tasks_blocked()
    else:
        await pass_until(clock, enough)


def lose_log(catalog: Catalog, how: str) -> None:
    """Our own descriptor of it gives nothing any more; SQLite's does."""
    primary = catalog._database.primary
    other = os.open(primary.folder if how == "EISDIR" else os.devnull, os.O_RDONLY)
    os.dup2(other, primary._wal.number)
    os.close(other)


def lose_primary(monkeypatch: pytest.MonkeyPatch, catalog: Catalog) -> None:
    """From now on its disk answers EIO; what SQLite has of it in memory can be read still."""
    lost, read_wal, hold = catalog._database.primary, Primary.read_wal, Primary.hold

    def read_or_fail(self: Primary, position: int, length: int) -> bytes:
        if self is lost:
            raise PrimaryLost("EIO")
        return read_wal(self, position, length)

    def hold_or_fail(self: Primary, mark: Mark) -> None:
        if self is lost:
            raise OSError(errno.EIO, "Input/output error")
        hold(self, mark)

    monkeypatch.setattr(Primary, "read_wal", read_or_fail)
    monkeypatch.setattr(Primary, "hold", hold_or_fail)


class Gate:
    """Whoever tells *place* of an epoch that was begun and is not in force waits here until the block ends."""

    def __init__(self, place: FolderPlace) -> None:
        self._may = threading.Event()
        self._reached = threading.Event()
        place.before = self._stop

    def _stop(self, what: str) -> None:
        begun, in_force = what.split()[1].split("/")
        if begun != in_force:
            self._reached.set()
            assert self._may.wait(60)

    async def reached(self) -> None:
        assert await trio.to_thread.run_sync(self._reached.wait, 10)

    def __enter__(self) -> "Gate":
        return self

    def __exit__(self, *_: object) -> None:
        self._may.set()


def members_number(places: list[FolderPlace], ident: bytes) -> int:
    return next(number for number, place in enumerate(places) if place.id == ident)


async def test_a_place_that_is_struck_while_it_waits_to_be_told_is_passed_over(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        async with trio.open_nursery() as nursery, members._identities.turn(places[6].id):
            nursery.start_soon(members.note, catalog.statistics().synced)
            await wait_all_tasks_blocked()
            await catalog.strike(places[6].id, "it is gone")
        await catalog.commit(put, 2, b"two")


async def test_what_travels_with_the_catalog_is_on_every_member(places: list[FolderPlace]) -> None:
    async with open_at(places):
        pass
    for place in places[:4]:
        assert _manifest(place).files == {"settings": "as they are"}
    assert [_manifest(place).form for place in places[:4]] == [Form.DATABASE, Form.COPY, Form.COPY, Form.COPY]


async def test_one_disk_never_has_two_copies_while_another_can_have_one(tmp_path: Path) -> None:
    places = places_in(tmp_path, 7, {0: "a", 1: "a", 2: "a", 3: "b", 4: "b", 5: "c", 6: "c"})
    make_catalog(places)
    async with open_at(places) as (_, booted):
        assert booted.members is not None
        chosen = member_numbers(places, booted.members.members)
        assert {places[number].disk for number in chosen} == {"a", "b", "c"}
        assert len(chosen) == 4


async def test_a_copy_leaves_a_disk_that_has_another_one_as_soon_as_another_disk_can_have_it(tmp_path: Path) -> None:
    places = places_in(tmp_path, 7, {0: "a", 1: "a", 2: "b", 3: "b", 4: "c", 5: "d", 6: "e"})
    make_catalog(places)
    async with open_at(places, range(4)) as (catalog, _):
        await catalog.commit(put, 1, b"one")
    async with open_at(places, range(4)) as (catalog, booted):
        members = booted.members
        assert members is not None
        for place in places[4:]:
            members.welcome(place)
        await members.join_spares(catalog._rounds.exclusive)
        assert len(members.members) == 4
        assert len(set(catalog.disks)) == 4
        assert members.epoch.members == set(members.members)
        await catalog.commit(put, 2, b"two")
        left = next(number for number in (1, 2, 3) if places[number].id not in members.members)
        others = [number for number in range(1, 7) if number != left and places[number].id not in members.members]
    alone = next(number for number in (4, 5, 6) if places[number].id in members.members)
    async with open_at(places, {left, alone, *others}) as (catalog, _):
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]


async def test_copies_that_share_a_disk_give_way_where_another_disk_is_there_again(tmp_path: Path) -> None:
    places = places_in(tmp_path, 7, {0: "a", 1: "a", 2: "b", 3: "b", 4: "c", 5: "d", 6: "e"})
    make_catalog(places)
    async with open_at(places, range(4)) as (catalog, booted):
        assert booted.members is not None
        assert member_numbers(places, booted.members.members) == {0, 1, 2, 3}
        await catalog.commit(put, 1, b"kept")
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        assert len(set(booted.members.disks)) == len(booted.members.members) == 4
        assert await catalog.read(everything) == [(1, b"kept")]


async def test_a_place_on_a_disk_of_its_own_becomes_a_member_for_one_of_those_that_share_one(tmp_path: Path) -> None:
    places = places_in(tmp_path, 4, {0: "a", 1: "a", 2: "b", 3: "c"})
    make_catalog(places)
    async with open_at(places, range(3), m=1) as (catalog, booted):
        members = booted.members
        assert members is not None
        assert member_numbers(places, members.members) == {0, 1, 2}
        members.welcome(places[3])
        await members.join_spares(catalog._rounds.exclusive)
        assert member_numbers(places, members.members) == {0, 2, 3}


async def test_no_more_than_wanted_become_members_where_no_disk_is_left(tmp_path: Path) -> None:
    places = places_in(tmp_path, 6, {0: "a", 1: "a", 2: "a", 3: "b", 4: "b", 5: "c"})
    make_catalog(places)
    async with open_at(places, range(5), m=1) as (catalog, booted):
        members = booted.members
        assert members is not None
        members._spares.taken(places[5].id)
        members.welcome(places[5])
        await members.join_spares(catalog._rounds.exclusive)
        assert len(members.members) == 3


async def test_a_store_without_any_catalog_is_not_opened(tmp_path: Path) -> None:
    places = places_in(tmp_path, 3)
    for place in places:
        place.root.mkdir()
    with pytest.raises(ConfigError, match="no place"):
        async with open_at(places):
            pass


def _manifest(place: FolderPlace):  # type: ignore[no-untyped-def]
    found = read_manifest(place.folder)
    assert found is not None
    return found


async def test_another_place_comes_for_one_and_counts_for_more_than_half_from_then_on(
    places: list[FolderPlace],
) -> None:
    new = _one_more(places)
    after = [*places[:2], new, *places[3:]]
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        await catalog.change_places(frozenset(place.id for place in after), new)
        assert places[2].id not in members.members
        assert members.epoch.places == {place.id for place in after}
        await members.join_spares(catalog._rounds.exclusive)
        await catalog.commit(put, 2, b"two")
    async with open_at(places, {1, 2, 4, 5}) as (catalog, booted):
        assert "3 of 7 places" in booted.why_not
    async with open_at(after, {1, 2, 4, 5}) as (catalog, _):
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]


async def test_another_place_comes_for_that_of_the_primary(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, _):
        await catalog.commit(put, 1, b"one")
    new = _one_more(places)
    async with open_at(places, range(1, 7)) as (catalog, booted):
        members = booted.members
        assert members is not None
        old = members.primary
        await catalog.write(put, 2, b"two")
        after = frozenset({new.id, *(place.id for place in places)} - {old})
        await catalog.change_places(after, new)
        assert members.epoch.places == after
        assert old not in {members.primary, *members.members, *members.places}
        await catalog.commit(put, 3, b"three")
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two"), (3, b"three")]


async def test_a_list_that_less_than_half_can_take_note_of_stays_as_it_was(places: list[FolderPlace]) -> None:
    new = _one_more(places)
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        for place in places[3:]:
            place.dead = True
        with pytest.raises(StoreReadOnly):
            await catalog.change_places(frozenset({new.id, *(place.id for place in places[:6])}), new)
        assert members.listed == {place.id for place in places}
        assert new.id not in {*members.places, *members.members}


async def test_a_member_that_no_epoch_could_be_begun_without_ends_all_writing(places: list[FolderPlace]) -> None:
    """It may be the only one that is there next time, and the epoch in force names it still."""
    async with open_at(places) as (catalog, _):
        await catalog.commit(put, 1, b"one")
    async with open_at(places, range(4)) as (catalog, _):
        await catalog.commit(put, 2, b"two")
        with pytest.raises(StoreReadOnly, match="more than half"):
            await catalog.strike(places[2].id, "EIO")
        with pytest.raises(StoreReadOnly):
            await catalog.commit(put, 3, b"three")
    async with open_at(places, {2, 4, 5, 6}) as (catalog, _):
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]


async def test_a_place_that_was_struck_and_is_welcomed_becomes_a_member_again(tmp_path: Path) -> None:
    places = places_in(tmp_path, 4)
    make_catalog(places)
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.strike(places[2].id, "EIO")
        assert member_numbers(places, members.members) == {0, 1, 3}
        members.welcome(places[2])
        await until(lambda: member_numbers(places, members.members) == {0, 1, 2, 3})


async def test_a_spare_that_cannot_be_seeded_is_passed_over_for_the_next(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, *rest: Any) -> None:
        if places[4].root in folder.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        seed(folder, *rest)

    monkeypatch.setattr(seeding, "seed", full)
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        for number in (1, 2):
            _break(places[number])
        await catalog.commit(put, 2, b"two")
        assert {0, 3, 5} <= member_numbers(places, members.members)
        assert places[4].id in members.places


async def test_a_checkpoint_waits_for_a_copy_that_is_being_seeded(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, go_on = _stopped_seeds(monkeypatch)
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        reached.clear()
        await catalog.strike(places[3].id, "EIO")
        assert await trio.to_thread.run_sync(reached.wait, 10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(catalog.checkpoint)
            await catalog.commit(put, 1, bytes(2 * COPY_CHUNK))  # what is shipped beside the rounds too
            await wait_all_tasks_blocked()
            assert catalog.statistics().checkpoints == 0
            go_on.set()
        assert catalog.statistics().checkpoints == 1
        assert member_numbers(places, members.members) == {0, 1, 2, 4}
        await catalog.commit(put, 2, b"two")
    async with open_at(places, {4, 3, 5, 6}) as (catalog, _):
        assert [ident for ident, _ in await catalog.read(everything)] == [1, 2]


async def test_a_log_that_grows_too_long_is_started_over_and_the_seed_that_is_lost_by_that_leaves_nothing(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_LATE_BYTES", 0)
    reached, go_on = _stopped_seeds(monkeypatch)
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        reached.clear()
        await catalog.strike(places[3].id, "EIO")
        assert await trio.to_thread.run_sync(reached.wait, 10)
        assert await catalog.checkpoint()
        await catalog.commit(put, 2, b"two")
        assert await catalog.checkpoint()
        await catalog.commit(put, 3, bytes(2 * COPY_CHUNK))  # so much would be shipped beside the rounds
        assert list((places[4].root / "catalog").glob("chain-*"))
        go_on.set()
        async with members.log_kept:
            assert member_numbers(places, members.members) == {0, 1, 2}
            assert not list((places[4].root / "catalog").glob("chain-*"))
        assert places[4].id in members.places


async def test_a_full_place_that_is_wanted_rests_and_is_not_asked_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = places_in(tmp_path, 4)
    make_catalog(places)
    asked: list[str] = []

    def full(what: str) -> None:
        asked.append(what)
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_there(folder: Path, *rest: Any) -> None:
        if places[3].root in folder.parents:
            full("seed")
        seed(folder, *rest)

    monkeypatch.setattr(seeding, "seed", full_there)
    monkeypatch.setattr(membership, "JOIN_RETRY_S", 0.05)
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        members.welcome(places[3])
        members._spares.joined(places[3].id)  # it has rested
        places[3].before = full
        asked.clear()
        await catalog.commit(put, 2, b"two")
        await members.note(catalog.statistics().synced)
        assert asked
        assert not members._doubtful
        await trio.sleep(0.3)
        assert asked.count("seed") == 1
        assert len(asked) < 12  # its file is tried with the others' each time
        assert members.places.keys() == {place.id for place in places}
        assert member_numbers(places, members.members) == {0, 1, 2}


async def test_a_full_place_is_asked_once_by_a_strike_that_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = places_in(tmp_path, 4)
    make_catalog(places)
    seeds: list[Path] = []
    hold = Copy.hold

    def counted(folder: Path, *rest: Any) -> None:
        if places[3].root in folder.parents:
            seeds.append(folder)
        seed(folder, *rest)

    def full(self: Copy, mark: Mark) -> None:
        if self.place == places[3].id:
            raise OSError(errno.ENOSPC, "No space left on device")
        hold(self, mark)

    monkeypatch.setattr(seeding, "seed", counted)
    monkeypatch.setattr(Copy, "hold", full)
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        assert member_numbers(places, members.members) == {0, 1, 2}
        assert len(seeds) == 1
        with trio.fail_after(60), pytest.raises(StoreReadOnly):
            await catalog.strike(places[2].id, "EIO")
        assert len(seeds) == 2


def _stopped_seeds(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """The first event says that a base at the fifth place is begun, the second lets it be made."""
    reached, go_on = threading.Event(), threading.Event()

    def stopped(folder: Path, *rest: Any) -> None:
        reached.set()
        if folder.parent.parent.name == "p4":
            assert go_on.wait(60)
        seed(folder, *rest)

    monkeypatch.setattr(seeding, "seed", stopped)
    return reached, go_on


async def test_what_a_place_that_comes_back_knows_of_epochs_stays_its_own_word(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, _):
        await catalog.commit(put, 1, b"one")
    said = places[6].read_named()
    assert said is not None
    async with open_at(places, range(6)) as (catalog, booted):
        assert booted.members is not None
        await catalog.commit(put, 2, b"two")
        booted.members.welcome(places[6], said)
        synced = catalog.statistics().synced
        await booted.members.note(synced)
        assert places[6].read_named() == replace(said, sequence=synced)


async def test_a_strike_behind_the_close_changes_nothing_any_more(places: list[FolderPlace]) -> None:
    """What the fleet meets while it ends comes late."""
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        await catalog.close()
        epoch = members.epoch
        with pytest.raises(StoreClosing):
            await catalog.strike(places[3].id, "EIO")
        assert (members.primary, members.epoch) == (STORE_PLACE, epoch)


async def test_a_primary_that_cannot_be_read_while_a_copy_is_made_of_it_is_lost(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not the doing of the place that the copy was to be made at, and the next place would meet the same."""
    read = Primary.read_database
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        lost = catalog._database.primary

        def read_or_fail(self: Primary, position: int, length: int) -> bytes:
            if self is lost:
                raise PrimaryLost("EIO")
            return read(self, position, length)

        monkeypatch.setattr(Primary, "read_database", read_or_fail)
        await catalog.strike(places[3].id, "EIO")
        await until(lambda: members.primary != STORE_PLACE and catalog._rounds.usable.is_set())
        assert members.struck.keys() == {places[3].id, STORE_PLACE}
        await catalog.commit(put, 2, b"two")


def _one_more(places: list[FolderPlace]) -> FolderPlace:
    """A place that is none of theirs yet."""
    number = len(places)
    new = FolderPlace(place_id(number), places[0].root.parent / f"p{number}", number)
    new.root.mkdir()
    return new


def _break(place: FolderPlace) -> None:
    """Everything below the place is gone."""
    place.dead = True
    (place.root / "catalog").rename(place.root / "lost")


def _mend(place: FolderPlace) -> None:
    """It is back, as it was."""
    place.dead = False
    (place.root / "lost").rename(place.root / "catalog")
