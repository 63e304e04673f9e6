"""Beginnings of epochs that do not go well: what may count at the next opening though it was never in force."""

import errno
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from stratumfs.catalog import chains
from stratumfs.catalog.chains import Manifest, read_manifest
from stratumfs.catalog.engine import Catalog
from stratumfs.errors import StoreReadOnly
from stratumfs.limits import JOIN_RETRY_S
from tests.stratumfs.catalog.somewhere import (
    FolderPlace,
    member_numbers,
    open_at,
    pass_s,
    until,
)
from tests.stratumfs.catalog.toy import everything, put


async def test_a_member_of_an_epoch_that_could_not_be_begun_ends_all_writing_when_it_goes_its_manifest_written(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its manifest descends from the epoch in force: the next opening may find that place alone."""
    write = chains.write_manifest
    refused: list[Manifest] = []

    def written_and_failed(folder: Path, manifest: Manifest) -> None:
        write(folder, manifest)
        if folder.parent == places[4].root:
            refused.append(manifest)
            raise OSError(errno.EIO, "Input/output error")  # the sync of the folder, behind the rename

    answered = [1]
    async with open_at(places, range(5)) as (catalog, _):
        await catalog.commit(put, 1, b"one")
        monkeypatch.setattr(chains, "write_manifest", written_and_failed)
        await catalog.strike(places[3].id, "EIO")
        await until(lambda: bool(refused) and catalog.failure is not None)
        with pytest.raises(StoreReadOnly):
            await catalog.commit(put, 2, b"two")
    monkeypatch.undo()
    async with open_at(places, range(3, 7)) as (catalog, _):
        assert [ident for ident, _ in await catalog.read(everything)] == answered


async def test_a_member_of_an_epoch_that_was_told_to_too_few_ends_all_writing_when_it_is_struck(
    places: list[FolderPlace],
) -> None:
    """It holds what is written as long as it is there; gone, it may be the only one that the next opening finds."""
    refused: list[str] = []

    def full(what: str) -> None:
        if _is_of_the_join(what, in_force=True):
            refused.append(what)
            raise OSError(errno.ENOSPC, "No space left on device")

    async with open_at(places, range(5)) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        places[4].before = full
        await catalog.strike(places[3].id, "EIO")
        await until(lambda: bool(refused) and not catalog._rounds.turn.locked())
        await catalog.commit(put, 2, b"two")
        assert places[4].id in members.members
        with pytest.raises(StoreReadOnly):
            await catalog.strike(places[4].id, "EIO")
        with pytest.raises(StoreReadOnly):
            await catalog.commit(put, 3, b"three")
    places[4].before = lambda what: None
    async with open_at(places, range(3, 7)) as (catalog, _):
        assert [ident for ident, _ in await catalog.read(everything)] == [1, 2]


async def test_a_join_that_too_few_are_told_of_is_undone_and_tried_again(
    places: list[FolderPlace], mock_clock: MockClock
) -> None:
    """Nobody has written its manifest; a copy that no epoch names is asked by no round."""
    refused: list[str] = []

    def full(what: str) -> None:
        if _is_of_the_join(what, in_force=False):
            refused.append(what)
            raise OSError(errno.ENOSPC, "No space left on device")

    async with open_at(places, range(5)) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        places[4].before = full
        await catalog.strike(places[3].id, "EIO")
        await until(lambda: bool(refused) and not members.log_kept.locked())
        places[4].before = lambda what: None
        assert member_numbers(places, members.members) == {0, 1, 2}
        assert read_manifest(places[4].folder) is None
        assert not list(places[4].folder.glob("chain-*"))
        members._spares.joined(places[4].id)  # it has rested
        await pass_s(mock_clock, JOIN_RETRY_S)
        await until(lambda: member_numbers(places, members.epoch.members) == {0, 1, 2, 4})
        assert members.epoch.members == {*members.members}


async def test_a_join_that_is_begun_and_not_in_force_is_begun_again(
    places: list[FolderPlace], mock_clock: MockClock
) -> None:
    refused: list[str] = []

    def full(what: str) -> None:
        if _is_of_the_join(what, in_force=True):
            refused.append(what)
            raise OSError(errno.ENOSPC, "No space left on device")

    async with open_at(places, range(5)) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        places[4].before = full
        await catalog.strike(places[3].id, "EIO")
        await until(lambda: bool(refused) and not members.log_kept.locked())
        assert member_numbers(places, members.members) == {0, 1, 2, 4}
        assert members.epoch.members != {*members.members}
        await pass_s(mock_clock, JOIN_RETRY_S)
        await until(lambda: members.epoch.members == {*members.members})
        await catalog.commit(put, 2, b"two")


async def test_a_place_that_is_welcomed_while_an_epoch_is_told_does_not_count_as_told(
    places: list[FolderPlace], tmp_path: Path
) -> None:
    crashed_at = tmp_path / "crashed"
    may, reached = threading.Event(), threading.Event()

    def stop(what: str) -> None:
        begun, in_force = what.split()[1].split("/")
        if begun != in_force and not may.is_set():
            reached.set()
            assert may.wait(60)

    def crash(what: str) -> None:
        """The first place has been told that the epoch is in force, this one has not yet."""
        stop(what)
        begun, in_force = what.split()[1].split("/")
        if may.is_set() and begun == in_force and not crashed_at.exists():
            while _named(places[0]) < int(begun):
                pass
            crashed_at.mkdir()
            for place in places:
                shutil.copytree(place.root, crashed_at / place.root.name)

    def full(what: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with open_at(places, range(5)) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        for place in places[:4]:
            place.before = crash if place is places[1] else stop
        places[4].before = full  # without it, those that are told are three of seven
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_strike, catalog, places[3])
            assert await trio.to_thread.run_sync(reached.wait, 10)
            members.welcome(places[5])
            may.set()
    if crashed_at.exists():
        crashed = [FolderPlace(place.id, crashed_at / place.root.name, place.disk) for place in places]
        async with open_at(crashed, range(3, 7)) as (catalog, booted):
            if not booted.why_not:
                await catalog.commit(put, 2, b"two")
        async with open_at(crashed) as (_, booted):
            assert not booted.why_not


async def _strike(catalog: Catalog, place: FolderPlace) -> None:
    with suppress(StoreReadOnly):
        await catalog.strike(place.id, "EIO")


def _is_of_the_join(what: str, *, in_force: bool) -> bool:
    """The catalog was made (epoch 1), opened (2), a member struck (3), and now another one joins (4)."""
    return what.startswith("name 4/4 " if in_force else "name 4/3 ")


def _named(place: FolderPlace) -> int:
    named = place.read_named()
    assert named is not None
    return named.in_force.number
