"""How much fits, and who is asked."""

import os
import threading
import time
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from stratumfs.catalog import membership
from stratumfs.erasure.code import Code
from stratumfs.errors import DeviceFailed, StoreFull
from stratumfs.ids import GIB
from stratumfs.store import space as space_module
from stratumfs.store.fleet import Fleet
from stratumfs.store.space import Space, keep_free, usable
from stratumfs.values import Name
from tests.stores import attached, make_store
from tests.stratumfs.catalog.somewhere import make_catalog, open_at, places_in
from tests.stratumfs.store.helpers import ANY, MIB, bucket, get, put
from tests.suites.tier import Ledger


def greedy(free: list[int], narrowest: int) -> int:
    """Payload of 4+2, and of narrower volumes down to so many devices, one unit after the other."""
    left, fits = list(free), 0
    while True:  # one more unit on the devices that have most room, six of them if there are so many
        left.sort(reverse=True)
        width = min(6, sum(each > 0 for each in left))
        if width < narrowest:
            return fits
        left[:width] = [each - 1 for each in left[:width]]
        fits += width - 2


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=9))
def test_what_fits_is_no_more_than_a_greedy_placement_reaches(free: list[int]) -> None:
    assert greedy(free, 6) <= usable(free, Code(4, 2)) <= greedy(free, 3)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=6))
def test_what_fits_is_exactly_that_where_there_is_no_choice(free: list[int]) -> None:
    assert usable(free, Code(4, 2)) == greedy(free, 3)


def test_narrower_volumes_fit_where_devices_are_full_or_missing() -> None:
    code = Code(4, 2)
    assert usable([100] * 6, code) == 400
    assert usable([100] * 5, code) == usable([0, *[100] * 5], code) == 300
    assert usable([50, *[100] * 5], code) == 50 * 4 + 50 * 3
    assert usable([100] * 3, code) == 100
    assert usable([100] * 2, code) == 0


async def _nothing() -> int:
    return 0


def test_small_devices_keep_room_for_a_log_of_the_catalog() -> None:
    assert [keep_free(size) for size in (400 * MIB, 4 * GIB, 25 * GIB, 1024 * GIB)] == [
        100 * MIB,
        256 * MIB,
        512 * MIB,
        GIB,
    ]


async def test_room_in_the_file_of_the_catalog_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not alone: its log needs some on the disk."""
    size, free, spare = 10 * GIB, 0, 0
    monkeypatch.setattr(space_module, "_folder_size", lambda folder: (size, free))

    async def reusable() -> int:
        return spare

    make_store(tmp_path)
    devices, code = attached(tmp_path), Code(4, 2)
    async with trio.open_nursery() as nursery:
        space = Space(Fleet(devices, {"hot": code}, Ledger()), "hot", code, lambda: [tmp_path], reusable, nursery)
        for free, spare, fits in (
            (257 * MIB, 0, True),
            (255 * MIB, 0, False),
            (255 * MIB, 2 * MIB, True),
            (129 * MIB, 200 * MIB, True),
            (127 * MIB, 1 * GIB, False),
        ):
            await space.refresh()
            assert (space.now.free > 0) == fits, (free, spare)


async def test_where_a_copy_of_the_catalog_has_no_room_nothing_new_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data leaves more than that free on a device, so that the copies of others do not end it; a repack leaves less."""
    free = {tmp_path: 10 * GIB, tmp_path / "copy": 129 * MIB}
    monkeypatch.setattr(space_module, "_folder_size", lambda folder: (10 * GIB, free[folder]))
    make_store(tmp_path)
    (tmp_path / "copy").mkdir()
    devices, code = attached(tmp_path), Code(4, 2)
    async with trio.open_nursery() as nursery:
        fleet = Fleet(devices, {"hot": code}, Ledger())
        space = Space(fleet, "hot", code, lambda: list(free), _nothing, nursery)
        await space.refresh()
        assert space.now.free > 0
        assert space.refused is None
        free[tmp_path / "copy"] = 128 * MIB
        await space.refresh()
        assert space.now.free == 0
        assert (
            space.refused == f"{tmp_path / 'copy'} holds the catalog: 128 MiB are free there, and more than 128 must be"
        )
        with pytest.raises(StoreFull, match="copy holds the catalog"):
            space.check(1)
        assert space.now.for_repack > 0
        free[tmp_path / "copy"] = 64 * MIB
        await space.refresh()
        assert space.now.for_repack == 0
        free.pop(tmp_path / "copy")  # it has been left
        await space.refresh()
        assert space.now.free > 0


