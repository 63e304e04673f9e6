"""Chains that count no more: what is left of them at a place, and when they give their room back."""

import errno
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from stratumfs.catalog import chains, leftovers, membership, seeding
from stratumfs.catalog.chains import MANIFEST, Manifest, all_chains, new_chain, read_manifest, write_manifest
from stratumfs.catalog.copies import Copy
from stratumfs.catalog.durability import Mark, Primary
from stratumfs.catalog.epochs import Epoch, first_epoch
from stratumfs.catalog.leftovers import ASIDE_MAX, Kept, clear
from stratumfs.catalog.members import Exclusive
from stratumfs.catalog.membership import Membership
from stratumfs.catalog.progress import Step, unwatched
from stratumfs.errors import CatalogCorrupt, ConfigError, StoreReadOnly
from stratumfs.limits import STRIKE_S
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

LATER_NS = 4 * 10**18


@pytest.fixture
def place(tmp_path: Path) -> FolderPlace:
    """With a catalog and four chains that nobody names, which look younger: their clock was ahead."""
    [found] = places_in(tmp_path, 1)
    make_catalog([found])
    for number in range(4):
        folder = new_chain(found.folder)
        os.utime(folder, ns=(LATER_NS + number, LATER_NS + number))
    return found


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """No disk has room for another copy."""
    monkeypatch.setattr(leftovers, "lacks_room", lambda place, needed: True)


def test_what_the_manifest_names_stays_however_old_it_is(place: FolderPlace) -> None:
    named = manifest_of(place)
    tidy(place, other_epoch())
    assert (place.folder / named.folder).exists()
    assert len(all_chains(place.folder)) == 1 + ASIDE_MAX


def test_where_nobody_can_say_what_is_named_all_stays(place: FolderPlace, short: None) -> None:
    (place.folder / MANIFEST).write_text("no manifest")
    with pytest.raises(CatalogCorrupt):
        tidy(place, other_epoch())
    assert len(all_chains(place.folder)) == 5


def test_a_place_that_is_no_member_any_more_keeps_no_more_than_others(place: FolderPlace) -> None:
    (place.folder / MANIFEST).unlink()
    tidy(place, None)
    assert len(all_chains(place.folder)) == ASIDE_MAX


def test_where_room_is_short_only_what_counts_stays(place: FolderPlace, short: None) -> None:
    named = manifest_of(place)
    tidy(place, named.epoch)
    assert all_chains(place.folder) == [place.folder / named.folder]
    assert manifest_of(place) == named


def test_where_room_is_short_what_descends_from_the_epoch_in_force_stays(place: FolderPlace, short: None) -> None:
    """An epoch that was begun behind it, and may be found in force."""
    named = manifest_of(place)
    child = replace(named.epoch, number=2, id="child", line=(*named.epoch.line, "child"))
    write_manifest(place.folder, replace(named, epoch=child))
    tidy(place, named.epoch)
    assert all_chains(place.folder) == [place.folder / named.folder]


def test_where_room_is_short_what_is_of_no_epoch_in_force_goes(place: FolderPlace, short: None) -> None:
    tidy(place, other_epoch())
    assert read_manifest(place.folder) is None
    assert all_chains(place.folder) == []


def test_where_nobody_knows_of_an_epoch_in_force_what_is_named_stays(place: FolderPlace, short: None) -> None:
    named = manifest_of(place)
    tidy(place, None)
    assert all_chains(place.folder) == [place.folder / named.folder]


def test_what_is_about_to_be_named_stays(place: FolderPlace, short: None) -> None:
    made = new_chain(place.folder)
    tidy(place, other_epoch(), made.name)
    assert all_chains(place.folder) == [made]


