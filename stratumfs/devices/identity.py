"""Who a device or a store folder is: a small JSON file in each, replaced whole.

Each names all devices of the store and where they last were, so that a store is found from its folder or from any
device.
"""

import itertools
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from stratumfs.errors import DeviceRefused, of_device
from stratumfs.ids import DeviceId, StoreId

IDENTITY_FORMAT = 3
_FORMATS = (1, 2, IDENTITY_FORMAT)
"""1 knew no images, 2 no standings."""
DEVICE_FILE = "stratumfs-device.json"
STORE_FILE = "identity.json"
_ID_SIZE = 16


class IdentityDamaged(DeviceRefused):
    """There is an identity file, and what it holds is none: bits flipped, or it was cut."""


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """One device, as it was when the store was made or it was added.

    slot         number within its tier, from 0
    path         where it last was
    mount_point  whether it was a file system's root: then it must be one to be used
    st_dev       of the file system it was on; numbers change between boots, so it informs, and proves nothing
    fs_uuid      of that file system, where it has one that we can see
    """

    id: DeviceId
    tier: str
    slot: int
    path: Path
    mount_point: bool
    st_dev: int
    fs_uuid: str | None


@dataclass(frozen=True, slots=True)
class Identity:
    """What an identity file says.

    own          the device that it lies on; None in the store folder
    epoch_begun, epoch_in_force
                 the newest epoch of the catalog that was begun, and the last that was in force, as this file knows;
                 see ``stratumfs.catalog.epochs``
    sequence     some transaction of the catalog that is safe on all members of the epoch in force
    images       the newest namespace images, as ``stratumfs.catalog.epochs`` packs them
    standings    of devices, as ``stratumfs.catalog.standings`` packs them; None where nobody has written any
    store_mount_point
                 whether the store folder was a file system's root
    """

    store: StoreId
    store_path: Path
    devices: tuple[DeviceEntry, ...]
    own: DeviceEntry | None = None
    epoch_begun: dict[str, Any] | None = None
    epoch_in_force: dict[str, Any] | None = None
    sequence: int = 0
    store_mount_point: bool = False
    images: tuple[dict[str, Any], ...] = ()
    standings: dict[str, Any] | None = None

    def of_device(self, device: DeviceId) -> "Identity":
        """The same, for the identity file of *device*. Raises: KeyError if it is none of the store's."""
        for entry in self.devices:
            if entry.id == device:
                return replace(self, own=entry)
        raise KeyError(device.hex())

    def of_store(self) -> "Identity":
        """The same, for the identity file of the store folder."""
        return replace(self, own=None)

    def without_epochs(self) -> "Identity":
        """The same, for a file that is new: what another place knows of epochs is that one's word, and a new place
        that repeated it would count as a second witness of it."""
        return replace(self, epoch_begun=None, epoch_in_force=None, sequence=0)


