"""Puts a store together: locks, identities, devices, catalog, volumes, and the store over them.

Nothing forks after the catalog is open; commands that an open door needs (fusermount3) are fork-and-exec at once.
"""

import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog
import trio

from stratumfs.catalog.boot import Booted, boot, survey
from stratumfs.catalog.devices import device_rows, drains
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.epochs import Named, other_history
from stratumfs.catalog.membership import Membership
from stratumfs.catalog.migrations import MIGRATIONS
from stratumfs.catalog.schema import VERSION
from stratumfs.catalog.spool import Spool
from stratumfs.catalog.standings import DeviceRow
from stratumfs.config import HOT, SETTINGS_FILE, Settings
from stratumfs.devices.folder import look_at
from stratumfs.devices.health import STRUCK, DeviceState
from stratumfs.erasure.code import Code
from stratumfs.errors import AnotherHistory, ConfigError, DeviceFailed, StoreReadOnly, StratumError
from stratumfs.ids import DeviceId, PlaceId
from stratumfs.limits import CLOSE_WAIT_S
from stratumfs.owner.attach import (
    attach_devices,
    leave_out,
    lock_all,
    look_at_devices,
    refresh_identities,
)
from stratumfs.owner.backup import DAY_S, SPOOL_FOLDER, Backup
from stratumfs.owner.backup_target import open_target
from stratumfs.owner.folders import Folders
from stratumfs.owner.health import Health
from stratumfs.owner.locate import identity_of
from stratumfs.owner.lock import Locks
from stratumfs.owner.places import IdentityPlace, listed, place_of, travelling_files
from stratumfs.owner.recovery import mend
from stratumfs.owner.stand_in import is_stand_in
from stratumfs.owner.standings import StandingsLedger
from stratumfs.owner.tier_engine import Tiers, land_by_hints
from stratumfs.store.fleet import Absent, Fleet
from stratumfs.store.remote_tier import Offsite
from stratumfs.store.store import Store, opened_store
from stratumfs.threads import in_thread
from stratumfs.volumes.fanout import in_threads
from tiering.explain import Explainer
from tiering.move import Mover

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Locked:
    """A store whose locks are ours, and which devices of it are up; nothing of it is open for writing yet.

    failed  those that could not be written to already
    """

    folders: Folders
    failed: Mapping[DeviceId, DeviceFailed]


@dataclass(frozen=True, slots=True)
class Running:
    """A store that doors can be opened on. files: those that travel with the catalog, and with every image, from the
    next epoch on."""

    folders: Folders
    store: Store
    explainer: Explainer
    mover: Mover
    tiers: Tiers
    health: Health
    backup: Backup
    files: dict[str, str]

    @property
    def folder(self) -> Path:
        return self.folders.folder


@dataclass(frozen=True, slots=True)
class Parts:
    """A catalog and devices that are open, and nobody works on them. files: those that travel with the catalog;
    damaged: chains of it that were found so while it was opened, and why."""

    folders: Folders
    catalog: Catalog
    files: dict[str, str]
    fleet: Fleet
    damaged: Sequence[str] = ()


@asynccontextmanager
async def locked(folder: Path, *, untouched: bool = False) -> AsyncIterator[Locked]:
    """Hold all locks of the store in *folder*; they go last. *untouched*: no identity file is written.

    Raises: StoreInUse, DeviceRefused, DeviceFailed.
    """
    locks = Locks()
    try:
        found = await in_thread(_lock, folder, locks, untouched)
        try:
            yield found
        finally:
            await _let_go([device.shards.close for device in found.folders.attached.devices.values()])
    finally:
        await _let_go(locks.given_up())


async def _let_go(closes: Sequence[Callable[[], None]]) -> None:
    """Of a disk that hangs close(2) may hang too: what it keeps the kernel takes when the process ends."""
    with trio.move_on_after(CLOSE_WAIT_S, shield=True):
        await in_threads(closes)


def _lock(folder: Path, locks: Locks, untouched: bool) -> Locked:
    """A device that hangs is refused like one that is not there, and comes back as such a one does. Blocking."""
    silent: set[DeviceId] = set()
    identity = identity_of(folder, silent)
    facts, refused = look_at_devices(identity, silent)
    refused |= lock_all(locks, folder, facts)
    attached = attach_devices(identity, facts, refused)
    store = None if is_stand_in(folder) else look_at(folder)
    failed = {} if untouched else refresh_identities(identity, store, attached.facts, attached.read_only)
    leave_out(attached, failed)
    failed = {ident: error for ident, error in failed.items() if ident in attached.devices}
    return Locked(Folders(folder, store, identity, attached, locks), failed)


