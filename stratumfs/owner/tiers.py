"""Tiers of a store that lives: a cold one is added, or claimed from a copy of the store."""

import os
from pathlib import Path
from typing import Any

import structlog

from stratumfs import config
from stratumfs.config import COLD, SETTINGS_FILE, Cold
from stratumfs.devices.identity import sync_folder
from stratumfs.errors import ConfigError, NotFound
from stratumfs.owner.cold import begin_cold, open_cold
from stratumfs.owner.messages import AddCold, ClaimCold, TierChange
from stratumfs.owner.places import listed, travelling_files
from stratumfs.owner.wire import Running
from stratumfs.store.remote_tier import Offsite
from stratumfs.threads import in_thread

_log = structlog.get_logger(__name__)


async def change_tiers(running: Running, request: TierChange) -> dict[str, Any]:
    """Carry it out. Raises: ConfigError, NotFound, DeviceError, StoreReadOnly, OSError."""
    match request:
        case AddCold():
            return await _add(running, request)
        case ClaimCold():
            return await _claim(running)


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
    _log.info("cold_tier_added", at=cold.to)
    return {"tier": COLD, "at": cold.to, "key_file": cold.key_file}


async def _claim(running: Running) -> dict[str, Any]:
    remote = running.store.remotes.get(COLD)
    if remote is None:
        raise NotFound("this store has no cold tier")
    await remote.claim.check(take=True)
    _log.warning("cold_tier_claimed", at=remote.label)
    return {"tier": COLD, "at": remote.label}


def _make(running: Running, cold: Cold) -> Offsite:
    """The settings last: they make it one. Blocking."""
    folders, store = running.folders, running.store.id
    places = [folders.folder, *(facts.path for facts in folders.attached.facts.values())]
    begin_cold(store, cold, places)
    offsite = open_cold(store, cold, places)
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