class _Device(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    tier: str
    slot: int
    path: str
    mount_point: bool
    st_dev: int
    fs_uuid: str | None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    store: str
    store_path: str
    device: _Device | None
    devices: list[_Device]
    epoch_begun: dict[str, Any] | None
    epoch_in_force: dict[str, Any] | None
    sequence: int
    store_mount_point: bool
    images: list[dict[str, Any]] = []
    standings: dict[str, Any] | None = None


class _Format(msgspec.Struct):
    format: int


def write_identity(folder: Path, identity: Identity) -> None:
    """Replace the identity file in *folder*; durable when it returns. Blocking.

    Raises: DeviceFull, DeviceFailed, DeviceUnasked; then the old file is whole.
    """
    name = STORE_FILE if identity.own is None else DEVICE_FILE
    temporary = folder / f"{name}.new"
    try:
        _write_synced(temporary, _encode(identity))
        temporary.replace(folder / name)
        sync_folder(folder)
    except OSError as error:
        raise of_device(error, f"cannot write {folder / name}: {error.strerror}", str(folder)) from error


def read_identity(folder: Path) -> Identity:
    """The identity of *folder*, a device or a store folder. Blocking.

    Raises: DeviceRefused, saying what it is instead; IdentityDamaged if its text is no identity; DeviceUnasked.
    """
    for name in (STORE_FILE, DEVICE_FILE):
        path = folder / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        except OSError as error:
            message = f"cannot read {path}: {error.strerror}"
            raise of_device(error, message, str(folder), otherwise=DeviceRefused) from error
        return _decode(path, data)
    raise DeviceRefused(f"{folder} is neither a store nor a device of one: it has no identity file", str(folder))


def set_aside(folder: Path) -> Path:
    """Take its name from the identity file of a store folder, which is damaged and may still be looked into. Blocking.

    Returns what it is called now. Raises: OSError.
    """
    for number in itertools.count():
        aside = folder / f"{STORE_FILE}.damaged-{number}"
        if not os.path.lexists(aside):
            (folder / STORE_FILE).rename(aside)
            sync_folder(folder)
            break
    return aside


def retire_identity(folder: Path) -> None:
    """Take its name from the identity file of a device that leaves its store. Blocking. Raises: DeviceError."""
    try:
        (folder / DEVICE_FILE).replace(folder / f"{DEVICE_FILE}.removed")
        sync_folder(folder)
    except OSError as error:
        raise of_device(error, f"cannot rename {folder / DEVICE_FILE}: {error.strerror}", str(folder)) from error


def has_identity(folder: Path) -> bool:
    """Whether *folder* has an identity file of either kind. Blocking."""
    return any(os.path.lexists(folder / name) for name in (STORE_FILE, DEVICE_FILE))


def sync_folder(folder: Path) -> None:
    """Return when the names in *folder* are on stable storage. Blocking. Raises: OSError."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _encode(identity: Identity) -> bytes:
    file = _File(
        IDENTITY_FORMAT,
        identity.store.hex(),
        str(identity.store_path),
        None if identity.own is None else _pack(identity.own),
        [_pack(entry) for entry in identity.devices],
        identity.epoch_begun,
        identity.epoch_in_force,
        identity.sequence,
        identity.store_mount_point,
        [*identity.images],
        identity.standings,
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def _decode(path: Path, data: bytes) -> Identity:
    try:
        version = msgspec.json.decode(data, type=_Format).format
        if version not in _FORMATS:
            message = f"{path} has format {version}, this version knows {IDENTITY_FORMAT}: use a newer stratumfs"
            raise DeviceRefused(message, str(path.parent))
        file = msgspec.json.decode(data, type=_File)
        return Identity(
            StoreId(_parse_id(file.store)),
            Path(file.store_path),
            tuple(_unpack(entry) for entry in file.devices),
            None if file.device is None else _unpack(file.device),
            file.epoch_begun,
            file.epoch_in_force,
            file.sequence,
            file.store_mount_point,
            tuple(file.images),
            file.standings,
        )
    except (msgspec.DecodeError, ValueError) as error:
        advice = "name a device of the store instead" if path.name == STORE_FILE else "replace this device"
        raise IdentityDamaged(f"{path} is damaged ({error}): {advice}", str(path.parent)) from error


def _pack(entry: DeviceEntry) -> _Device:
    return _Device(
        entry.id.hex(), entry.tier, entry.slot, str(entry.path), entry.mount_point, entry.st_dev, entry.fs_uuid
    )


def _unpack(entry: _Device) -> DeviceEntry:
    return DeviceEntry(
        DeviceId(_parse_id(entry.id)),
        entry.tier,
        entry.slot,
        Path(entry.path),
        entry.mount_point,
        entry.st_dev,
        entry.fs_uuid,
    )


def _parse_id(text: str) -> bytes:
    ident = bytes.fromhex(text)
    if len(ident) != _ID_SIZE:
        raise ValueError(f"an id of {len(ident)} bytes")
    return ident


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
