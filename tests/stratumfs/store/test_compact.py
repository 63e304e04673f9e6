"""Volumes that were written while devices were missing come to full width."""

import os
from pathlib import Path

import pytest

from stratumfs.catalog.volumes import FREED, OPEN, SEALED, volumes
from stratumfs.errors import DeviceFailed
from stratumfs.ids import CellIndex
from stratumfs.shards.layout import ShardName
from stratumfs.store import maintenance
from stratumfs.store.store import Store
from tests.faults.audit import audit_rows
from tests.stores import attached, running_store
from tests.stratumfs.store.helpers import MIB, get, put

DATA = {b"large": os.urandom(3 * MIB), b"small": os.urandom(20_000), b"other": os.urandom(MIB)}


async def widths(store: Store) -> list[int]:
    """Of the volumes that hold something."""
    found = [each for state in (OPEN, SEALED) for each in await store.catalog.read(volumes, state)]
    return [each.k + each.m for each in found if each.live]


async def fill(store: Store) -> None:
    await store.objects.create_bucket("bucket", 1)
    for key, data in DATA.items():
        await put(store, key, data)


async def all_is_well(store: Store) -> None:
    for key, data in DATA.items():
        assert await get(store, key) == data
    assert await audit_rows(store) == []


async def test_they_are_repacked_when_the_device_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "VOLUME_FREE_GRACE_S", 0.0)
    async with running_store(tmp_path) as store:
        first = next(iter(store.devices))
        await store.fleet.strike(first, DeviceFailed("Input/output error", "d0"))
        await fill(store)
        await store.compactor.round()
        assert await widths(store) == [5]
        await store.fleet.restore(attached(tmp_path)[first])
        await store.compactor.round()
        assert await widths(store) == [6]
        await all_is_well(store)
        for _ in range(2):
            await store.maintenance.round()
        left = [each for state in (SEALED, FREED) for each in await store.catalog.read(volumes, state)]
        assert [each.id for each in left if each.k + each.m == 5] == []
        await all_is_well(store)


async def test_the_next_owner_does_it_by_itself(tmp_path: Path) -> None:
    async with running_store(tmp_path):
        pass  # has made the devices
    some = dict(list(attached(tmp_path).items())[:4])
    async with running_store(tmp_path, devices=some) as store:
        await fill(store)
        assert await widths(store) == [4]
    async with running_store(tmp_path) as store:
        await store.compactor.round()
        assert await widths(store) == [6]
        await all_is_well(store)


async def test_what_is_damaged_stays_and_holds_up_nothing(tmp_path: Path) -> None:
    async with running_store(tmp_path):
        pass
    some = dict(list(attached(tmp_path).items())[:3])
    async with running_store(tmp_path, devices=some) as store:
        await fill(store)
        [row] = await store.catalog.read(volumes, OPEN)
        await store.volume_writer.seal(row.id)
        await put(store, b"behind", DATA[b"other"])
    found = attached(tmp_path)
    for cell, ident in enumerate(row.devices):
        found[ident].shards.unlink(ShardName(row.id, CellIndex(cell)))
    async with running_store(tmp_path) as store:
        await store.compactor.round()
        assert sorted(await widths(store)) == [3, 6]
        assert await get(store, b"behind") == DATA[b"other"]
