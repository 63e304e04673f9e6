"""From what a user names to a store's folder: the folder itself, or any of its devices. Blocking."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

from stratumfs.devices.identity import STORE_FILE, Identity, has_identity, read_identity
from stratumfs.errors import ConfigError, DeviceRefused, NotFound
from stratumfs.ids import DeviceId
from stratumfs.owner.asking import ask
from stratumfs.owner.places import epoch_number, said_by_devices
from stratumfs.owner.stand_in import is_stand_in, make_anew

_ROOT_DEFAULT = Path("/var/lib/stratumfs")


def default_folder() -> Path:
    """Where the embedded store lies: /var/lib/stratumfs, of an ordinary user ``stratumfs`` in the XDG state folder."""
    if os.geteuid() == 0:
        return _ROOT_DEFAULT
    state = os.environ.get("XDG_STATE_HOME", "")
    # "All paths must be absolute; a relative one must be ignored" (XDG Base Directory Specification).
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "stratumfs"


def is_utf8(path: Path) -> bool:
    """Whether identity files can name it."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def is_store(folder: Path) -> bool:
    """Whether there is a store folder; False also where nothing is."""
    return os.path.lexists(folder / STORE_FILE)


def store_folder(named: Path) -> Path:
    """The folder, absolute and free of links, of the store that *named* or one of its devices is.

    Raises: NotFound, DeviceRefused, PermissionError: one line that says what is there instead.
    """
    path = Path(os.path.realpath(named))
    if not path.is_dir():
        raise NotFound(f"{named} {'is no directory' if path.exists() else 'does not exist'}")
    if not os.access(path, os.R_OK | os.X_OK):
        raise PermissionError(f"{path} belongs to another user: ask as that user or as root")
    if not is_utf8(path):
        raise ConfigError(f"{str(path)!r} is not UTF-8, and identity files name it: give it another name")
    if not has_identity(path):
        raise NotFound(f"{path} is neither a store nor a device of one; mkfs.stratumfs makes stores")
    found = read_identity(path)
    return path if found.own is None else _of_device(path, found)


def identity_of(folder: Path, silent: set[DeviceId] | None = None) -> Identity:
    """The identity in a store folder, its paths as they are now. *silent*: see `said_by_devices`.

    A store that was moved as a whole, devices inside its folder, is found where it is. Where a device knows of a later
    epoch, its list of devices counts: the folder was away, or full, when one of them was replaced.
    """
    silent = set() if silent is None else silent
    found = _seen_from(folder, read_identity(folder))
    if found.own is not None:
        raise DeviceRefused(f"{folder} is a device, not a store folder", str(folder))
    while True:
        newest = max(said_by_devices(found, silent).values(), key=epoch_number, default=found)
        if epoch_number(newest) <= epoch_number(found):
            return found
        found = replace(found, devices=_seen_from(folder, newest).devices, epoch_in_force=newest.epoch_in_force)


def _seen_from(folder: Path, identity: Identity) -> Identity:
    """*identity*, the store's folder being *folder*, which may have been moved with devices in it."""
    if is_stand_in(folder):
        return identity
    devices = tuple(replace(each, path=_rebased(each.path, identity.store_path, folder)) for each in identity.devices)
    return replace(identity, store_path=folder, devices=devices)


def _of_device(path: Path, device: Identity) -> Path:
    """Where the store of a device is now: as its identity file says, or around the device if all was moved; where it
    is lost, or hangs, a folder that stands in for it."""
    for folder in (device.store_path, *path.parents):
        if ask({folder: partial(_is_of, folder, device)})[folder] is True:
            return folder
    return make_anew(device)


def _is_of(folder: Path, device: Identity) -> bool:
    """Whether it is the store folder of that device's store. Raises: DeviceRefused if it cannot be read."""
    if not is_store(folder):
        return False
    found = read_identity(folder)
    return found.own is None and found.store == device.store


def _rebased(path: Path, before: Path, now: Path) -> Path:
    return now / path.relative_to(before) if before != now and path.is_relative_to(before) else path