@asynccontextmanager
async def opened(found: Locked, settings: Settings) -> AsyncIterator[Running]:
    """Open catalog and volumes, and run the store until the block ends; what was committed is durable then.

    Raises: ConfigError, CatalogCorrupt, DeviceError, OSError while opening.
    """
    async with parts(found, settings) as opened_parts:
        catalog, fleet = opened_parts.catalog, opened_parts.fleet
        if fleet.refusal(HOT) is None and not catalog.read_only:
            await mend_all(opened_parts)
        folders = found.folders
        period_s = settings.scrub.period_days * 86400
        offsite = await in_thread(_offsite, folders, settings)
        opening = opened_store(
            folders.identity.store,
            catalog,
            HOT,
            fleet,
            folders=folders,
            scrub_period_s=period_s,
            offsite=offsite,
        )
        async with opening as store:
            tiers = Tiers(store, folders.folder, settings)
            land_by_hints(store, tiers)
            engine = tiers.made if len(tiers.prices) > 1 else None
            explainer = Explainer(store, folders.entry, folders.attached.refused, tiers.prices, engine)
            store.files.explainer = explainer
            store.imager.files = opened_parts.files
            backup = await _backup(folders, store, settings)
            mover, files = Mover(store), opened_parts.files
            yield Running(folders, store, explainer, mover, tiers, Health(fleet), backup, files)


@asynccontextmanager
async def parts(
    found: Locked, settings: Settings, *, doubted: bool = False, read_only: str = ""
) -> AsyncIterator[Parts]:
    """Open catalog and devices, and leave all as it is. *doubted*: the database is checked as a whole before it is
    used; *read_only*: why nothing is to be written.

    Raises: as `opened`.
    """
    folders = found.folders
    codes = _codes(folders, settings)
    booted, files = await _boot(folders, max(1, *(code.m for code in codes.values())), doubted, read_only)
    catalog = Catalog.among(booted)
    async with trio.open_nursery() as nursery:
        await nursery.start(catalog.serve)
        try:
            fleet = await _fleet(found, catalog, codes, booted.members, nursery)
            yield Parts(folders, catalog, files, fleet, tuple(booted.damaged.values()))
        finally:
            with trio.CancelScope(shield=True):
                await catalog.close()
                if booted.scratch is not None:
                    await in_thread(shutil.rmtree, booted.scratch, True)
            nursery.cancel_scope.cancel()


async def _backup(folders: Folders, store: Store, settings: Settings) -> Backup:
    """Where settings name a target, all owners keep what the log has: else a series would end with each command."""
    spool = None
    if settings.backup.to is not None:
        store.maintenance.keep_s = settings.backup.window_days * DAY_S
        if not store.catalog.read_only:
            spool = await in_thread(Spool, folders.folder / SPOOL_FOLDER, time.time_ns)
            store.catalog.aside.spool_to(spool)
    return Backup(store.id, store.catalog, folders.folder, settings.backup, spool, open_target)


def _offsite(folders: Folders, settings: Settings) -> Offsite | None:
    """Blocking."""
    if settings.cold is None:
        return None
    # What it takes to load is not waited for where there is no such tier.
    from stratumfs.owner.cold import open_cold

    there = folders.attached.facts
    places = [folders.folder, *(each.path for each in there.values())]
    away = [entry.path for entry in folders.identity.devices if entry.id not in there]
    return open_cold(folders.identity.store, settings.cold, places, settings, away)


def _codes(folders: Folders, settings: Settings) -> dict[str, Code]:
    """Of each tier of the settings. Raises: ConfigError where settings and devices differ."""
    source = folders.folder / SETTINGS_FILE
    count = Counter(entry.tier for entry in folders.identity.devices)
    for tier in count:
        if tier not in settings.tiers:
            raise ConfigError(f"{source}: [{tier}] is missing, but the store has devices of that tier")
    codes = {name: Code(tier.k, tier.m) for name, tier in settings.tiers.items()}
    for tier, code in codes.items():
        if count[tier] >= code.n:
            continue
        few = f"{source}: {tier}.k + m = {code.n}, but the store has {count[tier]} devices of it"
        if tier == HOT:
            raise ConfigError(few)
        # It was being added when something stopped that: asked again, the command goes on.
        _log.warning("tier_not_complete", reason=few)
    return codes


async def _boot(folders: Folders, m: int, doubted: bool, read_only: str) -> tuple[Booted, dict[str, str]]:
    """The catalog, at those places of the store that are there, and what travels with it.

    Raises: ConfigError, CatalogCorrupt, OSError.
    """
    seen = await survey(folders.places())
    choice = replace(seen.choice, why_not=seen.choice.why_not or read_only)
    seen = replace(seen, choice=choice, doubted=doubted)
    files = {**seen.manifest.files, **await in_thread(travelling_files, folders.folder)}
    return await boot(seen, listed(folders.identity), m, files, VERSION, MIGRATIONS), files


