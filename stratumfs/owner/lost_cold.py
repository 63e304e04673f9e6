"""What lies in the cold tier of a store whose catalog is lost, or older than what lies there. Blocking."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from stratumfs import config
from stratumfs.catalog.install import NewCatalog
from stratumfs.config import SETTINGS_FILE
from stratumfs.errors import ConfigError, DeviceError
from stratumfs.ids import CellIndex, DeviceId, VolumeId
from stratumfs.owner.cold import look_in_cold
from stratumfs.owner.lost import LostStore
from stratumfs.owner.places import COLD_KEY_FILE
from stratumfs.shards.backend import ShardReader
from stratumfs.volumes.found import FoundVolume
from stratumfs.volumes.remote import remote_id


@dataclass(frozen=True, slots=True)
class LookedInCold:
    """readers  the tier as one of the devices; none if it was not looked into
    volumes     those that lie there
    not_looked  why nobody knows what lies there; None: it is known, or there is no such tier
    """

    readers: Mapping[DeviceId, ShardReader]
    volumes: Mapping[VolumeId, FoundVolume]
    not_looked: str | None = None

    @property
    def looked(self) -> bool:
        return bool(self.readers)


def look_in_cold_of(
    found: LostStore, made: NewCatalog, files: Mapping[str, str], told: Callable[[str], None]
) -> LookedInCold:
    """If settings tell of such a tier, those in the store folder, else those among *files* that *made* came with."""
    path, ident = found.folder / SETTINGS_FILE, remote_id(found.identity.store, config.COLD)
    text = path.read_text("utf-8") if path.exists() else files.get(SETTINGS_FILE, "")
    settings = config.parse(text, str(path)) if text else None
    folders = [found.folder, *(facts.path for facts in found.attached.facts.values())]
    why = None
    if settings is None or settings.cold is None:
        with made.transaction() as tx:
            named = tx.one("select 1 from shard where device = ? limit 1", (ident,)) is not None
        if named or COLD_KEY_FILE in files or any((each / COLD_KEY_FILE).exists() for each in folders):
            why = f"there is one, but {path} has no [cold]"
    else:
        told(f"looks what lies at {settings.cold.to}")
        try:
            shards, volumes = look_in_cold(found.identity.store, settings.cold, folders)
            return LookedInCold({ident: shards}, {each: FoundVolume(each, {CellIndex(0): [ident]}) for each in volumes})
        except (ConfigError, DeviceError) as error:
            why = str(error)
    if why is not None:
        told(f"the cold tier cannot be looked into: {why}")
    return LookedInCold({}, {}, why)
