"""What an owner opens the cold tier with: the service, and the key."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog
from blake3 import blake3

from stratumfs.config import COLD, Cold, OverBudget, Settings, Verify
from stratumfs.devices.folder import look_at
from stratumfs.errors import ConfigError
from stratumfs.ids import StoreId, VolumeId
from stratumfs.limits import REMOTE_SILENCE_S
from stratumfs.owner.cold_key import make_key, make_secret, open_key, read_secret, write_secret, write_wrapped
from stratumfs.owner.cold_rotation import open_rotated
from stratumfs.owner.places import COLD_KEY_FILE
from stratumfs.shards.budget import RecallBudget
from stratumfs.shards.remote import Patience, Remote, S3Remote
from stratumfs.shards.remote_shards import RemoteShards, folder
from stratumfs.shards.s3 import Keys, keys_from
from stratumfs.store.remote_tier import Offsite
from tiering.costs import price_list
from tiering.dead import gain_usd
from tiering.prices import DAY_S, GB

_MACHINE_ID = Path("/etc/machine-id")
_CONTEXT = "stratumfs 2026 place of a store"

_log = structlog.get_logger(__name__)


def open_cold(
    store: StoreId, cold: Cold, folders: Sequence[Path], settings: Settings, away: Sequence[Path] | None = None
) -> Offsite:
    """For a store whose identity file lies in each of *folders*. Blocking; asks the service nothing.

    Without its key the store opens, and the cold tier is locked. *away*: folders of devices that are not there,
    if somebody knows.
    """
    remote, places = open_remote(cold), places_of(folders)
    (price,) = price_list({COLD: cold}, 0.0).tiers
    gain = partial(gain_usd, price, payback_days=settings.tiering.payback_days)
    if (open_to := _open_to_others(cold)) is not None:  # a store that lives is not kept from its data by that
        _log.warning("cold_credentials_open", reason=open_to)
    key, locked = None, None
    try:
        path = None if cold.key_file is None else Path(cold.key_file)
        key = open_rotated(folders, away, store, path)
    except ConfigError as error:
        _log.error("cold_tier_locked", reason=str(error))
        locked = str(error)
    reread_s = settings.scrub.cold_days * DAY_S
    budget = RecallBudget(
        cold.recall_bytes_day,
        cold.recall_usd_day,
        usd_get=price.usd_get,
        usd_byte=price.usd_read_gb / GB,
        waits=cold.over_budget is OverBudget.WAIT,
    )
    clean_s = cold.keep_days * DAY_S
    return Offsite(COLD, remote, key, locked, cold.deadline_s, places, gain, reread_s, budget, clean_s)


def places_of(folders: Sequence[Path]) -> frozenset[str]:
    """See `Offsite`. Hashed, for what names a machine is told to nobody. Blocking. Raises: DeviceRefused."""
    try:
        machine = _MACHINE_ID.read_text("utf-8").strip()
    except OSError:
        machine = ""  # as in a container: the folders have to do
    found = set()
    for each in map(look_at, folders):
        told = "\0".join((machine, str(each.path), each.fs_uuid or ""))
        found.add(blake3(told.encode(errors="surrogateescape"), derive_key_context=_CONTEXT).hexdigest(16))
    return frozenset(found)


def look_in_cold(store: StoreId, cold: Cold, folders: Sequence[Path]) -> tuple[RemoteShards, list[VolumeId]]:
    """What lies there by the word of the objects themselves. Blocking: a request for each volume.

    Raises: ConfigError for want of the key; DeviceError.
    """
    path = None if cold.key_file is None else Path(cold.key_file)
    shards = RemoteShards(open_remote(cold), open_rotated(folders, None, store, path), store)
    return shards, list(shards.volumes())


def open_remote(cold: Cold) -> Remote:
    """Connects at the first use."""
    keys = partial(keys_from, Path(cold.credentials), "cold.credentials") if cold.credentials is not None else _none
    patience = Patience(silence_s=min(REMOTE_SILENCE_S, cold.deadline_s), verb_s=cold.deadline_s)
    return S3Remote(cold.to, cold.endpoint, keys, read_back=cold.verify is Verify.READ, patience=patience)


def begin_cold(store: StoreId, cold: Cold, folders: Sequence[Path]) -> list[Path]:
    """Make the key of a cold tier that is to be, wrapped, in each of *folders*, and the secret, if it is not there; and
    see whether the service takes what is put there. What an earlier try has made is used. Returns what was made.

    Blocking. Raises: ConfigError, DeviceError, OSError.
    """
    if (open_to := _open_to_others(cold)) is not None:
        raise ConfigError(open_to)
    _try_remote(open_remote(cold), store)
    made: list[Path] = []
    path = Path(cold.key_file) if cold.key_file is not None else None
    if path is not None and not path.exists():
        write_secret(path, make_secret())
        made.append(path)
    secret = read_secret(path, os.environ)
    if any((each / COLD_KEY_FILE).exists() for each in folders):
        open_key(folders, store, secret)
        return made
    key = make_key(store, secret)
    for each in folders:
        write_wrapped(each, key)
        made.append(each / COLD_KEY_FILE)
    return made


def _open_to_others(cold: Cold) -> str | None:
    """Of the file of credentials, if others may read it; that it is not there, who uses it says. Blocking."""
    path = cold.credentials
    try:
        mode = os.stat(path).st_mode if path is not None else 0
    except OSError:
        return None
    return f"cold.credentials: {path} can be read by others: `chmod 600 {path}`" if mode & 0o077 else None


def _try_remote(remote: Remote, store: StoreId) -> None:
    """Whether it takes an object, gives it back and lets it go. Blocking. Raises: DeviceError."""
    name = f"{folder(store)}probe"
    remote.put(name, store)
    remote.delete(name)


def _none() -> Keys | None:
    """Those that boto3 finds."""
    return None
