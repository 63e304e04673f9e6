"""How much fits, and who is asked."""

import time
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from stratumfs.erasure.code import Code
from stratumfs.errors import DeviceFailed, StoreFull
from stratumfs.store.space import Space, usable
from stratumfs.values import Name
from tests.stores import attached, make_store
from tests.stratumfs.store.helpers import ANY, bucket, get, put


@given(st.lists(st.integers(0, 1000), min_size=6, max_size=9))
def test_what_fits_is_what_a_greedy_placement_reaches(free: list[int]) -> None:
    left, stripes = list(free), 0
    while True:  # one more unit on the six devices that have most room
        left.sort(reverse=True)
        if left[5] == 0:
            break
        left[:6] = [each - 1 for each in left[:6]]
        stripes += 1
    assert usable(free, Code(4, 2)) == stripes * 4


def test_too_few_devices_hold_nothing() -> None:
    assert usable([100] * 5, Code(4, 2)) == 0


async def test_a_device_that_fails_to_answer_keeps_its_last_number(tmp_path: Path) -> None:
    make_store(tmp_path)
    devices = attached(tmp_path)

    def failing() -> int:
        raise DeviceFailed("no answer", "d0")

    async with trio.open_nursery() as nursery:
        space = Space(devices, Code(4, 2), tmp_path / "catalog", nursery)
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
