"""A real store in a folder, for tests: catalog in SQLite, six devices on disk, no doors."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from stratumfs.catalog import schema
from stratumfs.catalog.devices import device_rows
from stratumfs.catalog.engine import Catalog
from stratumfs.erasure.code import Code
from stratumfs.ids import DeviceId, StoreId
from stratumfs.limits import CATALOG_PAGE_SIZE
from stratumfs.shards.local import LocalShards
from stratumfs.store.fleet import Fleet
from stratumfs.store.ledger import CatalogLedger
from stratumfs.store.observer import AccessObserver
from stratumfs.store.remote_tier import Offsite
from stratumfs.store.store import Store, opened_store
from stratumfs.volumes.attached import AttachedDevice

STORE = StoreId(b"s" * 16)


def make_store(folder: Path, devices: int = 6) -> None:
    """An empty store below *folder*."""
    for slot in range(devices):
        (folder / f"d{slot}").mkdir(parents=True)
    Catalog.create(folder / "catalog", (*schema.TABLES, *schema.ROWS), schema.VERSION, page_size=CATALOG_PAGE_SIZE)


def make_warm(folder: Path, devices: int = 3, *, letter: str = "w") -> None:
    """Devices of a second tier, which ``running_store`` finds; *letter*: c for those of a third."""
    for slot in range(devices):
        (folder / f"{letter}{slot}").mkdir(parents=True)


def attached(folder: Path, pattern: str = "d[0-9]*", tier: str = "hot") -> dict[DeviceId, AttachedDevice]:
    """The devices that are there. Their ids follow from their slots."""
    found = {}
    for path in sorted(folder.glob(pattern)):
        ident = DeviceId(path.name.encode().ljust(16, b"-"))
        found[ident] = AttachedDevice(
            ident, str(path), LocalShards(path), disk=path.name, total=lambda: 1 << 40, free=lambda: 1 << 39, tier=tier
        )
    return found


@asynccontextmanager
async def running_store(
    folder: Path,
    code: Code | None = None,
    devices: Mapping[DeviceId, AttachedDevice] | None = None,
    offsite: Offsite | None = None,
    observer: AccessObserver | None = None,
) -> AsyncIterator[Store]:
    """The store in *folder*, open; made if it is not there. *devices*: others than the folders there; *offsite*: a cold
    tier.

    Its second tier, if ``make_warm`` made devices for one, is coded 2+1, and so is a third one, named cold.
    """
    if not (folder / "catalog").exists():
        make_store(folder)
    catalog = await Catalog.open(folder / "catalog", schema.VERSION)
    async with trio.open_nursery() as nursery:
        await nursery.start(catalog.serve)
        try:
            codes = {"hot": code or Code(4, 2)}
            rows = await catalog.read(device_rows)
            found = attached(folder) if devices is None else dict(devices)
            if warm := attached(folder, "w[0-9]*", "warm"):
                codes["warm"] = Code(2, 1)
            if cold := attached(folder, "c[0-9]*", "cold"):
                codes["cold"] = Code(2, 1)
            fleet = Fleet(found | warm | cold, codes, CatalogLedger(catalog), rows=rows)
            async with opened_store(STORE, catalog, "hot", fleet, observer=observer, offsite=offsite) as store:
                yield store
        finally:
            with trio.CancelScope(shield=True):
                await catalog.close()
            nursery.cancel_scope.cancel()
