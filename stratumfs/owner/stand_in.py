"""A store folder for one that is lost: made anew where it was, or on a device as long as that cannot be.

What it needs besides the catalog travels with every copy of that: settings and credentials, and in each identity file
the list of devices. Blocking.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from stratumfs.devices.folder import look_at
from stratumfs.devices.identity import (
    STORE_FILE,
    Identity,
    IdentityDamaged,
    read_identity,
    set_aside,
    sync_folder,
    write_identity,
)
from stratumfs.errors import DeviceFailed, DeviceRefused, StratumError
from stratumfs.owner.asking import ask
from stratumfs.owner.places import CATALOG_FOLDER, TRAVELLING, epoch_number, said_by_devices

STAND_IN = "stand-in"
"""Below a device: what a store folder has, while the store folder cannot be used."""


def is_stand_in(folder: Path) -> bool:
    return folder.name == STAND_IN


def make_anew(device: Identity) -> Path:
    """The folder to open the store by that *device* says it belongs to, and whose own folder is lost.

    Raises: DeviceRefused if none can be made.
    """
    identities = said_by_devices(device)
    if not identities:
        raise DeviceRefused("no device of the store is there", str(device.store_path))
    newest = max(identities.values(), key=epoch_number)
    files = _files([*identities])
    if files is None:
        raise DeviceRefused(
            f"the store folder {newest.store_path} is lost or not mounted, and no device that is there has a copy of "
            "the catalog: mount it, or attach more devices",
            str(newest.store_path),
        )
    problems = []
    for folder, mount_point in (
        (newest.store_path, newest.store_mount_point),
        *((path / STAND_IN, False) for path in identities),
    ):
        problem = ask({folder: partial(_make, folder, mount_point, newest, files)})[folder]
        if problem is None:
            return folder
        problems.append(f"{folder}: {problem}")
    raise DeviceRefused(
        f"the store folder {newest.store_path} is lost, and no other can be made: {'; '.join(problems)}",
        str(newest.store_path),
    )


def _files(devices: Sequence[Path]) -> Mapping[str, str] | None:
    """What travels with the newest copy of the catalog; None if there is no copy."""
    from stratumfs.catalog.chains import read_manifest  # SQLite, which commands do not need otherwise

    manifests = []
    for device in devices:
        with suppress(StratumError, OSError):
            if (manifest := read_manifest(device / CATALOG_FOLDER)) is not None:
                manifests.append(manifest)
    newest = max(manifests, key=lambda manifest: manifest.epoch.number, default=None)
    return newest.files if newest is not None else None


def _make(folder: Path, mount_point: bool, identity: Identity, files: Mapping[str, str]) -> None:
    """Raises: DeviceError."""
    try:
        make_store_folder(folder, mount_point, identity, files)
    except OSError as error:
        raise DeviceFailed(str(error), str(folder)) from error


def make_store_folder(folder: Path, mount_point: bool, identity: Identity, files: Mapping[str, str]) -> None:
    """Raises: DeviceError, also if *files* has others than `TRAVELLING`: who said them may be far away; OSError."""
    if others := sorted(files.keys() - set(TRAVELLING)):
        raise DeviceRefused(f"what would be written into {folder} is no file of a store: {others[0]!r}", str(folder))
    if mount_point and not look_at(folder).mount_point:
        raise DeviceRefused(f"{folder} was a mount point and is none now", str(folder))
    if not folder.exists():
        folder.mkdir(mode=0o700)
        sync_folder(folder.parent)
    named = _is_named(folder, identity)
    for name, text in files.items():
        _write_missing(folder / name, text)
    sync_folder(folder)  # the next file makes it a store folder
    if not named:
        # It has no word in which epoch is in force: more than half of the others must have it.
        write_identity(folder, identity.of_store().without_epochs())


def _is_named(folder: Path, identity: Identity) -> bool:
    """Whether the folder has an identity file of this store; one that nobody can read any more is set aside.

    Raises: DeviceRefused if it is another store's folder, or says something that only a newer program can read.
    """
    if not os.path.lexists(folder / STORE_FILE):
        return False
    try:
        found = read_identity(folder)
    except IdentityDamaged as error:
        import structlog  # as long to import as all else of a command, which needs it nowhere else

        structlog.get_logger(__name__).warning("identity_set_aside", reason=str(error), aside=str(set_aside(folder)))
        return False
    if (found.store, found.own) != (identity.store, None):
        raise DeviceRefused(f"{folder} belongs to another store ({found.store.hex()})", str(folder))
    return True


def _write_missing(path: Path, text: str) -> None:
    """What has the name is whole, for nobody writes it again."""
    if os.path.lexists(path):
        return
    temporary = path.with_name(f"{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
