"""Openings that meet damage, and places that do not answer."""

import errno
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from stratumfs.catalog import boot, chains
from stratumfs.catalog.boot import Booted
from stratumfs.catalog.chains import Manifest, read_manifest
from stratumfs.catalog.connection import DATABASE
from stratumfs.catalog.copies import Copy
from stratumfs.catalog.durability import Mark, Primary
from stratumfs.ids import STORE_PLACE
from tests.stratumfs.catalog.somewhere import (
    FolderPlace,
    make_catalog,
    member_numbers,
    open_at,
    pass_s,
    places_in,
    until,
)
from tests.stratumfs.catalog.toy import PAGE, everything, put

ROWS = [(ident, bytes(3000)) for ident in range(10, 90)]
KEPT = [(1, b"kept"), *ROWS]


@pytest.fixture
async def places(tmp_path: Path) -> list[FolderPlace]:
    """With a catalog of some pages, closed in order; all of it is in the database."""
    found = places_in(tmp_path, 7)
    make_catalog(found)
    async with open_at(found) as (catalog, _):
        for ident, value in ROWS:
            await catalog.write(put, ident, value)
        await catalog.commit(put, 1, b"kept")
    return found


def rot(place: FolderPlace, file: str = DATABASE) -> None:
    """Pages in the middle of what lies there are no pages any more."""
    manifest = read_manifest(place.folder)
    assert manifest is not None
    [path] = (place.folder / manifest.folder).glob(file)
    data = bytearray(path.read_bytes())
    middle = len(data) // PAGE // 2
    for page in range(middle, middle + 6):
        data[page * PAGE : page * PAGE + 64] = b"\xff" * 64
    path.write_bytes(data)


def _as_if_killed(place: FolderPlace) -> None:
    """What a close in order tells the place, it was not told."""
    named = place.read_named()
    assert named is not None
    place.write_named(replace(named, sequence=named.sequence - 1))


async def test_a_damaged_database_is_left_out_and_its_place_and_the_new_primary_are_not_blamed(
    places: list[FolderPlace],
) -> None:
    async with open_at(places, range(1, 7)) as (catalog, booted):
        assert booted.members is not None
        holder = next(place for place in places if place.id == booted.members.primary)
        await catalog.commit(put, 2, b"without the store folder")
    rot(holder)
    # 4 of 7: with the voice of the holder there are just enough.
    holders = member_numbers(places, booted.members.members)
    async with open_at(places, {0, *sorted(holders)[:3]}) as (catalog, booted):
        assert booted.members is not None
        assert (booted.members.primary, booted.members.struck) == (STORE_PLACE, {})
        assert await catalog.read(everything) == [KEPT[0], (2, b"without the store folder"), *ROWS]
        assert holder.id in booted.members.members  # a good copy lies there by now


async def test_a_database_that_its_owner_did_not_close_is_checked_where_it_lies(places: list[FolderPlace]) -> None:
    rot(places[0])
    _as_if_killed(places[0])
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        assert (booted.members.primary, booted.members.struck) == (STORE_PLACE, {})
        assert await catalog.read(everything) == KEPT


