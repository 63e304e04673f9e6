"""The folders of a running store: which are its devices, and what they say of themselves. They change while it runs: a
device comes back on another mount, or another one takes its slot.

What blocks is called in threads; on the loop only what is said so.
"""

import os
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path

from stratumfs.devices.check import check_device
from stratumfs.devices.folder import FolderFacts
from stratumfs.devices.identity import DeviceEntry, Identity, write_identity
from stratumfs.errors import DeviceFailed, StoreInUse
from stratumfs.ids import DeviceId
from stratumfs.owner.attach import Attached, attach, refresh_identities
from stratumfs.owner.lock import Locks
from stratumfs.volumes.attached import AttachedDevice


@dataclass(slots=True)
class Places:
    """Owned by the owner; `identity` and `attached` are read by anybody, changed by the methods here alone."""

    folder: Path
    identity: Identity
    attached: Attached
    locks: Locks
    store_disk: int

    def entry(self, device: DeviceId) -> DeviceEntry | None:
        """On the loop."""
        return next((each for each in self.identity.devices if each.id == device), None)

    def check(self, device: DeviceId) -> None:
        """Raises: DeviceRefused if its folder is not this device any more."""
        entry = self.entry(device)
        if entry is not None:
            check_device(self.identity.store, entry)

    def reopen(self, device: DeviceId) -> AttachedDevice:
        """A device that was struck or away, opened anew, locked, and written to once. Raises: DeviceError."""
        entry = self.entry(device)
        if entry is None:
            raise DeviceFailed("it is no device of this store any more")
        facts = check_device(self.identity.store, entry)
        opened = self._open(entry, facts)
        if errors := refresh_identities(self.identity, {device: facts}, ()):  # what changed while it was away
            raise errors[device]
        return opened

    def replace_place(
        self, old: DeviceEntry, new: DeviceEntry, facts: FolderFacts, up: Container[DeviceId]
    ) -> AttachedDevice:
        """*new* takes the slot of *old* in the identity files; the store folder's is the one that counts.

        Those of the devices that are not *up* learn of it when they come back: they may hang. A stop before that of
        the store folder leaves the old list, and a folder that says what it was to become; a stop behind it the new
        list, which the next opening writes to the others. Raises: DeviceError, StoreInUse; nothing changed then.
        """
        devices = tuple(new if each.id == old.id else each for each in self.identity.devices)
        changed = replace(self.identity, devices=devices)
        self.locks.take(facts.path)
        write_identity(facts.path, changed.of_device(new.id))
        device = self._open(new, facts)
        if left := list(device.shards.names()):  # of the old one, emptied or not: no row places them on the new one
            device.shards.quarantine(left)
        write_identity(self.folder, changed.of_store())
        self.identity = changed
        self.attached.facts.pop(old.id, None)
        self.attached.refused.pop(old.id, None)
        refresh_identities(changed, {ident: found for ident, found in self.attached.facts.items() if ident in up}, ())
        return device

    def _open(self, entry: DeviceEntry, facts: FolderFacts) -> AttachedDevice:
        try:
            self.locks.take(facts.path)
        except StoreInUse as error:
            raise DeviceFailed(str(error), str(facts.path)) from error
        if os.statvfs(facts.path).f_flag & os.ST_RDONLY:
            raise DeviceFailed(f"the file system of {facts.path} is read-only", str(facts.path))
        device = attach(entry, facts)
        device.shards.probe()
        self.attached.facts[entry.id] = facts
        self.attached.refused.pop(entry.id, None)
        return device
