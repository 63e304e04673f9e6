"""Making a store: checks first, then every part of it, the store folder's identity file last.

That file makes the folder a store. Whatever fails before it is there takes away again what was made. Blocking.
"""

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from stratumfs import config
from stratumfs.catalog.chains import Form, Manifest, new_chain, wal_salt, write_manifest
from stratumfs.catalog.connection import WAL
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.epochs import Candidate, Epoch, Named, choose_members, first_epoch
from stratumfs.catalog.first import first_rows
from stratumfs.catalog.schema import TABLES, VERSION
from stratumfs.devices.check import LOCK_FILE, NOT_FOREIGN, check_new
from stratumfs.devices.folder import FolderFacts, look_at
from stratumfs.devices.identity import DEVICE_FILE, STORE_FILE, DeviceEntry, Identity, sync_folder, write_identity
from stratumfs.errors import ConfigError, DeviceRefused
from stratumfs.ids import STORE_PLACE, DeviceId, Disk, PlaceId, StoreId, random_id
from stratumfs.limits import CATALOG_PAGE_SIZE
from stratumfs.owner import credentials
from stratumfs.owner.locate import is_utf8
from stratumfs.owner.lock import Locks
from stratumfs.owner.messages import Credentials
from stratumfs.owner.places import CATALOG_FOLDER, COLD_KEY_FILE, listed, place_of, travelling_files, with_named
from stratumfs.volumes.survival import Shards, Survival, survival

DEVICES_FOLDER = "devices"
EMBEDDED_DEVICES = 6
EMBEDDED_K, EMBEDDED_M = config.EMBEDDED_K, config.EMBEDDED_M


@dataclass(frozen=True, slots=True)
class NewTier:
    """Devices of a tier that is to be, and the code of its volumes."""

    devices: Sequence[Path]
    k: int
    m: int


@dataclass(frozen=True, slots=True)
class Made:
    """A new store. survival: of all data, in whichever tier it comes to lie."""

    identity: Identity
    tiers: Mapping[str, config.Tier]
    survival: Survival
    cold: config.Cold | None = None


def make_store(
    store: Path,
    hot: Sequence[Path],
    k: int,
    m: int,
    keys: Credentials,
    warm: NewTier | None = None,
    cold: config.Cold | None = None,
) -> Made:
    """Make a store in *store* over the devices *hot*, coded k + m, those of a second tier, and a cold tier elsewhere.

    The cold tier's secret is what its key file holds, or the passphrase of the environment; one that is not there is
    made. Raises: ConfigError, DeviceRefused, DeviceFailed, StoreInUse, OSError; then nothing was changed.
    """
    tiers = {config.HOT: NewTier(hot, k, m)} | ({config.WARM: warm} if warm is not None else {})
    devices = [path for tier in tiers.values() for path in tier.devices]
    for path in (store, *devices):
        if not is_utf8(path):
            raise ConfigError(f"{str(path)!r} is not UTF-8, and identity files name it: choose another name")
    for name, tier in tiers.items():
        _check_tier(name, tier)
    check_new(store, devices)
    _check_store_folder(store, devices)
    locks = Locks()
    with _undone_on_error() as undo:
        if not store.exists():
            _make_folder(store, undo)
        undo.files += [folder / LOCK_FILE for folder in (store, *devices) if not (folder / LOCK_FILE).exists()]
        try:
            failed = locks.take_all(store, [(DeviceId(bytes([slot])), path) for slot, path in enumerate(devices)])
            for reason in failed.values():
                raise DeviceRefused(reason)
            # Once more under the locks: somebody may have been quicker.
            facts = check_new(store, devices)
            made = _fill(store, tiers, facts, keys, cold, undo)
        finally:
            locks.release()
    return made


def make_embedded(folder: Path, keys: Credentials) -> Made:
    """The default store: catalog and six devices side by side in *folder*.

    Only where neither exists: devices without their store folder never lead to a new store.
    Raises: as `make_store`.
    """
    devices = [folder / DEVICES_FOLDER / str(slot) for slot in range(EMBEDDED_DEVICES)]
    for path in (folder / CATALOG_FOLDER, folder / DEVICES_FOLDER):
        if path.exists():
            raise ConfigError(
                f"{path} exists, but {folder} is no store: what is left of one is not written over; move it away, or "
                f"name another place"
            )
    with _undone_on_error() as undo:
        # The parents of the default place are made too: nobody typed them, so nobody misspelt them.
        for path in [*reversed(folder.parents), folder, folder / DEVICES_FOLDER, *devices]:
            if not path.exists():
                _make_folder(path, undo)
        return make_store(folder, devices, EMBEDDED_K, EMBEDDED_M, keys)


def _check_tier(name: str, tier: NewTier) -> None:
    config.check_code(tier.k, tier.m, name)
    n = tier.k + tier.m
    if len(tier.devices) < n:
        raise ConfigError(
            f"{name}: k + m = {n} needs {n} devices, and {len(tier.devices)} are given: give more, or choose k and m"
        )


