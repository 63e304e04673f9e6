"""Puts a store together: locks, identities, devices, catalog, volumes, and the store over them.

Nothing forks after the catalog is open; commands that an open door needs (fusermount3) are fork-and-exec at once.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog
import trio

from stratumfs.catalog.boot import Booted, boot, survey
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.migrations import MIGRATIONS
from stratumfs.catalog.schema import VERSION
from stratumfs.config import SETTINGS_FILE, Settings
from stratumfs.devices.folder import FolderFacts, look_at
from stratumfs.devices.identity import Identity
from stratumfs.erasure.code import Code
from stratumfs.errors import ConfigError, DeviceFailed
from stratumfs.owner.attach import (
    Attached,
    attach_devices,
    lock_all,
    look_at_devices,
    refresh_identities,
)
from stratumfs.owner.create import HOT
from stratumfs.owner.locate import identity_of
from stratumfs.owner.lock import Locks
from stratumfs.owner.places import listed, places, travelling_files
from stratumfs.owner.recovery import mend
from stratumfs.owner.stand_in import is_stand_in
from stratumfs.store.store import Store, opened_store
from tiering.explain import Explainer

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Locked:
    """A store whose locks are ours, and which devices of it are up; nothing of it is open for writing yet.

    folder   the store folder, or what stands in for it
    store    its facts; None where the store folder is lost
    failed   a device that could not be written to already
    """

    folder: Path
    identity: Identity
    attached: Attached
    store: FolderFacts | None
    failed: DeviceFailed | None


@dataclass(frozen=True, slots=True)
class Running:
    """A store that doors can be opened on."""

    folder: Path
    identity: Identity
    attached: Attached
    store: Store
    explainer: Explainer


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
    store = None if is_stand_in(folder) else look_at(folder)
    failed = next(iter(attached.read_only.values()), None) or refresh_identities(identity, store, attached.facts)
    return Locked(folder, identity, attached, store, failed)


@asynccontextmanager
async def opened(found: Locked, settings: Settings) -> AsyncIterator[Running]:
    """Open catalog and volumes, and run the store until the block ends; what was committed is durable then.

    Raises: ConfigError, CatalogCorrupt, DeviceError, OSError while opening.
    """
    code = Code(settings.hot.k, settings.hot.m)
    if len(found.identity.devices) < code.n:
        devices = len(found.identity.devices)
        raise ConfigError(f"{found.folder / SETTINGS_FILE}: k + m = {code.n}, but the store has {devices} devices")
    ident = found.identity.store
    booted = await _boot(found, max(settings.hot.m, 1))
    catalog = Catalog.among(booted)
    async with trio.open_nursery() as nursery:
        await nursery.start(catalog.serve)
        try:
            why_not = booted.why_not or _read_only_reason(found.attached, code, found.failed)
            if why_not is None:
                failed = await mend(ident, catalog, found.attached)
                why_not = _read_only_reason(found.attached, code, failed)
            async with opened_store(ident, catalog, code, HOT, found.attached.devices, read_only=why_not) as store:
                explainer = Explainer(store, found.identity, found.attached.refused)
                store.files.explainer = explainer
                yield Running(found.folder, found.identity, found.attached, store, explainer)
        finally:
            with trio.CancelScope(shield=True):
                await catalog.close()
                if booted.scratch is not None:
                    await trio.to_thread.run_sync(shutil.rmtree, booted.scratch, True)
            nursery.cancel_scope.cancel()


async def _boot(found: Locked, m: int) -> Booted:
    """The catalog, at those places of the store that are there. Raises: ConfigError, CatalogCorrupt, OSError."""
    seen = await survey(places(found.store, found.attached.facts))
    files = {**seen.manifest.files, **await trio.to_thread.run_sync(travelling_files, found.folder)}
    return await boot(seen, listed(found.identity), m, files, VERSION, MIGRATIONS)


def _read_only_reason(attached: Attached, code: Code, failed: DeviceFailed | None) -> str | None:
    """With fewer than n devices, or one that failed, nothing can be written at full width: the store reads on, and says
    what to replace."""
    if len(attached.devices) < code.n:
        return f"{len(attached.devices)} of {code.n} devices are there: " + "; ".join(attached.refused.values())
    return None if failed is None else f"device {failed.device} failed: {failed}"
