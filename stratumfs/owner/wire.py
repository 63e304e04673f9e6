"""Puts a store together: locks, identities, devices, catalog, volumes, and the store over them.

Nothing forks after the catalog is open; commands that an open door needs (fusermount3) are fork-and-exec at once.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from stratumfs.catalog.devices import device_rows
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.migrations import MIGRATIONS
from stratumfs.catalog.schema import VERSION
from stratumfs.config import SETTINGS_FILE, Settings
from stratumfs.devices.folder import look_at
from stratumfs.erasure.code import Code
from stratumfs.errors import ConfigError, DeviceFailed
from stratumfs.ids import DeviceId, StoreId
from stratumfs.owner.attach import (
    attach_devices,
    lock_all,
    look_at_devices,
    refresh_identities,
)
from stratumfs.owner.create import CATALOG_FOLDER, HOT
from stratumfs.owner.locate import identity_of
from stratumfs.owner.lock import Locks
from stratumfs.owner.places import Places
from stratumfs.owner.recovery import mend
from stratumfs.store.fleet import Absent, Fleet
from stratumfs.store.ledger import CatalogLedger
from stratumfs.store.store import Store, opened_store
from tiering.explain import Explainer

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Locked:
    """A store whose locks are ours, and which devices of it are up; nothing of it is open for writing yet.

    failed  those that could not be written to already
    """

    places: Places
    failed: Mapping[DeviceId, DeviceFailed]


@dataclass(frozen=True, slots=True)
class Running:
    """A store that doors can be opened on."""

    places: Places
    store: Store
    explainer: Explainer

    @property
    def folder(self) -> Path:
        return self.places.folder


@asynccontextmanager
async def locked(folder: Path) -> AsyncIterator[Locked]:
    """Hold all locks of the store in *folder*; they go last.

    Raises: StoreInUse, DeviceRefused, DeviceFailed.
    """
    locks = Locks()
    try:
        found = await trio.to_thread.run_sync(_lock, folder, locks)
        try:
            yield found
        finally:
            for device in found.places.attached.devices.values():
                device.shards.close()
    finally:
        locks.release()


def _lock(folder: Path, locks: Locks) -> Locked:
    identity = identity_of(folder)
    facts, refused = look_at_devices(identity)
    refused |= lock_all(locks, folder, facts)
    attached = attach_devices(identity, facts, refused)
    failed = refresh_identities(identity, attached.facts, attached.read_only)
    return Locked(Places(folder, identity, attached, locks, look_at(folder).st_dev), failed)


@asynccontextmanager
async def opened(found: Locked, settings: Settings) -> AsyncIterator[Running]:
    """Open catalog and volumes, and run the store until the block ends; what was committed is durable then.

    Raises: ConfigError, CatalogCorrupt, DeviceError, OSError while opening.
    """
    code = Code(settings.hot.k, settings.hot.m)
    places = found.places
    if len(places.identity.devices) < code.n:
        devices = len(places.identity.devices)
        raise ConfigError(f"{places.folder / SETTINGS_FILE}: k + m = {code.n}, but the store has {devices} devices")
    ident = places.identity.store
    catalog = await Catalog.open(places.folder / CATALOG_FOLDER, VERSION, MIGRATIONS)
    async with trio.open_nursery() as nursery:
        await nursery.start(catalog.serve)
        try:
            fleet = await _fleet(found, catalog, {HOT: code})
            if fleet.refusal(HOT) is None:
                await _mend(ident, catalog, fleet)
            async with opened_store(ident, catalog, code, HOT, fleet, places=places) as store:
                explainer = Explainer(store, places.entry, places.attached.refused, places.store_disk)
                store.files.explainer = explainer
                yield Running(places, store, explainer)
        finally:
            with trio.CancelScope(shield=True):
                await catalog.close()
            nursery.cancel_scope.cancel()


async def _fleet(found: Locked, catalog: Catalog, codes: Mapping[str, Code]) -> Fleet:
    """All devices of the store; those that failed before they were needed are struck."""
    attached = found.places.attached
    absent = [
        Absent(entry.id, entry.tier, str(entry.path), attached.refused[entry.id])
        for entry in found.places.identity.devices
        if entry.id in attached.refused
    ]
    rows = await catalog.read(device_rows)
    fleet = Fleet(attached.devices, codes, CatalogLedger(catalog), rows=rows, absent=absent)
    for ident, reason in attached.read_only.items():
        fleet.read_only(ident, reason)
    await _strike(fleet, found.failed)
    return fleet


async def _mend(ident: StoreId, catalog: Catalog, fleet: Fleet) -> None:
    """What a crash left, on the devices that are up; a device that stalls in it is struck as later."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fleet.watch)
        up = {device.id: device for device in fleet.up(HOT)}
        await _strike(fleet, await mend(ident, catalog, up))
        nursery.cancel_scope.cancel()


async def _strike(fleet: Fleet, failed: Mapping[DeviceId, DeviceFailed]) -> None:
    for ident, error in failed.items():
        await fleet.strike(ident, error)
