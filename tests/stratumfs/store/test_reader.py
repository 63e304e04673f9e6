"""What readers of the store bring into memory, and in what pieces they get it."""

import errno
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import translate
from stratumfs.catalog.extents import layout
from stratumfs.catalog.volumes import SEALED, place_shards, volume
from stratumfs.errors import CatalogCorrupt, NotFound
from stratumfs.fuse.errno import errno_of
from stratumfs.ids import ExtentId, InodeNo, Nonce, StripeNo, VolumeId
from stratumfs.limits import STRIPE_PAYLOAD_MAX
from stratumfs.location import Location
from stratumfs.owner.recovery import mend
from stratumfs.store.reader import neighbours
from stratumfs.store.survives import survives_by_asking
from stratumfs.values import Extent
from tests.faults import acts
from tests.stores import STORE
from tests.stratumfs.store.helpers import MIB, bucket, get, put


async def test_what_was_fetched_ahead_is_read_from_memory(tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 5)
    async with bucket(tmp_path) as store:
        ino = (await put(store, b"large", data)).ino
        await store.reader.prefetch(ino, MIB, 50 * MIB)
        before = store.volume_reader.statistics()["cell_misses"]
        assert await store.reader.read(ino, MIB, 50 * MIB) == data[MIB:]
        assert store.volume_reader.statistics()["cell_misses"] == before
        await store.reader.read(ino, 0, 1)
        assert store.volume_reader.statistics()["cell_misses"] > before


async def test_nothing_is_fetched_behind_the_end_or_of_what_is_in_no_volume(tmp_path: Path) -> None:
    async with bucket(tmp_path) as store:
        small = (await put(store, b"small", b"inline")).ino
        for offset in (0, 3, 100 * MIB):
            await store.reader.prefetch(small, offset, MIB)
        assert store.volume_reader.statistics()["cell_misses"] == 0
        with pytest.raises(NotFound):
            await store.reader.prefetch(InodeNo(10**9), 0, 1)


async def test_a_volume_whose_rows_are_lost_is_damage_and_stops_nothing_else(tmp_path: Path) -> None:
    """Its own rows say no more where its shards lie."""
    async with bucket(tmp_path) as store:
        for key in (b"lost", b"whole"):
            await put(store, key, key * 10_000)
            await store.writer.volumes.seal_idle(0)
        await put(store, b"open", b"open" * 10_000)
        idents = {}
        for key in ("lost", "open"):
            [extent] = await store.catalog.read(layout, await acts.find(store, f"bucket/{key}"), 0, 50_000)
            assert extent.location is not None
            idents[key] = extent.location.volume
        await store.catalog.commit(place_shards, idents["lost"], ())
        store.reader.forget(idents["lost"])
        with pytest.raises(CatalogCorrupt, match="fsck") as caught:
            await get(store, b"lost")
        assert errno_of(caught.value) == errno.EIO
        assert (translate(caught.value).code, translate(caught.value).status) == ("ServiceUnavailable", 503)
        await store.scrubber.round(at_once=True)
        await store.repairer.round()
        assert await get(store, b"whole") == b"whole" * 10_000
        assert (await survives_by_asking(store)).devices < 0
        # An owner that finds it open opens the store all the same.
        await store.catalog.commit(place_shards, idents["open"], ())
        await mend(STORE, store.catalog, store.devices)
        row = await store.catalog.read(volume, idents["open"])
        assert row is not None
        assert row.state == SEALED


CELL = STRIPE_PAYLOAD_MAX // 4
RUN = Location(VolumeId(b"v" * 16), StripeNo(3), 3 * (128 + CELL), CELL, 7, Nonce(2**64 - 1))  # the last there is


@given(st.sets(st.integers(1, 3 * MIB - 1) | st.just(STRIPE_PAYLOAD_MAX - 7), max_size=20), st.sets(st.integers(0, 20)))
def test_what_lies_behind_one_another_in_a_volume_is_read_together(cuts: set[int], moved: set[int]) -> None:
    """A run that was cut anywhere is one again; pieces that lie elsewhere, or behind a hole, stay by themselves."""
    edges = [0, *sorted(cuts), 3 * MIB]
    whole = [
        Extent(ExtentId(at), InodeNo(1), start, stop - start, RUN.advanced(start), None)
        for at, (start, stop) in enumerate(pairwise(edges))
    ]
    assert list(neighbours(whole)) == [whole[0]._replace(length=3 * MIB)]
    elsewhere = [
        each._replace(location=RUN._replace(volume=VolumeId(bytes(16)))) if at in moved else each
        for at, each in enumerate(whole)
    ]
    found = list(neighbours(elsewhere))
    assert [edge.offset for edge in found] == [
        each.offset for at, each in enumerate(whole) if at == 0 or at in moved or at - 1 in moved
    ]
    assert sum(each.length for each in found) == 3 * MIB
    apart = [each._replace(offset=each.offset + number) for number, each in enumerate(whole)]
    assert list(neighbours(apart)) == apart
    inline = [Extent(ExtentId(at), InodeNo(1), at * 3, 3, None, b"abc") for at in range(4)]
    assert list(neighbours(inline)) == inline