async def test_regression_where_another_disk_takes_over_a_copy_that_has_no_room_new_data_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One small disk, filled by others, had the store refuse what all its other disks had room for."""
    small = tmp_path / "places" / "p1"

    def disk(where: Path | int) -> os.statvfs_result:
        folder = Path(os.readlink(f"/proc/self/fd/{where}")) if isinstance(where, int) else where
        free = 60 * MIB if folder.is_relative_to(small) else 9 * GIB
        return os.statvfs_result((1, 1, 10 * GIB, free, free, 0, 0, 0, 0, 255))

    make_store(tmp_path / "store")
    places = places_in(small.parent, 6)
    make_catalog(places)
    monkeypatch.setattr(os, "statvfs", disk)
    monkeypatch.setattr(membership, "SEQUENCE_NOTED_S", 0.01)
    fleet = Fleet(attached(tmp_path / "store"), {"hot": Code(4, 2)}, Ledger())
    async with open_at(places, m=1) as (catalog, booted), trio.open_nursery() as nursery:
        assert booted.members is not None
        space = Space(fleet, "hot", Code(4, 2), lambda: catalog.folders, _nothing, nursery)
        await space.refresh()
        with trio.fail_after(60):
            while not space.now.free:
                await space.refresh()
        assert len(booted.members.members) == 3
        assert places[1].id not in booted.members.members
        assert not booted.members.struck


async def test_regression_where_a_copy_has_become_the_database_new_data_is_taken_at_once(tmp_path: Path) -> None:
    """It lies in another folder than the copy, and was not asked there yet: writes were refused after a fail-over."""
    make_store(tmp_path)
    primary, copy, promoted = (tmp_path / name for name in ("d0/catalog/chain-1", "d1/catalog/chain-2", "d1/catalog/3"))
    for folder in (primary, copy, promoted):
        folder.mkdir(parents=True)
    chains = [primary, copy]
    async with trio.open_nursery() as nursery:
        fleet = Fleet(attached(tmp_path), {"hot": Code(4, 2)}, Ledger())
        space = Space(fleet, "hot", Code(4, 2), lambda: chains, _nothing, nursery)
        await space.refresh()
        assert space.now.free > 0
        chains[:] = [promoted]
        await space.refresh(wait_s=0.0)
        assert (space.refused, space.now.free > 0) == (None, True)


async def test_a_device_that_fails_to_answer_keeps_its_last_number(tmp_path: Path) -> None:
    make_store(tmp_path)
    devices = attached(tmp_path)

    def failing() -> int:
        raise DeviceFailed("no answer", "d0")

    async with trio.open_nursery() as nursery:
        code = Code(4, 2)
        fleet = Fleet(devices, {"hot": code}, Ledger())
        space = Space(fleet, "hot", code, lambda: [tmp_path / "catalog"], _nothing, nursery)
        await space.refresh()
        before = space.now
        assert before.free > 0
        next(iter(devices.values())).free = failing
        await space.refresh()
        assert space.now == before


async def test_a_full_store_refuses_new_data_and_deletes(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        await put(store, b"k", b"there")
        for device in store.devices.values():
            device.free = lambda: 0
        await store.space.refresh()
        with pytest.raises(StoreFull):
            await put(store, b"new", b"x")
        place = (await store.objects.bucket("bucket")).ino
        with pytest.raises(StoreFull):
            await store.files.make(place, Name(b"new"), 0o100644, 0, 0, time.time_ns())
        assert await get(store, b"k") == b"there"
        assert await store.objects.delete("bucket", b"k", ANY, time.time_ns())


async def test_a_store_whose_devices_are_drained_or_lost_says_so_and_not_that_it_is_full(tmp_path: Path) -> None:
    """A drained one takes no new volumes: the rest of 4+2 are too few for one, and the store is not read-only."""
    async with bucket(tmp_path) as store:
        first, *lost = store.devices.values()
        await store.fleet.drain(first.id)
        for device in lost[:2]:
            await store.fleet.strike(device.id, DeviceFailed("it died", device.label))
        await put(store, b"k", b"narrower")
        await store.fleet.drain(lost[2].id)
        await store.space.refresh()
        assert store.read_only is None
        with pytest.raises(StoreFull, match=rf"2 devices of tier hot take new data, and it needs 3: {first.label} is"):
            await put(store, b"new", b"x")
        assert await get(store, b"k") == b"narrower"


async def test_regression_a_catalog_that_goes_on_elsewhere_is_asked_there_though_its_disk_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that was full and hung then left the store full as long as it hung."""
    asked, release, at = threading.Event(), threading.Event(), tmp_path / "dead" / "chain"

    def size(folder: Path) -> tuple[int, int]:
        if folder.parent.name == "dead" and hangs:
            asked.set()
            assert release.wait(60)
        return 100 * GIB, 0 if folder.parent.name == "dead" else 90 * GIB

    monkeypatch.setattr(space_module, "_folder_size", size)
    make_store(tmp_path)
    for name in ("dead", "alive"):
        (tmp_path / name / "chain").mkdir(parents=True)
    code, hangs = Code(4, 2), False
    async with trio.open_nursery() as nursery:
        fleet = Fleet(attached(tmp_path), {"hot": code}, Ledger())
        space = Space(fleet, "hot", code, lambda: [at], _nothing, nursery)
        await space.refresh()
        assert space.now.free == 0
        hangs = True
        await space.refresh(0.0)
        await trio.to_thread.run_sync(asked.wait)
        at = tmp_path / "alive" / "chain"
        try:
            with trio.fail_after(60):
                while not space.now.free:
                    await space.refresh(0.01)
        finally:
            release.set()
        await space.refresh()
        assert space.now.free > 0


async def test_regression_a_device_that_is_full_and_has_the_catalog_leaves_room_on_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small one that had taken over the catalog made the whole store full when it was full itself."""
    make_store(tmp_path)
    devices, code = attached(tmp_path), Code(4, 2)
    for device in devices.values():
        device.total, device.free = lambda: 100 * GIB, lambda: 90 * GIB
    small, free = next(iter(devices.values())), 0
    small.total, small.free = lambda: 20 * GIB, lambda: free
    monkeypatch.setattr(space_module, "_folder_size", lambda folder: (20 * GIB, free))
    async with trio.open_nursery() as nursery:
        fleet = Fleet(devices, {"hot": code}, Ledger())
        space = Space(fleet, "hot", code, lambda: [tmp_path], _nothing, nursery)
        for shared, free, fits in (
            (False, keep_free(20 * GIB), False),
            (True, keep_free(20 * GIB), True),
            (True, keep_free(20 * GIB) // 2, False),
        ):
            small.disk = os.stat(tmp_path).st_dev if shared else "another"
            await space.refresh()
            assert (space.now.free > 0) == fits, (shared, free)
