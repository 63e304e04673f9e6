"""Tiers of a store that lives: a warm or a cold one is added, or the cold one claimed from a copy of the store."""

import os
from pathlib import Path
from typing import Any

import structlog

from stratumfs import config
from stratumfs.config import COLD, SETTINGS_FILE, WARM, Cold
from stratumfs.devices.identity import sync_folder
from stratumfs.erasure.code import Code
from stratumfs.errors import ConfigError, NotFound
from stratumfs.owner.add import add_device, plan
from stratumfs.owner.cold import begin_cold, open_cold
from stratumfs.owner.cold_rotation import next_secret, rotate
from stratumfs.owner.exchange import in_time, is_used_up
from stratumfs.owner.messages import AddCold, AddDevice, AddWarm, ClaimCold, RotateCold, TierChange
from stratumfs.owner.places import listed, travelling_files
from stratumfs.owner.tier_engine import land_by_hints
from stratumfs.owner.wire import Running
from stratumfs.store.remote_tier import Offsite
from stratumfs.store.space import SPACE_FIRST_S
from stratumfs.threads import in_thread

_log = structlog.get_logger(__name__)


async def change_tiers(running: Running, request: TierChange) -> dict[str, Any]:
    """Carry it out. Raises: ConfigError, NotFound, DeviceError, StoreReadOnly, OSError."""
    match request:
        case AddCold():
            return await _add(running, request)
        case AddWarm():
            return await _add_warm(running, request)
        case ClaimCold():
            return await _claim(running)
        case RotateCold():
            return await _rotate(running, request)


async def _add(running: Running, request: AddCold) -> dict[str, Any]:
    if COLD in running.store.remotes:
        raise ConfigError(f"this store has a cold tier already: {running.store.remotes[COLD].label}")
    cold = Cold(request.to, request.endpoint, request.credentials, request.key_file)
    config.check_cold(cold)
    running.store.writer.check_writable()
    offsite = await in_thread(_make, running, cold)
    # Whoever loses the store folder now finds the tier: the manifests say it before anything lies there.
    running.files.update(await in_thread(travelling_files, running.folder))
    async with running.folders.turn:
        await running.store.catalog.change_places(listed(running.folders.identity), None)
    running.store.add_remote(offsite)
    land_by_hints(running.store, running.tiers)
    await _tell_engine(running)
    _log.info("cold_tier_added", at=cold.to)
    return {"tier": COLD, "at": cold.to, "key_file": cold.key_file}


async def _add_warm(running: Running, request: AddWarm) -> dict[str, Any]:
    """The settings first, then one device after the other: a stop on the way leaves a tier that takes nothing, or less,
    and asked again it goes on. All folders are looked at before anything is changed."""
    store, folders, code = running.store, running.folders, Code(request.k, request.m)
    paths = [Path(each) for each in request.devices]
    config.check_code(code.k, code.m, WARM)
    listed_already = {each.path for each in folders.identity.devices if each.tier == WARM}
    begun = store.fleet.codes.get(WARM)
    if begun is not None and (begun != code or len(listed_already) >= code.n):
        raise ConfigError("this store has a warm tier already: `stratumfs device add` gives it another device")
    if len({*paths, *listed_already}) < code.n or len(set(paths)) < len(paths):
        raise ConfigError(f"k + m = {code.n} needs {code.n} folders: give more, each once, or choose k and m")
    store.writer.check_writable()
    warnings = []
    for path in paths:
        asked = AddDevice(WARM, str(path))
        found = await in_time(folders, path, plan, folders, asked, await is_used_up(running, path))
        warnings += [found.warning] if found.warning else []
    if begun is None:
        await in_thread(_append_settings, folders.folder, config.render_tier(WARM, config.Tier(k=code.k, m=code.m)))
        running.files.update(await in_thread(travelling_files, running.folder))
        await store.add_tier(WARM, code)
        land_by_hints(store, running.tiers)
    for path in paths:
        found_device = await add_device(running, AddDevice(WARM, str(path)))
        if found_device["warning"]:
            warnings.append(found_device["warning"])
    await store.writers[WARM].space.refresh(SPACE_FIRST_S)
    await _tell_engine(running)
    _log.info("warm_tier_added", devices=[str(path) for path in paths], k=code.k, m=code.m)
    devices = [str(each.path) for each in folders.identity.devices if each.tier == WARM]
    return {"tier": WARM, "devices": devices, "k": code.k, "m": code.m, "warnings": sorted(set(warnings))}


async def _tell_engine(running: Running) -> None:
    """Raises: ConfigError."""
    await running.tiers.grow(await in_thread(config.load, running.folder / SETTINGS_FILE))
    running.explainer.learn(running.tiers.prices, running.tiers.made)


async def _claim(running: Running) -> dict[str, Any]:
    remote = running.store.remotes.get(COLD)
    if remote is None:
        raise NotFound("this store has no cold tier")
    await remote.claim.check(take=True)
    _log.warning("cold_tier_claimed", at=remote.label)
    return {"tier": COLD, "at": remote.label}


async def _rotate(running: Running, request: RotateCold) -> dict[str, Any]:
    remote, folders = running.store.remotes.get(COLD), running.folders
    if remote is None:
        raise NotFound("this store has no cold tier")
    if remote.offsite.locked is not None:
        raise ConfigError(remote.offsite.locked)
    running.store.writer.check_writable()
    cold = (await in_thread(config.load, running.folder / SETTINGS_FILE)).cold
    if cold is None:
        raise NotFound("the settings have no cold tier any more")
    key_file = None if cold.key_file is None else Path(cold.key_file)
    async with (
        folders.turn
    ):  # a device that came meanwhile would have the old wrapping, and two secrets be the next one
        entries = {entry.id: entry.path for entry in folders.identity.devices}
        up = [entries[each.id] for each in running.store.devices.values() if each.struck is None]
        away = [path for path in entries.values() if path not in up]
        left = await in_thread(rotate, [folders.folder, *up], away, running.store.id, key_file, request.passphrase)
        # Copies of the catalog, and images, have the small files of the store folder too.
        running.files.update(await in_thread(travelling_files, running.folder))
        await running.store.catalog.change_places(listed(folders.identity), None)
    running.store.imager.wanted = True
    _log.warning("cold_secret_rotated", left=[str(each) for each in left])
    newest = key_file if key_file is None or not left else next_secret(key_file)
    return {"tier": COLD, "key_file": newest and str(newest), "left": [str(each) for each in left]}


def _make(running: Running, cold: Cold) -> Offsite:
    """The settings last: they make it one. Blocking."""
    folders, store = running.folders, running.store.id
    places = [folders.folder, *(facts.path for facts in folders.attached.facts.values())]
    begin_cold(store, cold, places)
    offsite = open_cold(store, cold, places, config.load(folders.folder / SETTINGS_FILE))
    if offsite.locked is not None:
        raise ConfigError(offsite.locked)
    _append_settings(folders.folder, config.render_cold(cold))
    return offsite


def _append_settings(folder: Path, text: str) -> None:
    """Replaced as a whole: a power cut must not leave a store without its settings. Raises: ConfigError, OSError."""
    path = folder / SETTINGS_FILE
    whole = path.read_text("utf-8").rstrip("\n") + "\n" + text
    config.parse(whole, str(path))  # it may have been edited since it was read
    temporary = path.with_name(f"{SETTINGS_FILE}.new")
    with temporary.open("w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
        file.write(whole)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(folder)