def test_the_manifest_is_gone_before_anything_of_its_chain(
    place: FolderPlace, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(folder: Path, step: object) -> None:
        assert read_manifest(place.folder) is None
        assert len(all_chains(place.folder)) == 5
        raise KeyboardInterrupt

    monkeypatch.setattr(seeding, "remove", stop)
    with pytest.raises(KeyboardInterrupt):
        tidy(place, other_epoch())


async def test_a_member_that_was_full_gives_its_room_back_once_an_epoch_without_it_is_in_force(
    places: list[FolderPlace], short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a moment before, though its own file cannot say so: it is full."""
    full = places[1]
    forgotten: list[Epoch] = []
    forget = chains.forget_manifest

    def forget_looked_at(folder: Path) -> None:
        assert folder == full.folder
        in_force = [place.read_named().in_force for place in places]  # type: ignore[union-attr]
        newest = max(in_force, key=lambda epoch: epoch.number)
        assert 2 * in_force.count(newest) > len(places)
        assert full.id not in newest.members
        forgotten.append(newest)
        forget(folder)

    monkeypatch.setattr(chains, "forget_manifest", forget_looked_at)
    async with open_at(places) as (catalog, booted):
        members = demanded(booted.members)
        await catalog.commit(put, 1, b"one")
        assert full.id in members.members
        full.before = no_room
        monkeypatch.setattr(Copy, "hold", no_room_at(full))
        await catalog.commit(put, 2, b"two")
        assert full.id not in members.members
        with trio.fail_after(60):
            await until(lambda: not all_chains(full.folder))
        assert forgotten
        assert not members.struck
        full.before = lambda what: None
    for there in ({1, 2, 4, 5, 6}, {1, 3, 4, 5, 6}):
        async with open_at(places, there) as (catalog, booted):
            assert demanded(booted.members)
            assert len(await catalog.read(everything)) == 2


async def test_a_copy_is_made_in_the_room_of_a_chain_that_counts_no_more(
    tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = places_in(tmp_path, 4)
    make_catalog(places)
    seen: list[int] = []
    seed = seeding.seed

    def counted(folder: Path, *rest: object) -> None:
        seen.append(len(all_chains(folder.parent)))
        seed(folder, *rest)  # type: ignore[arg-type]

    async with open_at(places) as (catalog, booted):
        members = demanded(booted.members)
        await catalog.strike(places[2].id, "EIO")
        monkeypatch.setattr(seeding, "seed", counted)
        monkeypatch.setattr(membership, "JOIN_RETRY_S", 0.01)
        members.welcome(places[2])
        with trio.fail_after(60):
            await until(lambda: member_numbers(places, members.members) == {0, 1, 2, 3})
        assert seen == [1]  # the new one alone


async def test_members_that_cannot_be_replaced_keep_what_they_have(
    tmp_path: Path, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three are full: no epoch without them comes into force, so the one that names them is."""
    places = places_in(tmp_path, 3)
    make_catalog(places)
    async with open_at(places, m=1) as (catalog, booted):
        members = demanded(booted.members)
        await catalog.commit(put, 1, b"one")
        monkeypatch.setattr(Copy, "hold", no_room_at(*places[1:]))
        with pytest.raises(StoreReadOnly):
            await catalog.commit(put, 2, b"two")
        for each in places:
            await members.leftovers.remove_at(each.id)
        assert all(manifest_of(each).epoch.id == members.epoch.id for each in places)
    monkeypatch.undo()
    async with open_at(places, {1, 2}, m=1) as (catalog, booted):
        assert dict(await catalog.read(everything))[1] == b"one"


async def test_who_has_lost_all_members_is_told_where_they_are(
    places: list[FolderPlace], short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_at(places):
        pass
    with pytest.raises(ConfigError, match="none of those who hold the newest"):
        async with open_at(places, {4, 5, 6}):
            pass


async def test_a_place_that_hangs_while_a_chain_goes_ends_nothing_and_is_not_waited_for_again(
    tmp_path: Path, short: None, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = places_in(tmp_path, 5)
    make_catalog(places)
    find, looks = leftovers.find, list[Path]()
    remove, gate, hung = seeding.remove, threading.Event(), list[Path]()

    def look(place: Path, kept: Kept) -> list[Path]:
        looks.append(place)
        return find(place, kept)

    def hang(folder: Path, step: Step) -> None:
        hung.append(folder)
        assert gate.wait(60)
        remove(folder, step)

    monkeypatch.setattr(membership, "SEQUENCE_NOTED_S", 1)
    monkeypatch.setattr(leftovers, "find", look)
    try:
        async with open_at(places, m=1) as (catalog, booted):
            members = demanded(booted.members)
            left = next(place for place in places if place.id == members.copies[0].place)
            monkeypatch.setattr(seeding, "remove", hang)
            await catalog.make_copy_anew(left.id, "a test")
            await pass_until(mock_clock, lambda: bool(hung) and len(members.members) == 3)
            looks.clear()
            await pass_until(mock_clock, lambda: looks.count(places[0].folder) == 3)
            assert left.folder not in looks
            assert catalog.failure is None
            [chain] = hung
            gate.set()
            await pass_until(mock_clock, lambda: not chain.exists())
    finally:
        gate.set()


async def test_writes_do_not_wait_long_for_a_place_that_hangs_while_a_manifest_goes(
    places: list[FolderPlace], short: None, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget, gate, hung = chains.forget_manifest, threading.Event(), list[Path]()

    def hang(folder: Path) -> None:
        hung.append(folder)
        assert gate.wait(60)
        forget(folder)

    async def nobody(_: Membership, __: Exclusive) -> None:
        """What joins waits for a place that hangs, up to its strike, and commits behind that."""

    monkeypatch.setattr(chains, "forget_manifest", hang)
    monkeypatch.setattr(Membership, "join_spares", nobody)
    try:
        async with open_at(places) as (catalog, booted):
            await catalog.make_copy_anew(demanded(booted.members).copies[0].place, "a test")
            await pass_until(mock_clock, lambda: bool(hung))
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(catalog.commit, put, 1, b"one")
                await pass_until(mock_clock, lambda: not nursery.child_tasks)
            assert trio.current_time() - began < STRIKE_S / 2
            gate.set()
            [folder] = hung
            await pass_until(mock_clock, lambda: not all_chains(folder))
    finally:
        gate.set()


@pytest.mark.parametrize("count", [1, 2])
async def test_a_place_whose_manifest_is_damaged_has_not_failed_and_gets_a_copy_as_any_other(
    tmp_path: Path, short: None, count: int
) -> None:
    places = places_in(tmp_path, 4)
    make_catalog(places)
    async with open_at(places, m=1):
        pass
    for place in places[1 : 1 + count]:
        (place.folder / MANIFEST).write_text("no manifest")
    async with open_at(places, m=1) as (catalog, booted):
        members = demanded(booted.members)
        assert not members.struck
        await catalog.commit(put, 1, b"one")
        for place in places[1 : 1 + count]:
            await catalog.strike(place.id, "EIO")
            members.welcome(place)
            await members.join_spares(catalog._rounds.exclusive)
        assert all(manifest_of(place).epoch.number > 2 for place in places if place.id in members.members)


async def test_what_was_the_primary_is_closed_before_its_chain_goes_or_its_room_would_not_come_back(
    places: list[FolderPlace], short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, hold = places[0], Primary.hold

    def held(self: Primary, mark: Mark) -> bool:
        if self.folder.parent == full.folder:
            no_room("log")
        return hold(self, mark)

    async with open_at(places) as (catalog, booted):
        monkeypatch.setattr(Primary, "hold", held)
        await catalog.commit(put, 1, b"one")
        assert demanded(booted.members).primary != full.id
        with trio.fail_after(60):
            await until(lambda: not all_chains(full.folder))
        assert not open_below(full.folder)
        assert len(await catalog.read(everything)) == 1


async def test_a_last_look_that_hung_takes_no_manifest_from_the_next_owner(
    places: list[FolderPlace], mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, gate, reads = chains.read_manifest, threading.Event(), list[Path]()
    async with open_at(places) as (catalog, booted):
        members = demanded(booted.members)
        left = next(place for place in places if place.id == members.copies[0].place)
        await catalog.make_copy_anew(left.id, "a test")

        def hang(place: Path) -> Manifest | None:
            found = read(place)
            if place == left.folder and catalog._rounds.closed:
                reads.append(place)
                assert len(reads) < 2 or gate.wait(60)
            return found

        monkeypatch.setattr(leftovers, "lacks_room", lambda place, needed: True)
        monkeypatch.setattr(chains, "read_manifest", hang)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(catalog.close)
                await pass_until(mock_clock, lambda: catalog._closed and not nursery.child_tasks)
            made = replace(manifest_of(left), folder=new_chain(left.folder).name)
            write_manifest(left.folder, made)
        finally:
            gate.set()
        await until(lambda: not members._calls._short[left.id].borrowed_tokens)
    assert manifest_of(left) == made
    assert len(reads) == 2


def manifest_of(place: FolderPlace) -> Manifest:
    found = read_manifest(place.folder)
    assert found is not None
    return found


def demanded(members: Membership | None) -> Membership:
    assert members is not None
    return members


def other_epoch() -> Epoch:
    return first_epoch([], [])


def tidy(place: FolderPlace, in_force: Epoch | None, *used: str) -> None:
    clear(place.folder, Kept(in_force, used, 0), unwatched)


def open_below(folder: Path) -> list[str]:
    """Files there that this process has open, also those that have no name any more."""
    found = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # another thread has closed it
            found.append(os.readlink(each))
    return [each for each in found if each.startswith(f"{folder}/")]


def no_room(what: str) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def no_room_at(*full: FolderPlace) -> Callable[[Copy, Mark], bool]:
    hold = Copy.hold

    def held(self: Copy, mark: Mark) -> bool:
        if self.place in {place.id for place in full}:
            no_room("log")
        return hold(self, mark)

    return held