async def test_one_that_was_closed_in_order_is_not_read_as_a_whole(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[Path] = []
    monkeypatch.setattr(chains, "check_database", lambda folder, step: checked.append(folder))
    async with open_at(places):
        assert checked == []
    _as_if_killed(places[0])
    async with open_at(places):
        assert len(checked) == 1


async def test_where_all_that_is_left_is_damaged_the_catalog_is_shown_and_not_written(
    places: list[FolderPlace],
) -> None:
    rot(places[0])
    _as_if_killed(places[0])
    async with open_at(places, {0, 4, 5, 6}) as (catalog, booted):
        assert "damaged" in booted.why_not
        assert catalog.read_only


async def test_a_copy_that_is_damaged_is_left_out_by_a_catalog_that_is_only_read(places: list[FolderPlace]) -> None:
    async with open_at(places) as (_, booted):
        assert booted.members is not None
        copies = [place for place in places if place.id in {copy.place for copy in booted.members.copies}]
    first, second = sorted(copies, key=lambda place: place.id)[:2]
    rot(first, "base.*")
    async with open_at([first, second]) as (catalog, booted):
        assert "2 of 7 places" in booted.why_not
        assert "damaged" in booted.why_not
        assert await catalog.read(everything) == KEPT


async def test_a_place_that_hangs_when_its_copy_is_folded_is_heard_and_not_used(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_at(places, {0, 4, 5, 6}) as (catalog, booted):
        await catalog.commit(put, 2, b"only those have it")
    by = boot._by

    async def hangs(seconds: float, fn: Callable[..., Any], place: FolderPlace, *args: Any) -> Any:
        if place is places[4] and fn is boot.chain_of:
            raise TimeoutError("no answer")
        return await by(seconds, fn, place, *args)

    monkeypatch.setattr(boot, "_by", hangs)
    async with open_at(places, {1, 2, 3, 4}) as (_, booted):
        assert "none of those who hold the newest catalog" in booted.why_not


async def test_a_place_that_does_not_answer_is_not_used_and_the_opening_goes_on(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    by = boot._by

    async def hangs(seconds: float, fn: Callable[..., Any], place: FolderPlace, *args: Any) -> Any:
        if place is places[2]:
            raise TimeoutError("no answer within 30 s")
        return await by(seconds, fn, place, *args)

    monkeypatch.setattr(boot, "_by", hangs)
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        assert booted.members.struck == {places[2].id: "no answer within 30 s"}
        assert places[2].id not in booted.members.members
        assert await catalog.read(everything) == KEPT


async def test_nobody_waits_for_a_place_beyond_the_deadline(mock_clock: MockClock) -> None:
    answer = threading.Event()
    try:
        async with trio.open_nursery() as nursery:

            async def look() -> None:
                with pytest.raises(TimeoutError, match="no answer within 30 s"):
                    await boot._by(boot.LOOK_S, answer.wait)

            nursery.start_soon(look)
            await wait_all_tasks_blocked()
            await pass_s(mock_clock, boot.LOOK_S)
    finally:
        answer.set()


async def test_a_copy_that_was_found_damaged_is_made_anew_and_not_taken_as_a_member(
    places: list[FolderPlace],
) -> None:
    rot(places[1], "base.*")
    before = _chain(places[1])
    shutil.rmtree(places[0].root)
    places[0].root.mkdir()
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        assert booted.members.struck == {}
        assert places[1].id in booted.members.members
        assert _chain(places[1]) != before
        await catalog.commit(put, 2, b"two")
    async with open_at(places, {1, 4, 5, 6}) as (catalog, booted):
        assert not booted.why_not
        assert (2, b"two") in await catalog.read(everything)


async def test_who_was_struck_by_an_attempt_to_open_is_not_used_by_the_next_one(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that has failed is never tried again as if it had not."""
    hold, hold_primary = Copy.hold, Primary.hold
    failed: list[object] = []

    def failing(self: Copy, mark: Mark) -> bool:
        if self.place == places[1].id and self not in failed:
            failed.append(self)
            raise OSError(errno.EIO, "Input/output error")
        return hold(self, mark)

    def failing_then(self: Primary, mark: Mark) -> bool:
        if len(failed) == 1:
            failed.append(self)
            raise OSError(errno.EIO, "Input/output error")
        return hold_primary(self, mark)

    monkeypatch.setattr(Copy, "hold", failing)
    monkeypatch.setattr(Primary, "hold", failing_then)
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        assert len(failed) == 2
        assert member_numbers(places, members.struck) == {0, 1}
        assert not {0, 1} & member_numbers(places, members.members)
        assert await catalog.read(everything) == KEPT


@pytest.mark.parametrize("hanging", ["holder", "primary"])
async def test_an_opening_whose_chain_is_copied_from_or_to_a_place_that_hangs_goes_on_with_another(
    places: list[FolderPlace], mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, hanging: str
) -> None:
    shutil.rmtree(places[0].root)
    places[0].root.mkdir()
    build, gate = chains.build_database, threading.Event()
    asked: list[Path] = []

    def hang(source: Path, manifest: Manifest, target: Path, *rest: Any) -> int:
        asked.append(source)
        if (source if hanging == "holder" else target).is_relative_to(places[hanging == "holder"].root):
            assert gate.wait(60)
        return build(source, manifest, target, *rest)

    monkeypatch.setattr(chains, "build_database", hang)
    opened: list[Booted] = []

    async def opening() -> None:
        async with open_at(places) as (catalog, booted):
            opened.append(booted)
            assert await catalog.read(everything) == KEPT

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opening)
            for number in range(1 if hanging == "holder" else 2):
                await until(lambda: len(asked) > number)  # noqa: B023 - it is called at once
                await pass_s(mock_clock, boot.LOOK_S)
            await until(lambda: bool(opened))
    finally:
        gate.set()
    assert opened[0].members is not None
    assert opened[0].members.primary == (STORE_PLACE if hanging == "holder" else places[1].id)
    assert member_numbers(places, opened[0].members.struck) == (set() if hanging == "holder" else {0})


def _chain(place: FolderPlace) -> str:
    manifest = read_manifest(place.folder)
    assert manifest is not None
    return manifest.folder


async def test_an_opening_that_has_no_room_for_a_primary_leaves_no_part_of_one_there(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would remove it: the place is not used any more, and the next opening would have even less room."""
    shutil.rmtree(places[0].root)
    places[0].root.mkdir()
    build = chains.build_database

    def full(source: Path, manifest: Manifest, target: Path, *rest: Any) -> int:
        if target.is_relative_to(places[0].root):
            (target / DATABASE).write_bytes(b"a part")
            raise OSError(errno.ENOSPC, "No space left on device")
        return build(source, manifest, target, *rest)

    monkeypatch.setattr(chains, "build_database", full)
    async with open_at(places) as (catalog, booted):
        assert booted.members is not None
        assert booted.members.primary != STORE_PLACE
        assert await catalog.read(everything) == KEPT
    assert chains.all_chains(places[0].folder) == []