async def _fleet(
    found: Locked, catalog: Catalog, codes: Mapping[str, Code], members: Membership | None, nursery: trio.Nursery
) -> Fleet:
    """All devices of the store; those that failed before they were needed are struck.

    A device that fails as a place of the catalog is struck for its shards too, and the other way round.
    """
    attached = found.folders.attached
    absent = [
        Absent(entry.id, entry.tier, str(entry.path), attached.refused[entry.id])
        for entry in found.folders.identity.devices
        if entry.id in attached.refused
    ]

    async def epoch(device: DeviceId, reason: str) -> None:
        await catalog.strike(place_of(device), reason)

    ledger = StandingsLedger(catalog)
    said: dict[PlaceId, Named | None] = {}
    found.folders.admit = partial(_admit, catalog, members, said)

    def welcome(device: DeviceId) -> None:
        if members is not None:
            members.welcome(found.folders.place(device), said.pop(place_of(device), None))

    rows = await catalog.read(device_rows)
    fleet = Fleet(
        attached.devices,
        codes,
        ledger,
        rows=rows,
        absent=absent,
        draining=[ident for ident, _ in await catalog.read(drains)],
        epoch=epoch,
        welcome=welcome,
    )
    for ident, reason in attached.read_only.items():
        fleet.read_only(ident, reason)
    failed = dict(found.failed)
    if members is not None:
        await _leave_struck(catalog, rows)
        _strike_with_members(fleet, members, nursery)
        for ident in fleet.devices:
            if (why := members.struck.get(place_of(ident))) is not None:
                failed[ident] = DeviceFailed(why)
        await _strike(fleet, failed)
        await ledger.tell()
    else:
        for ident, error in failed.items():
            fleet.read_only(ident, str(error))  # it cannot be recorded, and nothing is written anyway
    return fleet


async def _leave_struck(catalog: Catalog, rows: Sequence[DeviceRow]) -> None:
    """What was struck stays struck over restarts: as a place of the catalog too, until it is welcomed again.

    Who they are is written in the catalog, and nobody is answered before this. If too few places are left, the catalog
    is read-only.
    """
    for row in rows:
        if DeviceState(row.state) in STRUCK:
            try:
                await catalog.strike(place_of(row.id), row.reason)
            except StoreReadOnly as error:
                _log.error("a device that was struck is a place of the catalog", reason=str(error))


def _admit(
    catalog: Catalog, members: Membership | None, said: dict[PlaceId, Named | None], place: IdentityPlace
) -> None:
    """See `folders.Admit`: as at an opening, a place that knows another history is not used, nor is its file written.

    What it says is kept in *said*: nobody may say for it that it knows only of the epoch that is in force now.
    """
    if members is None or place.id in members.places:
        return
    named = place.read_named()
    if named is not None:
        # In this order: what a file learns from us, we knew before.
        why_not = other_history(members.epoch, named, catalog.statistics().synced, place.label)
        if why_not:
            raise AnotherHistory(why_not, place.label)
    said[place.id] = named


def _strike_with_members(fleet: Fleet, members: Membership, nursery: trio.Nursery) -> None:
    def struck(place: PlaceId, reason: str) -> None:
        device = DeviceId(place)
        if device in fleet.devices:
            nursery.start_soon(_strike_logged, fleet, device, DeviceFailed(reason, fleet.devices[device].label))

    members.on_strike = struck


async def _strike_logged(fleet: Fleet, device: DeviceId, error: DeviceFailed) -> None:
    try:
        await fleet.strike(device, error)
    except StratumError as failure:
        _log.error("a strike could not be recorded", device=error.device, reason=str(failure))


async def mend_all(opened: Parts) -> None:
    """What a crash left, on the devices that are up; a device that stalls in it is struck as later."""
    catalog, fleet = opened.catalog, opened.fleet
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fleet.watch)
        up = {device.id: device for tier in fleet.codes for device in fleet.up(tier)}
        await _strike(fleet, await mend(opened.folders.identity.store, catalog, up))
        nursery.cancel_scope.cancel()


async def _strike(fleet: Fleet, failed: Mapping[DeviceId, DeviceFailed]) -> None:
    """If that leaves too few places, the catalog is read-only, and the store opens so."""
    for ident, error in failed.items():
        try:
            await fleet.strike(ident, error)
        except StoreReadOnly as failure:
            _log.error("a strike could not be recorded", device=error.device, reason=str(failure))
