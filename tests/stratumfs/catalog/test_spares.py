"""Copies on disks that are short of room: where another disk has it, it takes over; and nothing bounces."""

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from stratumfs.catalog import leftovers, membership, seeding, spares
from stratumfs.catalog.chains import Chain, all_chains
from stratumfs.catalog.copies import Copy
from stratumfs.catalog.durability import Mark, PrimaryLost
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.membership import Membership
from stratumfs.catalog.spool import spare_bytes
from stratumfs.errors import DeviceFailed, StoreReadOnly
from stratumfs.ids import GIB
from tests.stratumfs.catalog.somewhere import (
    FolderPlace,
    make_catalog,
    member_numbers,
    open_at,
    pass_until,
    places_in,
    until,
)
from tests.stratumfs.catalog.toy import everything, put

SPARE = spare_bytes(10 * GIB)


class Disks:
    """What is free on the disk of each place: by number."""

    def __init__(self, count: int) -> None:
        self.free = [SPARE // 2] * count

    def room_at(self, folder: Path) -> tuple[int, int]:
        return self.free[int(folder.parent.name[1:])], SPARE


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Disks:
    """None is short, and none has room for another copy."""
    made = Disks(7)
    monkeypatch.setattr(spares, "room_at", made.room_at)
    monkeypatch.setattr(leftovers, "room_at", made.room_at)
    return made


@pytest.fixture
def six(tmp_path: Path) -> list[FolderPlace]:
    """Three of them are members: the first, and two copies."""
    places = places_in(tmp_path, 6)
    make_catalog(places)
    return places


def demanded(members: Membership | None) -> Membership:
    assert members is not None
    return members


def size_of(catalog: Catalog) -> int:
    return catalog._database.primary.database_bytes()


async def look(catalog: Catalog, members: Membership) -> None:
    await members.join_spares(catalog._rounds.exclusive)


async def test_a_copy_whose_disk_is_short_goes_to_one_that_has_room(
    six: list[FolderPlace], disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is struck, there are never fewer members, and what it had gives its room back."""
    monkeypatch.setattr(membership, "SEQUENCE_NOTED_S", 0.01)
    async with open_at(six, m=1) as (catalog, booted):
        members = demanded(booted.members)
        await catalog.commit(put, 1, b"one")
        assert member_numbers(six, members.members) == {0, 1, 2}
        counts = list[int]()
        for place in six:
            place.before = lambda what: counts.append(len(members.members))
        disks.free[4] = 9 * GIB
        disks.free[1] = SPARE // 2 - 1
        with trio.fail_after(60):
            await until(lambda: member_numbers(six, members.members) == {0, 2, 4} and members._settled)
            await until(lambda: not all_chains(six[1].folder))
        assert set(counts) == {3, 4}
        assert not members.struck
        await catalog.commit(put, 2, b"two")
    async with open_at(six, {1, 3, 4, 5}, m=1) as (catalog, booted):
        assert demanded(booted.members)
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]


async def test_where_no_other_disk_has_room_for_it_a_copy_stays(
    six: list[FolderPlace], disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_at(six, m=1) as (catalog, booted):
        members = demanded(booted.members)
        monkeypatch.setattr(seeding, "make_base", None)  # nobody begins one
        disks.free[1] = 0
        for free in (0, SPARE, SPARE + size_of(catalog) - 1):
            disks.free[3:] = [free] * 4
            before = members.epoch
            await look(catalog, members)
            assert members.epoch == before


async def test_a_disk_that_has_a_copy_is_no_place_for_one_that_is_short(tmp_path: Path, disks: Disks) -> None:
    """Losses are counted by disk."""
    places = places_in(tmp_path, 5, {0: "a", 1: "b", 2: "c", 3: "c", 4: "a"})
    make_catalog(places)
    async with open_at(places, m=1) as (catalog, booted):
        members = demanded(booted.members)
        before = member_numbers(places, members.members)
        disks.free = [9 * GIB] * 5
        disks.free[1] = 0
        await look(catalog, members)
        assert member_numbers(places, members.members) == before == {0, 1, 2}


async def test_the_primary_does_not_leave(six: list[FolderPlace], disks: Disks) -> None:
    async with open_at(six, m=1) as (catalog, booted):
        members = demanded(booted.members)
        disks.free[0], disks.free[3] = 0, 9 * GIB
        await look(catalog, members)
        assert member_numbers(six, members.members) == {0, 1, 2}


async def test_all_that_are_short_leave_as_far_as_others_have_room(six: list[FolderPlace], disks: Disks) -> None:
    async with open_at(six, m=1) as (catalog, booted):
        members = demanded(booted.members)
        disks.free[1:] = [0, 0, 9 * GIB, 0, 9 * GIB, 0]
        await look(catalog, members)
        assert member_numbers(six, members.members) == {0, 3, 5}


async def test_where_only_one_can_leave_it_is_the_one_that_has_least(six: list[FolderPlace], disks: Disks) -> None:
    """The other one may have enough for new data yet."""
    async with open_at(six, m=1) as (catalog, booted):
        members = demanded(booted.members)
        disks.free[1:3], disks.free[5] = [SPARE // 2 - 1, SPARE // 2 - 2], 9 * GIB
        await look(catalog, members)
        assert member_numbers(six, members.members) == {0, 1, 5}


async def test_nothing_bounces_between_two_disks_that_have_hardly_enough(six: list[FolderPlace], disks: Disks) -> None:
    """Whoever leaves gets back what the other one gives."""
    async with open_at(six, m=1) as (catalog, booted):
        members = demanded(booted.members)
        size = size_of(catalog)
        disks.free[1], disks.free[3] = SPARE // 2 - 1, SPARE + size
        await look(catalog, members)
        assert member_numbers(six, members.members) == {0, 2, 3}
        disks.free[1] += size
        disks.free[3] -= size
        for less in (0, SPARE // 2, SPARE // 2 + 1):  # it grows until it is short itself
            disks.free[3] -= less
            before = members.epoch
            await look(catalog, members)
            assert members.epoch == before


async def test_one_of_two_on_one_disk_leaves_before_one_that_is_short(tmp_path: Path, disks: Disks) -> None:
    places = places_in(tmp_path, 4, {0: "a", 1: "a", 2: "b", 3: "c"})
    make_catalog(places)
    async with open_at(places, range(3), m=1) as (catalog, booted):
        members = demanded(booted.members)
        assert member_numbers(places, members.members) == {0, 1, 2}
        disks.free[2], disks.free[3] = 0, 9 * GIB
        members.welcome(places[3])
        await look(catalog, members)
        assert member_numbers(places, members.members) == {0, 2, 3}


async def test_a_place_with_room_is_preferred_for_one_that_was_lost(six: list[FolderPlace], disks: Disks) -> None:
    async with open_at(six, m=1) as (catalog, booted):
        members = demanded(booted.members)
        disks.free[5] = 9 * GIB
        await look(catalog, members)
        await catalog.strike(six[1].id, "EIO")
        # The catalog sees to it by itself: who asked beside it would find disks at work, and not ask them.
        with trio.fail_after(60):
            while len(members.members) < 3:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert member_numbers(six, members.members) == {0, 2, 5}


async def refuse(mark: Mark) -> None:
    raise StoreReadOnly("not now")


async def test_one_that_could_not_leave_does_so_later_and_nobody_else_joins_for_it(
    six: list[FolderPlace], disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_at(six, m=1) as (catalog, booted):
        members = demanded(booted.members)
        disks.free[1:] = [0, 9 * GIB, 9 * GIB, 9 * GIB, 9 * GIB, 0]
        monkeypatch.setattr(members, "_leave", refuse)
        with pytest.raises(StoreReadOnly):
            await look(catalog, members)
        assert member_numbers(six, members.members) == {0, 1, 2, 3}
        assert not members._is_as_wanted
        monkeypatch.delattr(members, "_leave")
        await look(catalog, members)
        assert member_numbers(six, members.members) == {0, 2, 3}


async def test_regression_a_copy_that_was_made_anew_while_the_old_one_left_is_the_one_that_counts(
    six: list[FolderPlace], disks: Disks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two fail while it leaves, so that it is asked for a copy once more, and the next epoch cannot be begun: rounds
    went on with the old copy, while the manifest named the new one, which lacked what was answered then."""
    stopped = tmp_path / "stopped"
    async with open_at(six, m=1) as (catalog, booted):
        members = demanded(booted.members)
        await catalog.commit(put, 1, b"one")
        disks.free[1], disks.free[5] = 0, 9 * GIB
        settle = members._settle

        async def fail_beside(mark: Mark) -> None:
            monkeypatch.setattr(members, "_settle", settle)
            members._drop({six[2].id: DeviceFailed("EIO"), six[5].id: DeviceFailed("EIO")})
            await settle(mark)
            assert member_numbers(six, members.members) == {0, 1}
            raise StoreReadOnly("too few places take writes")

        async def leave(mark: Mark) -> None:
            monkeypatch.setattr(members, "_settle", fail_beside)
            await Membership._leave(members, mark)

        monkeypatch.setattr(members, "_leave", leave)
        with pytest.raises(StoreReadOnly):
            await look(catalog, members)
        await catalog.commit(put, 2, b"two")
        assert member_numbers(six, members.members) == {0, 1}
        await catalog_at(six, stopped)
    async with open_at(places_in(stopped, 6), {1, 2, 3, 4}, m=1) as (catalog, booted):
        assert booted.members
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]


async def test_regression_where_the_primary_is_lost_while_a_copy_leaves_that_one_can_take_over(
    tmp_path: Path, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = places_in(tmp_path, 7)
    make_catalog(places)
    async with open_at(places, m=1) as (catalog, booted):
        members = demanded(booted.members)
        await catalog.commit(put, 1, b"one")
        disks.free[1], disks.free[5] = 0, 9 * GIB
        settle = members._settle

        async def fail_all(mark: Mark) -> None:
            monkeypatch.setattr(members, "_settle", settle)
            members._drop({places[2].id: DeviceFailed("EIO"), places[5].id: DeviceFailed("EIO")})
            raise PrimaryLost("EIO")

        async def leave(mark: Mark) -> None:
            monkeypatch.setattr(members, "_settle", fail_all)
            await Membership._leave(members, mark)

        monkeypatch.setattr(members, "_leave", leave)
        with pytest.raises(PrimaryLost):
            await look(catalog, members)
        await catalog.commit(put, 2, b"two")
        assert members.primary == places[1].id
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]


async def test_regression_where_the_primary_is_lost_while_a_copy_joins_no_member_is_removed(
    six: list[FolderPlace], disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fail-over named it, and then its files went as those of one that was not used: its place was struck."""
    async with open_at(six, m=1) as (catalog, booted):
        members = demanded(booted.members)
        disks.free[1], disks.free[5] = 0, 9 * GIB
        settle = members._settle

        async def lose(mark: Mark) -> None:
            monkeypatch.setattr(members, "_settle", settle)
            raise PrimaryLost("EIO")

        async def join(copy: Copy, chain: Chain, mark: Mark) -> None:
            monkeypatch.setattr(members, "_settle", lose)
            await Membership._join(members, copy, chain, mark)

        monkeypatch.setattr(members, "_join", join)
        await look(catalog, members)
        await catalog.commit(put, 1, b"one")
        assert set(members.struck) == {six[0].id}
        assert all(copy.folder.exists() for copy in members.copies)


async def test_a_copy_on_a_disk_that_is_short_does_not_become_the_primary_where_another_one_can(
    six: list[FolderPlace], disks: Disks
) -> None:
    """It would never leave, and the store would take no new data."""
    async with open_at(six, m=1) as (catalog, booted):
        members = demanded(booted.members)
        disks.free[1] = 0
        await look(catalog, members)
        await catalog.strike(six[0].id, "EIO")
        assert members.primary == six[2].id


async def test_a_stop_between_the_two_steps_leaves_what_the_next_owner_goes_on_from(
    six: list[FolderPlace], disks: Disks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = tmp_path / "stopped"
    async with open_at(six, m=1) as (catalog, booted):
        members = demanded(booted.members)
        await catalog.commit(put, 1, b"one")
        disks.free[1], disks.free[5] = 0, 9 * GIB

        async def stop(mark: Mark) -> None:
            await catalog_at(six, stopped)
            await refuse(mark)

        monkeypatch.setattr(members, "_leave", stop)
        with pytest.raises(StoreReadOnly):
            await look(catalog, members)
    places = places_in(stopped, 6)
    for there in (range(6), {0, 1, 3, 4}, {2, 3, 4, 5}, {1, 2, 3, 4}):
        copied = tmp_path / "again"
        shutil.copytree(stopped, copied)
        places = places_in(copied, 6)
        async with open_at(places, there, m=1) as (catalog, booted):
            members = demanded(booted.members)
            assert await catalog.read(everything) == [(1, b"one")]
            await look(catalog, members)
            if 5 in there:
                assert places[1].id not in members.members
            assert len(members.members) == 3
        shutil.rmtree(copied)


async def catalog_at(places: Sequence[FolderPlace], to: Path) -> None:
    """What a stop of the machine leaves of them now."""
    await trio.to_thread.run_sync(lambda: [_copied(place.root, to / place.root.name) for place in places])


def _copied(root: Path, to: Path) -> None:
    """Chains that count no more are removed meanwhile: what is gone is not copied, all else is."""
    try:
        shutil.copytree(root, to)
    except shutil.Error as error:
        if not all("[Errno 2]" in str(reason) for *_, reason in error.args[0]):
            raise


async def test_a_disk_that_hangs_when_it_is_asked_is_not_asked_again_nor_struck(
    six: list[FolderPlace], disks: Disks, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what it has, so its copy stays."""
    gate, asked = threading.Event(), list[Path]()

    def hang(folder: Path) -> tuple[int, int]:
        asked.append(folder)
        if folder == six[1].folder:
            assert gate.wait(60)
        return disks.room_at(folder)

    monkeypatch.setattr(membership, "SEQUENCE_NOTED_S", 1)
    monkeypatch.setattr(spares, "room_at", hang)
    disks.free[1], disks.free[4] = 0, 9 * GIB
    try:
        async with open_at(six, m=1) as (catalog, booted):
            members = demanded(booted.members)
            await pass_until(mock_clock, lambda: asked.count(six[0].folder) == 3)
            assert asked.count(six[1].folder) == 1
            await catalog.commit(put, 1, b"one")
            assert member_numbers(six, members.members) == {0, 1, 2}
            assert not members.struck
            gate.set()
            await pass_until(mock_clock, lambda: member_numbers(six, members.members) == {0, 2, 4})
    finally:
        gate.set()


def test_room_is_that_of_the_disk_also_where_no_copy_was_yet(tmp_path: Path) -> None:
    free, spare = spares.room_at(tmp_path / "catalog")
    assert free > 0
    assert spare > 0
