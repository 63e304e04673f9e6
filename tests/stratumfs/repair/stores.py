"""A whole store on real files with something to repair, devices that fall silent, and folders that come back."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import trio

from stratumfs.catalog.damage import damage_rows
from stratumfs.catalog.volumes import SEALED, VolumeRow, volumes
from stratumfs.erasure.code import Code
from stratumfs.errors import DeviceRefused, DeviceSilent
from stratumfs.ids import CellIndex, DeviceId
from stratumfs.repair import repairer
from stratumfs.shards.layout import ShardName, path_of
from stratumfs.shards.local import LocalShards
from stratumfs.store.ledger import CatalogLedger
from stratumfs.store.store import Store
from stratumfs.volumes.attached import AttachedDevice
from tests.faults.audit import audit_rows, audit_shards
from tests.stores import make_store, running_store
from tests.stratumfs.store.helpers import get, put

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

DATA = {f"key {number}".encode(): os.urandom(size) for number, size in enumerate((3_000_000, 20_000, 1_500_000))}


def ident(slot: int) -> DeviceId:
    return DeviceId(f"d{slot}".encode().ljust(16, b"-"))


@asynccontextmanager
async def filled(folder: Path, devices: int = 6) -> AsyncIterator[Store]:
    """A store with a bucket and some objects in one sealed volume."""
    make_store(folder, devices)
    async with running_store(folder, Code(4, 2)) as store:
        await store.objects.create_bucket("bucket", 1)
        for key, data in DATA.items():
            await put(store, key, data)
        await store.writer.volumes.seal_idle(0)
        yield store


async def only_volume(store: Store) -> VolumeRow:
    [row] = await store.catalog.read(volumes, SEALED)
    return row


async def all_is_well(store: Store) -> None:
    for key, data in DATA.items():
        assert await get(store, key) == data
    assert await audit_rows(store) + await audit_shards(store) == []
    assert await store.catalog.read(damage_rows) == []
    assert store.damaged == set()


def file_of(store: Store, row: VolumeRow, cell: int) -> Path:
    return Path(store.devices[row.devices[cell]].label) / path_of(ShardName(row.id, CellIndex(cell)))


class Folders:
    """`Folders` of a store in a test: a device is there as long as its folder is."""

    def __init__(self, root: Path, kind: type[AttachedDevice] = AttachedDevice) -> None:
        self.root, self.kind = root, kind

    def check(self, device: DeviceId) -> None:
        if not self._path(device).exists():
            raise DeviceRefused("it is away", str(self._path(device)))

    def reopen(self, device: DeviceId) -> AttachedDevice:
        self.check(device)
        return self.kind(device, str(self._path(device)), LocalShards(self._path(device)), disk=device)

    def _path(self, device: DeviceId) -> Path:
        return self.root / device.rstrip(b"-").decode()


class Silent(AttachedDevice):
    """A device that is not heard of within any deadline while it is asked for shards, until it wakes."""

    asleep = True
    asked = 0

    async def read(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        if self.asleep and (self.shards in args or fn == self.free):
            self.asked += 1
            raise DeviceSilent(f"device {self.label} does not answer", self.label)
        return await super().read(fn, *args)

    def reading(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        if self.asleep and fn == self.shards.read_at:
            raise DeviceSilent(f"device {self.label} does not answer", self.label)
        return super().reading(fn, *args)


def silence(store: Store, device: DeviceId) -> Silent:
    old = store.devices[device]
    silent = store.fleet.devices[device] = Silent(device, old.label, old.shards, old.disk, old.total, old.free)
    return silent


def spoil(store: Store, row: VolumeRow, *cells: int) -> None:
    """In the first stripe."""
    for cell in cells:
        with file_of(store, row, cell).open("r+b") as file:
            file.seek(200)
            file.write(b"damage")


class Another(repairer.Repairer):
    """Another repairer of the store, for whom every struck device may come back at once."""

    def __init__(self, store: Store, folders: Folders) -> None:
        seal, moved = store._seal, store.reader.forget
        ledger = CatalogLedger(store.catalog)
        super().__init__(store.id, store.catalog, store.fleet, ledger, seal=seal, moved=moved, folders=folders)
        self.done: list[int | str] = []


@asynccontextmanager
async def served(store: Store, folders: Folders) -> AsyncIterator[Another]:
    own = Another(store, folders)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(own.serve)
        yield own
        nursery.cancel_scope.cancel()
