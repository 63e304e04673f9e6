"""From a row of the catalog to what volumes know of theirs."""

from stratumfs.catalog.volumes import VolumeRow
from stratumfs.erasure.code import Code
from stratumfs.volumes.format import VolumeInfo


def volume_info(row: VolumeRow) -> VolumeInfo:
    return VolumeInfo(row.id, row.tier, Code(row.k, row.m), row.devices)
