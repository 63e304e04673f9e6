"""What readers of the store bring into memory, and in what pieces they get it."""

import errno
import os
from pathlib import Path

import pytest

from gateway.errors import translate
from stratumfs.catalog.extents import layout
from stratumfs.catalog.volumes import SEALED, place_shards, volume
from stratumfs.errors import CatalogCorrupt, NotFound
from stratumfs.fuse.errno import errno_of
from stratumfs.ids import InodeNo
from stratumfs.owner.recovery import mend
from stratumfs.store.survives import survives_by_asking
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
