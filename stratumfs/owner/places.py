"""The places of a store that can hold its catalog: the store folder and the devices, by their identity files."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from stratumfs.catalog.epochs import Named, pack_epoch, pack_images, unpack_epoch, unpack_images
from stratumfs.catalog.standings import pack_standings, unpack_standings
from stratumfs.config import SETTINGS_FILE
from stratumfs.devices.check import check_device
from stratumfs.devices.identity import DeviceEntry, Identity, read_identity, write_identity
from stratumfs.errors import DeviceError, DeviceRefused
from stratumfs.ids import STORE_PLACE, DeviceId, Disk, PlaceId
from stratumfs.owner.asking import Silent, ask
from stratumfs.owner.credentials import CREDENTIALS_FILE

CATALOG_FOLDER = "catalog"
COLD_KEY_FILE = "cold-key.json"
"""The master key of the cold tier, wrapped."""
SECRET_FILE = "cold.key"  # noqa: S105 - a file's name
"""In a store folder: the secret that wraps it, where nobody names another file. It travels nowhere."""
PASSPHRASE_VARIABLE = "STRATUM_COLD_PASSPHRASE"  # noqa: S105 - a variable's name
NEW_PASSPHRASE_VARIABLE = "STRATUM_COLD_PASSPHRASE_NEW"  # noqa: S105 - a variable's name
TRAVELLING = (SETTINGS_FILE, CREDENTIALS_FILE, COLD_KEY_FILE)
"""The small files of a store folder that travel with every copy of the catalog."""


@dataclass(frozen=True, slots=True)
class IdentityPlace:
    """A place (see `stratumfs.catalog.places.Place`): a folder with an identity file, locked by us.

    identity  what its file is to say besides epochs, as of now; raises DeviceRefused if it is no place any more
    """

    id: PlaceId
    disk: Disk
    root: Path
    identity: Callable[[], Identity]

    @property
    def label(self) -> str:
        return str(self.root)

    @property
    def folder(self) -> Path:
        return self.root / CATALOG_FOLDER

    def read_named(self) -> Named | None:
        found = read_identity(self.root)
        if found.epoch_begun is None or found.epoch_in_force is None:
            return None
        images, said = unpack_images(found.images), unpack_standings(found.standings)
        begun, in_force = unpack_epoch(found.epoch_begun), unpack_epoch(found.epoch_in_force)
        return Named(begun, in_force, found.sequence, images, said)

    def write_named(self, named: Named) -> None:
        found, wanted = read_identity(self.root), self.identity()
        if (found.store, _own(found)) != (wanted.store, _own(wanted)):
            raise DeviceRefused(f"{self.root} belongs to another device or store by now", str(self.root))
        write_identity(self.root, with_named(wanted, named))


def with_named(identity: Identity, named: Named) -> Identity:
    return replace(
        identity,
        epoch_begun=pack_epoch(named.begun),
        epoch_in_force=pack_epoch(named.in_force),
        sequence=named.sequence,
        images=tuple(pack_images(named.images)),
        standings=pack_standings(named.standings),
    )


def travelling_files(store: Path) -> dict[str, str]:
    """Those of `TRAVELLING` that are there."""
    found = {}
    for name in TRAVELLING:
        with suppress(FileNotFoundError):
            found[name] = (store / name).read_text("utf-8")
    return found


def said_by_devices(identity: Identity, silent: set[DeviceId] | None = None) -> dict[Path, Identity]:
    """What each device of *identity* says that is there, in the order of ids: all who ask see the same order.

    Those that are known to be *silent* are not asked; who does not answer is one from then on.
    """

    def one(entry: DeviceEntry) -> tuple[Path, Identity]:
        path = check_device(identity.store, entry).path
        return path, read_identity(path)

    silent = set() if silent is None else silent
    entries = [entry for entry in sorted(identity.devices, key=lambda entry: entry.id) if entry.id not in silent]
    answers = ask({entry.id: partial(one, entry) for entry in entries})
    silent.update(ident for ident, answer in answers.items() if isinstance(answer, Silent))
    return dict(answer for answer in answers.values() if not isinstance(answer, DeviceError))


def epoch_number(identity: Identity) -> int:
    """Of the last epoch that *identity* knows to have been in force; a larger one knows of later devices too."""
    epoch = identity.epoch_in_force
    return int(epoch["number"]) if epoch is not None else 0


def place_of(device: DeviceId) -> PlaceId:
    return PlaceId(device)


def listed(identity: Identity) -> frozenset[PlaceId]:
    """All places of a store, whether they are there or not."""
    return frozenset([STORE_PLACE, *(place_of(entry.id) for entry in identity.devices)])


def _own(identity: Identity) -> DeviceId | None:
    return identity.own.id if identity.own is not None else None
