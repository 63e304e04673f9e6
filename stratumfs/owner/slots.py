"""Which device a user means, and whether a folder may become one."""

import os
from pathlib import Path

from stratumfs.devices.check import check_distinct
from stratumfs.devices.folder import FolderFacts
from stratumfs.devices.identity import DeviceEntry, Identity, has_identity, read_identity
from stratumfs.errors import DeviceRefused, NotFound
from stratumfs.owner.folders import Folders


def named(identity: Identity, text: str) -> DeviceEntry | None:
    """The device with that path, id or TIER:SLOT, if there is one.

    Texts are compared first: it may be a mount that hangs whoever looks at it. Blocking.
    """
    for spelled in (os.path.abspath, os.path.realpath):
        path = Path(spelled(text))
        for each in identity.devices:
            if text in (each.id.hex(), f"{each.tier}:{each.slot}") or path == each.path:
                return each
    return None


def demand_named(identity: Identity, text: str) -> DeviceEntry:
    """As `named`. Raises: NotFound."""
    found = named(identity, text)
    if found is None:
        raise NotFound(f"{text!r} names no device of this store: a path, an id, or TIER:SLOT")
    return found


def own(identity: Identity, path: Path) -> DeviceEntry | None:
    """The device of this store that the identity file in *path* says it is, a listed one or one that never became.

    Blocking.
    """
    if not has_identity(path):
        return None
    found = read_identity(path)
    return found.own if found.store == identity.store else None


def check_place(folders: Folders, facts: FolderFacts, old: DeviceEntry | None = None) -> None:
    """It is no other device's place than that of *old*, and lies in none and around none, nor around the store folder.

    Raises: DeviceRefused.
    """
    for each in folders.identity.devices:
        if each != old and each.path == facts.path:
            message = f"{facts.path} is the place of device {each.slot} of tier {each.tier}: give another folder"
            raise DeviceRefused(message, str(facts.path))
    others = [found for ident, found in folders.attached.facts.items() if old is None or ident != old.id]
    check_distinct([facts, *others])
    if folders.folder == facts.path or folders.folder.is_relative_to(facts.path):
        raise DeviceRefused(f"the store folder {folders.folder} lies in {facts.path}", str(facts.path))


def shared_disk(folders: Folders, facts: FolderFacts, old: DeviceEntry | None = None) -> str:
    """What to warn of if another device than *old* is on the same disk; empty if none is."""
    known = folders.attached.facts
    for each in folders.identity.devices:
        if each != old and each.path != facts.path and each.id in known and known[each.id].st_dev == facts.st_dev:
            return f"{facts.path} shares its disk with {each.path}: both fail together"
    return ""