def _fill(
    store: Path,
    tiers: Mapping[str, NewTier],
    facts: Sequence[FolderFacts],
    keys: Credentials,
    cold: config.Cold | None,
    undo: "_Undo",
) -> Made:
    slots = [(name, slot) for name, tier in tiers.items() for slot in range(len(tier.devices))]
    entries = tuple(
        DeviceEntry(DeviceId(random_id()), tier, slot, each.path, each.mount_point, each.st_dev, each.fs_uuid)
        for (tier, slot), each in zip(slots, facts, strict=True)
    )
    own = look_at(store)
    identity = Identity(StoreId(random_id()), own.path, entries, store_mount_point=own.mount_point)
    # One member, for there is nothing to lose yet: the first opening makes the copies.
    epoch = first_epoch([STORE_PLACE], listed(identity))
    identity = with_named(identity, Named(epoch, epoch))
    for entry in entries:
        undo.files.append(entry.path / DEVICE_FILE)
        write_identity(entry.path, identity.of_device(entry.id))
    undo.files += [store / config.SETTINGS_FILE, store / credentials.CREDENTIALS_FILE, store / STORE_FILE]
    settings = {name: config.Tier(tier.k, tier.m) for name, tier in tiers.items()}
    if cold is not None:
        from stratumfs.owner.cold import begin_cold  # what it loads is not waited for where there is no such tier

        folders = [store, *(entry.path for entry in entries)]
        undo.files += [folder / COLD_KEY_FILE for folder in folders]
        undo.files += begin_cold(identity.store, cold, folders)
    _write_settings(store, settings, cold)
    credentials.write(store, keys)
    undo.trees.append(store / CATALOG_FOLDER)
    _make_catalog(store, epoch)
    sync_folder(store)  # the next file makes it a store: a power cut must not leave it without the others
    write_identity(store, identity)
    volumes = [_first_volume(entries, name, tier) for name, tier in settings.items()]
    catalog = _catalog_disks(own, entries, max(tier.m for tier in settings.values()))
    return Made(identity, settings, survival(volumes, catalog), cold)


def _first_volume(entries: Sequence[DeviceEntry], name: str, tier: config.Tier) -> Shards:
    disks = [entry.st_dev for entry in entries if entry.tier == name]
    return Shards(tier.k, tuple(disks[: tier.k + tier.m]))


def _catalog_disks(store: FolderFacts, entries: Sequence[DeviceEntry], m: int) -> list[Disk]:
    """Of those who will hold the catalog once it is opened."""
    disks: dict[PlaceId, Disk] = {place_of(entry.id): entry.st_dev for entry in entries}
    keep = [Candidate(STORE_PLACE, store.st_dev)]
    members = choose_members(keep, [Candidate(*each) for each in disks.items()], max(m, 1) + 2)
    return [disks.get(each, store.st_dev) for each in members]


def _make_catalog(store: Path, epoch: Epoch) -> None:
    folder = new_chain(store / CATALOG_FOLDER)
    schema = (*TABLES, *first_rows(os.geteuid(), os.getegid(), time.time_ns()))
    Catalog.create(folder, schema, VERSION, page_size=CATALOG_PAGE_SIZE)
    salt = wal_salt(folder / WAL)
    assert salt is not None
    write_manifest(store / CATALOG_FOLDER, Manifest(epoch, folder.name, Form.DATABASE, salt, travelling_files(store)))


def _make_folder(path: Path, undo: "_Undo") -> None:
    path.mkdir(mode=0o700)
    undo.folders.append(path)
    sync_folder(path.parent)


def _write_settings(store: Path, tiers: Mapping[str, config.Tier], cold: config.Cold | None) -> None:
    path = store / config.SETTINGS_FILE
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(config.render(tiers, cold))
        stream.flush()
        os.fsync(stream.fileno())


def _check_store_folder(store: Path, devices: Sequence[Path]) -> None:
    """An empty folder, or none yet; what leads to the devices may lie in it."""
    if not store.exists():
        if not store.parent.is_dir():
            raise ConfigError(f"{store.parent} does not exist: `mkdir -p {store.parent}` makes it")
        return
    if not store.is_dir():
        raise ConfigError(f"{store} is no directory")
    inside = store.resolve()
    leading = {path.relative_to(inside).parts[0] for path in map(Path.resolve, devices) if path.is_relative_to(inside)}
    foreign = sorted(each.name for each in store.iterdir() if each.name not in NOT_FOREIGN | leading)
    if foreign:
        raise DeviceRefused(f"{store} is not empty (it holds {foreign[0]!r}): give an empty folder", str(store))


@dataclass(slots=True)
class _Undo:
    """What to take away if the rest fails; files and trees first, folders only if they are empty then."""

    files: list[Path] = field(default_factory=list)
    trees: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)


@contextmanager
def _undone_on_error() -> Iterator[_Undo]:
    undo = _Undo()
    try:
        yield undo
    except BaseException:
        for path in undo.files:
            with suppress(OSError):
                path.unlink()
        for path in undo.trees:
            shutil.rmtree(path, ignore_errors=True)
        for path in reversed(undo.folders):
            with suppress(OSError):
                path.rmdir()
        raise
