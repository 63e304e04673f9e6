"""The folders of a running store: which are its devices, and what they say of themselves. They change while it runs: a
device comes back on another mount, or another one takes its slot.

What blocks is called in threads; on the loop only what is said so.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import trio

from stratumfs.devices.check import check_device
from stratumfs.devices.folder import FolderFacts
from stratumfs.devices.identity import DeviceEntry, Identity, retire_identity, write_identity
from stratumfs.errors import DeviceFailed, DeviceRefused, StoreInUse
from stratumfs.ids import STORE_PLACE, DeviceId
from stratumfs.owner.asking import hangs
from stratumfs.owner.attach import Attached, attach, refresh_identities
from stratumfs.owner.lock import Locks
from stratumfs.owner.places import COLD_KEY_FILE, IdentityPlace, place_of
from stratumfs.volumes.attached import AttachedDevice

Admit = Callable[[IdentityPlace], None]
"""Asked, in a thread, of each device that comes back and is locked, before anything else of it is touched. Raises:
AnotherHistory, DeviceError if it may not."""


def admit_all(place: IdentityPlace) -> None:
    """Of a store whose catalog has no places."""


@dataclass(slots=True)
class Folders:
    """Owned by the owner; `identity` and `attached` are read by anybody, changed by the methods here alone.

    folder    the store folder, or what stands in for it
    store     its facts; None where the store folder is lost
    identity  what the identity files say, but for the catalog's epochs: those are each file's own
    admit     set once, before any device comes back
    turn      held by whoever changes the list of devices
    asking    one thread a folder, whoever asks what lies there; one that hangs keeps its place until it returns
    silent    folders of which the last question was in vain
    """

    folder: Path
    store: FolderFacts | None
    identity: Identity
    attached: Attached
    locks: Locks
    admit: Admit = admit_all
    turn: trio.Lock = field(default_factory=trio.Lock)
    asking: dict[Path, trio.CapacityLimiter] = field(default_factory=dict)
    silent: set[Path] = field(default_factory=set)

    def places(self) -> list[IdentityPlace]:
        """Of the catalog: those that are there. On the loop."""
        found = [self._place(device, facts) for device, facts in self.attached.facts.items()]
        if self.store is None:
            return found
        return [IdentityPlace(STORE_PLACE, self.store.st_dev, self.store.path, self._of_store), *found]

    def place(self, device: DeviceId) -> IdentityPlace:
        """Of a device that is there. On the loop."""
        return self._place(device, self.attached.facts[device])

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
        if hangs(device):  # what it was asked to write at the opening comes behind all that it is told now
            raise DeviceFailed(f"{entry.path}: an earlier call has not come back", str(entry.path))
        facts = check_device(self.identity.store, entry)
        self._lock(facts)
        self.admit(self._place(device, facts))
        opened = self._open(entry, facts)
        self.know(device, facts)
        if errors := refresh_identities(self.identity, None, {device: facts}, ()):  # what changed while it was away
            raise errors[device]
        return opened

    def prepare(self, new: DeviceEntry, identity: Identity, facts: FolderFacts) -> AttachedDevice:
        """Lock and open a folder that is to be *new*, as *identity* says; from now on it says so itself.

        It is known by `know` alone: nobody may wait for this any more. Raises: DeviceError, StoreInUse.
        """
        self.locks.take(facts.path)
        write_identity(facts.path, identity.of_device(new.id).without_epochs())
        self._bring_key(facts.path)
        return self._open(new, facts)

    def retire(self, old: DeviceEntry) -> None:
        """*old* is no device of the store any more: its identity file loses its name, and its lock is given up, so that
        its disk can be unmounted. What it holds stays. Raises: DeviceError."""
        check_device(self.identity.store, old)
        retire_identity(old.path)
        self.locks.give_up(old.path)

    def know(self, device: DeviceId, facts: FolderFacts) -> None:
        """It is there."""
        self.attached.facts[device] = facts
        self.attached.refused.pop(device, None)

    def name_in_stand_in(self) -> None:
        """What stands in for a store folder is no place of the catalog, whose epochs write the other files."""
        if self.store is None:
            write_identity(self.folder, self.identity.of_store().without_epochs())

    def adopt(self, identity: Identity) -> None:
        """Another list of devices: identity files that are written from now on say it. On the loop."""
        self.identity = identity

    def forget(self, device: DeviceId) -> None:
        """It is no device of the store any more. On the loop."""
        self.attached.facts.pop(device, None)
        self.attached.refused.pop(device, None)

    def _bring_key(self, folder: Path) -> None:
        """Every device has the key of the cold tier, wrapped. Raises: DeviceError."""
        path = self.folder / COLD_KEY_FILE
        if path.exists():
            from stratumfs.owner.cold_key import put_wrapped, read_wrapped  # cryptography is loaded for it

            if (key := read_wrapped(self.folder, self.identity.store)) is not None:
                put_wrapped(folder, key)

    def _of_store(self) -> Identity:
        return self.identity.of_store()

    def _of_device(self, device: DeviceId) -> Identity:
        """Raises: DeviceRefused if it is none of the store any more."""
        try:
            return self.identity.of_device(device)
        except KeyError:
            raise DeviceRefused("it is no device of this store any more") from None

    def _place(self, device: DeviceId, facts: FolderFacts) -> IdentityPlace:
        return IdentityPlace(place_of(device), facts.st_dev, facts.path, partial(self._of_device, device))

    def _lock(self, facts: FolderFacts) -> None:
        try:
            self.locks.take(facts.path)
        except StoreInUse as error:
            raise DeviceFailed(str(error), str(facts.path)) from error

    def _open(self, entry: DeviceEntry, facts: FolderFacts) -> AttachedDevice:
        self._lock(facts)
        if os.statvfs(facts.path).f_flag & os.ST_RDONLY:
            raise DeviceFailed(f"the file system of {facts.path} is read-only", str(facts.path))
        device = attach(entry, facts)
        device.shards.probe()
        return device


def with_device(identity: Identity, old: DeviceEntry, new: DeviceEntry) -> Identity:
    """The same, with *new* in the slot of *old*."""
    return replace(identity, devices=tuple(new if each.id == old.id else each for each in identity.devices))
