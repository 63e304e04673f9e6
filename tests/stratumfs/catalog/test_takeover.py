"""Which copy takes over where the primary is lost while its members change."""

import errno
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from stratumfs.catalog import seeding
from stratumfs.catalog.chains import read_manifest
from stratumfs.catalog.copies import Copy
from stratumfs.catalog.durability import Mark, Primary, PrimaryLost
from stratumfs.errors import DeviceFailed
from stratumfs.ids import STORE_PLACE
from stratumfs.limits import STRIKE_S
from tests.stratumfs.catalog.somewhere import FolderPlace, open_at, pass_s, until
from tests.stratumfs.catalog.test_boot import rot
from tests.stratumfs.catalog.test_membership import lose_primary
from tests.stratumfs.catalog.test_stalls import hanging_builds
from tests.stratumfs.catalog.toy import everything, put


async def test_a_copy_that_has_nothing_of_the_log_yet_does_not_take_over_however_long_the_others_take(
    places: list[FolderPlace], mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the base of a strike's new copy shows is older than what was answered."""
    seed, read = seeding.seed, Primary.read_wal
    seeded: list[Path] = []

    def lost_behind(folder: Path, *rest: Any) -> None:
        seed(folder, *rest)
        seeded.append(folder)

    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        assert await catalog.checkpoint()
        for place in places[4:]:
            members._spares.taken(place.id)
        await catalog.strike(places[3].id, "EIO")
        await catalog.commit(put, 2, b"two")
        lost = catalog._database.primary

        def read_or_fail(self: Primary, position: int, length: int) -> bytes:
            if self is lost and seeded and length > 32:
                raise PrimaryLost("EIO")
            return read(self, position, length)

        monkeypatch.setattr(Primary, "read_wal", read_or_fail)
        monkeypatch.setattr(seeding, "seed", lost_behind)
        async with trio.open_nursery() as nursery:
            with hanging_builds(monkeypatch, places[1:2]) as reached:
                nursery.start_soon(catalog.strike, places[2].id, "EIO")
                await until(lambda: bool(reached))
                await pass_s(mock_clock, 2 * STRIKE_S)
                assert members.primary == STORE_PLACE
        assert members.primary == places[1].id
        assert not catalog.failure
        assert await catalog.read(everything) == [(1, b"one"), (2, b"two")]


async def test_a_copy_whose_sync_fails_in_the_step_that_finds_the_primary_lost_is_asked_no_more(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that has failed is never tried again as if it had not."""
    hold, hold_primary = Copy.hold, Primary.hold
    armed: list[object] = []

    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        await catalog.commit(put, 1, b"one")
        first, second, *_ = (copy.place for copy in members.copies)

        def failing(self: Copy, mark: Mark) -> bool:
            if armed and self.place == first:
                armed.append("asked")
                raise OSError(errno.EIO, "Input/output error")
            return hold(self, mark)

        def lost(self: Primary, mark: Mark) -> bool:
            if armed and self is armed[0]:
                raise OSError(errno.EIO, "Input/output error")
            return hold_primary(self, mark)

        monkeypatch.setattr(Copy, "hold", failing)
        monkeypatch.setattr(Primary, "hold", lost)
        armed.append(catalog._database.primary)
        await catalog._exclusive(lambda mark: members.strike_places({second: DeviceFailed("EIO")}, mark))
        assert armed.count("asked") == 1
        assert {STORE_PLACE, first} < members.struck.keys()
        await catalog.commit(put, 2, b"two")


async def test_a_copy_that_is_damaged_is_made_anew_and_its_place_is_not_blamed(
    places: list[FolderPlace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shards on the same device are none the worse for it."""
    async with open_at(places) as (catalog, _):
        for ident in range(10, 90):
            await catalog.write(put, ident, bytes(3000))
        await catalog.commit(put, 1, b"one")
    async with open_at(places) as (catalog, booted):
        members = booted.members
        assert members is not None
        first = max(members.copies, key=lambda copy: (copy.generation, copy.shipped)).place
        damaged = next(place for place in places if place.id == first)
        before = read_manifest(damaged.folder)
        rot(damaged, "base.*")
        lose_primary(monkeypatch, catalog)
        await catalog.commit(put, 2, b"two")
        assert members.struck.keys() == {STORE_PLACE}
        assert first in members.places
        assert len(await catalog.read(everything)) == 82
        assert first not in members.members or read_manifest(damaged.folder) != before
