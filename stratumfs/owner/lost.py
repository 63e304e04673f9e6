"""A store whose folder or catalog is lost, as a command that mends it finds it: locked, its devices open, nothing else.

Blocking.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stratumfs.catalog.absence import doubts
from stratumfs.catalog.boot import survey
from stratumfs.catalog.claims import forget_claims
from stratumfs.catalog.devices import put_standings
from stratumfs.catalog.epochs import newest_in_force
from stratumfs.catalog.install import NewCatalog, put_in_force, read_all_named
from stratumfs.catalog.standings import NO_STANDINGS
from stratumfs.catalog.volumes import volume_summary
from stratumfs.config import COLD, SETTINGS_FILE, Tier, parse, render_tier
from stratumfs.devices.folder import FolderFacts, look_at
from stratumfs.devices.identity import Identity, has_identity, read_identity, sync_folder
from stratumfs.errors import ConfigError, DeviceRefused, NotFound
from stratumfs.ids import STORE_PLACE, DeviceId
from stratumfs.owner.attach import Attached, attach_devices, lock_all, look_at_devices
from stratumfs.owner.locate import identity_of, is_store
from stratumfs.owner.lock import Locks
from stratumfs.owner.places import (
    CATALOG_FOLDER,
    IdentityPlace,
    epoch_number,
    listed,
    place_of,
    said_by_devices,
    travelling_files,
)
from stratumfs.owner.stand_in import make_store_folder
from stratumfs.shards.backend import ShardBackend


@dataclass(frozen=True, slots=True)
class LostStore:
    """folder: of the store, which need not be there; identity: with the paths of now."""

    folder: Path
    identity: Identity
    attached: Attached
    locks: Locks

    def places(self) -> list[IdentityPlace]:
        """Those of the catalog that are there; the store folder only if it is one."""
        places = [self._device(facts, place) for place, facts in self.attached.facts.items()]
        if is_store(self.folder):
            disk = look_at(self.folder).st_dev
            places.insert(0, IdentityPlace(STORE_PLACE, disk, self.folder, self.identity.of_store))
        return places

    def shards(self) -> dict[DeviceId, ShardBackend]:
        return {ident: device.shards for ident, device in self.attached.devices.items()}

    def make_folder(self) -> None:
        """So that a chain can be made in it; not a store's yet. Raises: DeviceRefused, OSError, StoreInUse."""
        if self.identity.store_mount_point and not (self.folder.exists() and look_at(self.folder).mount_point):
            raise DeviceRefused(f"{self.folder} was a mount point and is none now: mount it", str(self.folder))
        if not self.folder.exists():
            self.folder.mkdir(mode=0o700)
            sync_folder(self.folder.parent)
        self.locks.take(self.folder)

    def make_store(self, files: Mapping[str, str]) -> None:
        """Make the folder the store's, if it is not: *files* that are missing, then its identity file."""
        make_store_folder(self.folder, self.identity.store_mount_point, self.identity, files)

    async def check_lost(self) -> None:
        """Raises: ConfigError if there is a catalog, or may be: where a member of its epoch is not there, does not
        answer or cannot be read."""
        places = self.places()
        try:
            seen = await survey(places)
        except ConfigError:
            pass  # as it should be; or who has it is silent
        else:
            holder = seen.places[seen.choice.holder].label
            sequence = seen.chains[seen.choice.holder].sequence
            why = f" ({seen.choice.why_not})" if seen.choice.why_not else ""
            raise ConfigError(
                f"{holder} has the catalog up to transaction {sequence}{why}: it is opened by any command; --force "
                "sets it aside and makes another one"
            )
        named = read_all_named(places)
        if not named:
            raise ConfigError("no identity file says who had the catalog: attach more devices")
        there = {place.id for place in places}
        members = newest_in_force(named.values()).members
        away = members - there - {STORE_PLACE}
        if away:
            paths = [str(entry.path) for entry in self.identity.devices if place_of(entry.id) in away]
            raise ConfigError(
                f"the catalog is on {', '.join(sorted(paths))}: attach that, or say by --force that it is lost for good"
            )
        asked = [place for place in places if place.id in members or place.id not in named]
        # A folder that cannot say that it is the store's may have its catalog yet.
        folders = [self.catalog_folder] if STORE_PLACE in members - there else []
        if found := await doubts(asked, folders):
            raise ConfigError(
                f"the catalog may be there yet: {'; '.join(found)}: mend that, or say by --force that it is lost"
            )

    @property
    def catalog_folder(self) -> Path:
        return self.folder / CATALOG_FOLDER

    @property
    def known_sequence(self) -> int:
        """The last transaction that an identity file knows of."""
        named = read_all_named(self.places()).values()
        return max((max(each.sequence, each.standings.sequence) for each in named), default=0)

    def keep_standings(self, made: NewCatalog, sequence: int) -> None:
        """*made* is of transaction *sequence*; what identity files say of devices and is younger, it says too: one that
        was struck since then is not counted upon."""
        named = read_all_named(self.places()).values()
        newest = max((each.standings for each in named), key=lambda said: said.sequence, default=NO_STANDINGS)
        if newest.sequence > sequence:
            with made.transaction() as tx:
                put_standings(tx, newest)

    def put_in_force(
        self, made: NewCatalog, ids: Mapping[str, int], sequence: int, files: Callable[[], Mapping[str, str]]
    ) -> None:
        """*made* is the catalog from now on, and claims nothing in a cold tier. *files*: those of the store folder,
        where one is missing.

        Raises: ChainDamaged, StoreReadOnly, StratumError, OSError.
        """
        with made.transaction() as tx:
            forget_claims(tx, COLD)
            codes = {
                row[0]: Tier(row[2], row[3]) for row in sorted(volume_summary(tx), key=lambda row: row[2] + row[3])
            }
        salt = made.finish({**ids, "sequence": sequence})
        self.make_store(self._with_tiers(codes, files()))
        put_in_force(
            self.places(),
            listed(self.identity),
            STORE_PLACE,
            made.folder.name,
            salt,
            travelling_files(self.folder),
            sequence,
        )

    def _with_tiers(self, codes: Mapping[str, Tier], files: Mapping[str, str]) -> Mapping[str, str]:
        """Settings of before a tier was added say its code, by the widest of the volumes that have moved to its devices
        since: without it no owner would open the store."""
        text = files.get(SETTINGS_FILE, "")
        with suppress(ConfigError):  # who opens it says what is wrong with them
            lacking = {entry.tier for entry in self.identity.devices} - parse(text, SETTINGS_FILE).tiers.keys()
            text += "".join(render_tier(tier, codes[tier]) for tier in sorted(lacking & codes.keys()))
        return {**files, SETTINGS_FILE: text} if text else files

    def _device(self, facts: FolderFacts, ident: object) -> IdentityPlace:
        entry = next(each for each in self.identity.devices if each.id == ident)
        of_device = partial(self.identity.of_device, entry.id)
        return IdentityPlace(place_of(entry.id), facts.st_dev, facts.path, of_device)


@contextmanager
def lost_store(named: Path) -> Iterator[LostStore]:
    """The store that the folder *named*, or one of its devices, belongs to; locked until the block ends.

    Raises: NotFound, DeviceRefused; StoreInUse if it has an owner.
    """
    folder, identity = _find(named)
    locks = Locks()
    try:
        facts, refused = look_at_devices(identity)
        if not facts:
            raise DeviceRefused(f"no device of the store is there: {'; '.join(refused.values())}", str(folder))
        if folder.is_dir():
            refused |= lock_all(locks, folder, facts)
        else:
            refused |= locks.take_all(None, [(ident, found.path) for ident, found in facts.items()])
        attached = attach_devices(identity, facts, refused)
        try:
            yield LostStore(folder, identity, attached, locks)
        finally:
            for device in attached.devices.values():
                device.shards.close()
    finally:
        locks.release()


def _find(named: Path) -> tuple[Path, Identity]:
    path = Path(os.path.realpath(named))
    if not has_identity(path):
        raise NotFound(f"{named} is neither a store nor a device of one: name a device of the store")
    found = read_identity(path)
    if found.own is None:
        return path, identity_of(path)
    newest = max(said_by_devices(found).values(), key=epoch_number, default=found)
    return newest.store_path, newest
