"""A catalog on several places: openings, strikes, joins, fail-overs."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from stratumfs.catalog.chains import Form, read_manifest
from stratumfs.errors import ConfigError, StoreReadOnly
from stratumfs.ids import STORE_PLACE
from tests.stratumfs.catalog.somewhere import FolderPlace, make_catalog, member_numbers, open_at, place_id, places_in
from tests.stratumfs.catalog.toy import everything, get, put


@pytest.fixture
def places(tmp_path: Path) -> list[FolderPlace]:
    found = places_in(tmp_path, 7)
    make_catalog(found)
    return found


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


def members_number(places: list[FolderPlace], ident: bytes) -> int:
    return next(number for number, place in enumerate(places) if place.id == ident)


async def test_a_place_that_is_struck_while_it_waits_to_be_told_is_passed_over(places: list[FolderPlace]) -> None:
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        async with trio.open_nursery() as nursery, members._naming[places[6].id]:
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


async def test_a_place_on_a_disk_of_its_own_becomes_a_member_beside_those_that_share_one(tmp_path: Path) -> None:
    places = places_in(tmp_path, 4, {0: "a", 1: "a", 2: "b", 3: "c"})
    make_catalog(places)
    async with open_at(places, range(3), m=1) as (catalog, booted):
        members = booted.members
        assert members is not None
        assert member_numbers(places, members.members) == {0, 1, 2}
        members.welcome(places[3])
        await members.join_spares(catalog._rounds.exclusive)
        assert member_numbers(places, members.members) == {0, 1, 2, 3}


async def test_no_more_than_wanted_become_members_where_no_disk_is_left(tmp_path: Path) -> None:
    places = places_in(tmp_path, 6, {0: "a", 1: "a", 2: "a", 3: "b", 4: "b", 5: "c"})
    make_catalog(places)
    async with open_at(places, range(5), m=1) as (catalog, booted):
        members = booted.members
        assert members is not None
        members._resting[places[5].id] = float("inf")
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
        await members.join_spares(catalog._rounds.exclusive)
        assert member_numbers(places, members.members) == {0, 1, 2, 3}


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
