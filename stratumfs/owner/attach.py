"""Which devices are up: each is looked at, locked and opened, or refused with a reason that `status` shows.

All of it blocks.
"""

import os
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from stratumfs.devices.check import check_device, check_distinct
from stratumfs.devices.folder import FolderFacts
from stratumfs.devices.identity import DeviceEntry, Identity, read_identity, write_identity
from stratumfs.devices.space import space_of
from stratumfs.errors import DeviceError, DeviceFailed
from stratumfs.ids import DeviceId
from stratumfs.owner.asking import NO_ANSWER, Silent, ask
from stratumfs.owner.lock import Locks
from stratumfs.shards.local import LocalShards
from stratumfs.volumes.attached import AttachedDevice

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Attached:
    """Which devices are up.

    refused    why each of the others is not
    facts      of those that are up
    read_only  those of them whose file system the kernel has made read-only, as it does when a disk errs, and how they
               say so: they serve reads, and nothing is written
    """

    devices: dict[DeviceId, AttachedDevice]
    refused: dict[DeviceId, str]
    facts: dict[DeviceId, FolderFacts]
    read_only: Mapping[DeviceId, str]


def look_at_devices(
    identity: Identity, silent: Container[DeviceId] = ()
) -> tuple[dict[DeviceId, FolderFacts], dict[DeviceId, str]]:
    """The facts of the devices that are there and themselves, and why the others cannot be used.

    Those that are known to be *silent* are not asked again.

    Raises: DeviceRefused if two devices are one folder: then somebody has mounted the same disk twice.
    """
    facts: dict[DeviceId, FolderFacts] = {}
    refused: dict[DeviceId, str] = {}
    entries = [entry for entry in identity.devices if entry.id not in silent]
    answers = ask({entry.id: partial(check_device, identity.store, entry) for entry in entries})
    for entry in identity.devices:
        answer = answers.get(entry.id, NO_ANSWER)
        if isinstance(answer, DeviceError):
            refused[entry.id] = _why(entry, answer)
        else:
            facts[entry.id] = answer
    check_distinct(list(facts.values()))
    return facts, refused


def attach_devices(
    identity: Identity, facts: Mapping[DeviceId, FolderFacts], refused: Mapping[DeviceId, str]
) -> Attached:
    """Open the devices that were looked at and locked."""
    there = {entry.id: entry for entry in identity.devices if entry.id in facts and entry.id not in refused}
    answers = ask({ident: partial(_attach, entry, facts[ident]) for ident, entry in there.items()})
    devices: dict[DeviceId, AttachedDevice] = {}
    failed, read_only = dict(refused), {}
    for ident, answer in answers.items():
        if isinstance(answer, DeviceError):
            failed[ident] = _why(there[ident], answer)
            continue
        devices[ident], writable = answer
        if not writable:
            read_only[ident] = "its file system is read-only"
    for reason in failed.values():
        _log.warning("device_not_used", reason=reason)
    return Attached(devices, failed, {ident: facts[ident] for ident in devices}, read_only)


def leave_out(attached: Attached, failed: Mapping[DeviceId, DeviceFailed]) -> None:
    """Those of *failed* that hang are not used: what they were asked to do may still come to be done."""
    for ident, error in failed.items():
        if isinstance(error, Silent):
            attached.refused[ident] = f"{attached.devices.pop(ident).label}: {error}"
            del attached.facts[ident]
            _log.warning("device_not_used", reason=attached.refused[ident])


def refresh_identities(
    identity: Identity,
    store: FolderFacts | None,
    facts: Mapping[DeviceId, FolderFacts],
    unwritable: Container[DeviceId],
) -> dict[DeviceId, DeviceFailed]:
    """Write each identity file that says other paths than those of now, so that the store is found from any of them.

    Each is asked by itself: one may have been away, or failed, when the others learned of a move or of another device.
    One that cannot be written to keeps its old file, which costs comfort only; but which devices fail in this is
    returned: they are to be struck. *store* is None where the store folder is lost.
    """
    failed: dict[DeviceId, DeviceFailed] = {}
    if store is not None:
        try:
            _refresh(store.path, identity.of_store())
        except DeviceError as error:
            _log.warning("identity_not_refreshed", store=str(store.path), error=str(error))
    for entry in identity.devices:
        if entry.id not in facts or entry.id in unwritable:
            continue
        # One after the other: a stop between two leaves what a stop anywhere leaves, and the same each time.
        answer = ask({entry.id: partial(_refresh, entry.path, identity.of_device(entry.id))})[entry.id]
        if answer is not None:
            _log.warning("identity_not_refreshed", device=str(entry.path), error=str(answer))
        if isinstance(answer, DeviceFailed):
            failed[entry.id] = answer
    return failed


def _refresh(folder: Path, identity: Identity) -> None:
    """What the file knows of the catalog's epochs is its own."""
    found = read_identity(folder)
    wanted = replace(
        identity,
        epoch_begun=found.epoch_begun,
        epoch_in_force=found.epoch_in_force,
        sequence=found.sequence,
        images=found.images,
        standings=found.standings,
    )
    if found != wanted:
        write_identity(folder, wanted)


def lock_all(locks: Locks, store: Path, facts: Mapping[DeviceId, FolderFacts]) -> dict[DeviceId, str]:
    """Take the locks of the devices that are there, in the order of their ids, and of the store folder.

    Returns why some cannot be locked: those are not to be used. Raises: StoreInUse; DeviceFailed (the store folder).
    """
    return locks.take_all(store, [(ident, found.path) for ident, found in facts.items()])


def _read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _attach(entry: DeviceEntry, facts: FolderFacts) -> tuple[AttachedDevice, bool]:
    """And whether it takes writes."""
    return attach(entry, facts), not _read_only(facts.path)


def _why(entry: DeviceEntry, error: DeviceError) -> str:
    return f"{entry.path}: {error}" if isinstance(error, Silent) else str(error)


def attach(entry: DeviceEntry, facts: FolderFacts) -> AttachedDevice:
    """A device that was looked at and locked, opened. Raises: DeviceFailed."""
    return AttachedDevice(
        entry.id,
        str(entry.path),
        LocalShards(facts.path),
        disk=facts.st_dev,
        total=_asking(facts.path, lambda total, _: total),
        free=_asking(facts.path, lambda _, free: free),
        tier=entry.tier,
    )


def _asking(path: Path, choose: Callable[[int, int], int]) -> Callable[[], int]:
    def ask() -> int:
        space = space_of(path)
        return choose(space.total, space.free)

    return ask
