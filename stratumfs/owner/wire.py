"""Puts a store together: locks, identities, devices, catalog, volumes, and the store over them.

Nothing forks after the catalog is open; commands that an open door needs (fusermount3) are fork-and-exec at once.
"""

from collections import Counter
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
from stratumfs.config import HOT, SETTINGS_FILE, Settings
from stratumfs.devices.folder import look_at
from stratumfs.devices.identity import Identity
from stratumfs.erasure.code import Code
from stratumfs.errors import ConfigError, DeviceFailed
from stratumfs.ids import DeviceId, StoreId
from stratumfs.owner.attach import (
    Attached,
    attach_devices,
    lock_all,
    look_at_devices,
    refresh_identities,
)
from stratumfs.owner.create import CATALOG_FOLDER
from stratumfs.owner.locate import identity_of
from stratumfs.owner.lock import Locks
from stratumfs.owner.recovery import mend
from stratumfs.store.fleet import Absent, Fleet
from stratumfs.store.ledger import CatalogLedger
from stratumfs.store.store import Store, opened_store
from tiering.explain import Explainer
from tiering.move import Mover

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Locked:
    """A store whose locks are ours, and which devices of it are up; nothing of it is open for writing yet.

    failed  those that could not be written to already
    """

    folder: Path
    identity: Identity
    attached: Attached
    store_disk: int
    failed: Mapping[DeviceId, DeviceFailed]


@dataclass(frozen=True, slots=True)
class Running:
    """A store that doors can be opened on."""

    folder: Path
    identity: Identity
    attached: Attached
    store_disk: int
    store: Store
    explainer: Explainer
    mover: Mover


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
            for device in found.attached.devices.values():
                device.shards.close()
    finally:
        locks.release()


def _lock(folder: Path, locks: Locks) -> Locked:
    identity = identity_of(folder)
    facts, refused = look_at_devices(identity)
    refused |= lock_all(locks, folder, facts)
    attached = attach_devices(identity, facts, refused)
    failed = refresh_identities(identity, attached.facts, attached.read_only)
    return Locked(folder, identity, attached, look_at(folder).st_dev, failed)


@asynccontextmanager
async def opened(found: Locked, settings: Settings) -> AsyncIterator[Running]:
    """Open catalog and volumes, and run the store until the block ends; what was committed is durable then.

    Raises: ConfigError, CatalogCorrupt, DeviceError, OSError while opening.
    """
    codes = _codes(found, settings)
    ident = found.identity.store
    catalog = await Catalog.open(found.folder / CATALOG_FOLDER, VERSION, MIGRATIONS)
    async with trio.open_nursery() as nursery:
        await nursery.start(catalog.serve)
        try:
            fleet = await _fleet(found, catalog, codes)
            if fleet.refusal(HOT) is None:
                await _mend(ident, catalog, fleet)
            async with opened_store(ident, catalog, HOT, fleet) as store:
                explainer = Explainer(store, found.identity, found.attached.refused, found.store_disk)
                store.files.explainer = explainer
                yield Running(
                    found.folder, found.identity, found.attached, found.store_disk, store, explainer, Mover(store)
                )
        finally:
            with trio.CancelScope(shield=True):
                await catalog.close()
            nursery.cancel_scope.cancel()


def _codes(found: Locked, settings: Settings) -> dict[str, Code]:
    """Of each tier of the settings. Raises: ConfigError where settings and devices differ."""
    source = found.folder / SETTINGS_FILE
    count = Counter(entry.tier for entry in found.identity.devices)
    for tier in count:
        if tier not in settings.tiers:
            raise ConfigError(f"{source}: [{tier}] is missing, but the store has devices of that tier")
    codes = {name: Code(tier.k, tier.m) for name, tier in settings.tiers.items()}
    for tier, code in codes.items():
        if count[tier] < code.n:
            raise ConfigError(f"{source}: {tier}.k + m = {code.n}, but the store has {count[tier]} devices of it")
    return codes


async def _fleet(found: Locked, catalog: Catalog, codes: Mapping[str, Code]) -> Fleet:
    """All devices of the store; those that failed before they were needed are struck."""
    absent = [
        Absent(entry.id, entry.tier, str(entry.path), found.attached.refused[entry.id])
        for entry in found.identity.devices
        if entry.id in found.attached.refused
    ]
    rows = await catalog.read(device_rows)
    fleet = Fleet(found.attached.devices, codes, CatalogLedger(catalog), rows=rows, absent=absent)
    for ident, reason in found.attached.read_only.items():
        fleet.read_only(ident, reason)
    await _strike(fleet, found.failed)
    return fleet


async def _mend(ident: StoreId, catalog: Catalog, fleet: Fleet) -> None:
    """What a crash left, on the devices that are up; a device that stalls in it is struck as later."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fleet.watch)
        up = {device.id: device for tier in fleet.codes for device in fleet.up(tier)}
        await _strike(fleet, await mend(ident, catalog, up))
        nursery.cancel_scope.cancel()


async def _strike(fleet: Fleet, failed: Mapping[DeviceId, DeviceFailed]) -> None:
    for ident, error in failed.items():
        await fleet.strike(ident, error)
