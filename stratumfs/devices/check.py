"""Which folders may become devices, and which device may be used. Each refusal is one line that says what to do.

All of it blocks.
"""

from collections.abc import Container, Sequence
from pathlib import Path

from stratumfs.devices.folder import FolderFacts, look_at
from stratumfs.devices.identity import DEVICE_FILE, DeviceEntry, Identity, has_identity, read_identity
from stratumfs.errors import DeviceRefused
from stratumfs.ids import StoreId

LOCK_FILE = "lock"
"""Locked by the owner while it uses a device; here because a folder that holds nothing else is still empty."""
NOT_FOREIGN = frozenset({LOCK_FILE, "lost+found"})
BEGUN = (f"{DEVICE_FILE}.new",)
"""What a stop leaves of a folder that was about to become a device: it is still empty for who goes on with that."""


def check_new(store: Path, devices: Sequence[Path]) -> list[FolderFacts]:
    """The facts of all *devices*, if a store in *store* can be made of them; changes nothing.

    A device may lie in the store folder, never the other way round, and never in another device.

    Raises: DeviceRefused.
    """
    facts = [look_at(device) for device in devices]
    check_distinct(facts)
    if has_identity(store):
        raise DeviceRefused(f"{store} is a store already", str(store))
    inside = store.resolve()
    for each in facts:
        if inside == each.path or inside.is_relative_to(each.path):
            raise DeviceRefused(
                f"the store folder {store} lies in device {each.path}: put it elsewhere", str(each.path)
            )
        check_empty(each.path)
    return facts


def check_distinct(facts: Sequence[FolderFacts]) -> None:
    """Refuse two devices that are one folder (by whatever path or bind mount), or lie one in the other.

    Raises: DeviceRefused.
    """
    seen: dict[tuple[int, int], Path] = {}
    for each in facts:
        other = seen.setdefault((each.st_dev, each.st_ino), each.path)
        if other is not each.path:
            raise DeviceRefused(f"devices {other} and {each.path} are one folder: give each its own", str(each.path))
    for each in facts:
        around = [other.path for other in facts if other is not each and each.path.is_relative_to(other.path)]
        if around:
            message = f"device {each.path} lies in device {around[0]}: give each a folder of its own"
            raise DeviceRefused(message, str(each.path))


def check_device(store: StoreId, entry: DeviceEntry, path: Path | None = None) -> FolderFacts:
    """The facts of the device *entry* at *path* (where it last was), if it is there and itself.

    An unmounted disk's empty mount point is a device that failed, never a new one.

    Raises: DeviceRefused.
    """
    facts = look_at(entry.path if path is None else path)
    if entry.mount_point and not facts.mount_point:
        message = f"{facts.path} was a mount point and is none now: mount the disk of device {entry.slot} there"
        raise DeviceRefused(message, str(facts.path))
    if not has_identity(facts.path):
        message = (
            f"{facts.path} was device {entry.slot} of tier {entry.tier} and has lost its identity file: "
            "its contents are gone, or another disk is mounted there"
        )
        raise DeviceRefused(message, str(facts.path))
    _check_identity(store, entry, facts.path, read_identity(facts.path))
    return facts


def _check_identity(store: StoreId, entry: DeviceEntry, path: Path, found: Identity) -> None:
    own = found.own
    if own is None:
        raise DeviceRefused(f"{path} is a store folder, not a device", str(path))
    if found.store != store:
        message = f"{path} belongs to another store ({found.store.hex()}, in {found.store_path}): check what is mounted"
        raise DeviceRefused(message, str(path))
    if own.id != entry.id:
        message = (
            f"{path} should be device {entry.slot} of tier {entry.tier} and is device {own.slot} of {own.tier}: "
            "disks are mounted in each other's places"
        )
        raise DeviceRefused(message, str(path))


def check_empty(path: Path, ours: Container[str] = ()) -> None:
    """Refuse a folder that belongs to a store, or that holds anything but *ours*. Raises: DeviceRefused."""
    if has_identity(path):
        found = read_identity(path)
        message = f"{path} belongs to store {found.store.hex()} in {found.store_path}: remove its contents to reuse it"
        raise DeviceRefused(message, str(path))
    try:
        foreign = sorted(each.name for each in path.iterdir() if each.name not in NOT_FOREIGN and each.name not in ours)
    except OSError as error:
        raise DeviceRefused(f"{path} cannot be read: {error.strerror}", str(path)) from error
    if foreign:
        raise DeviceRefused(f"{path} is not empty (it holds {foreign[0]!r}): give an empty folder", str(path))
