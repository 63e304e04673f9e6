"""From a row of the catalog to what volumes know of theirs."""

from stratumfs.catalog.volumes import VolumeRow
from stratumfs.erasure.code import Code
from stratumfs.errors import CatalogCorrupt, GeometryError
from stratumfs.volumes.format import VolumeInfo


def volume_info(row: VolumeRow) -> VolumeInfo:
    """Raises: CatalogCorrupt where no volume can be as rows say: some of them are lost. `fsck` makes them again."""
    try:
        return VolumeInfo(row.id, row.tier, Code(row.k, row.m), row.devices)
    except GeometryError as error:
        raise CatalogCorrupt(f"rows of a volume are lost or damaged: {error}: run fsck.stratumfs") from error
