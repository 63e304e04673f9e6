"""How much fits, and who is asked."""

import time
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from stratumfs.erasure.code import Code
from stratumfs.errors import DeviceFailed, StoreFull
from stratumfs.ids import GIB
from stratumfs.store import space as space_module
from stratumfs.store.fleet import Fleet
from stratumfs.store.space import Space, keep_free, usable
from stratumfs.values import Name
from tests.stores import attached, make_store
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
        space = Space(Fleet(devices, {"hot": code}, Ledger()), "hot", code, lambda: tmp_path, reusable, nursery)
        for free, spare, fits in (
            (257 * MIB, 0, True),
            (255 * MIB, 0, False),
            (255 * MIB, 2 * MIB, True),
            (129 * MIB, 200 * MIB, True),
            (127 * MIB, 1 * GIB, False),
        ):
            await space.refresh()
            assert (space.now.free > 0) == fits, (free, spare)


async def test_a_device_that_fails_to_answer_keeps_its_last_number(tmp_path: Path) -> None:
    make_store(tmp_path)
    devices = attached(tmp_path)

    def failing() -> int:
        raise DeviceFailed("no answer", "d0")

    async with trio.open_nursery() as nursery:
        code = Code(4, 2)
        fleet = Fleet(devices, {"hot": code}, Ledger())
        space = Space(fleet, "hot", code, lambda: tmp_path / "catalog", _nothing, nursery)
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
