"""What lies on devices by the word of the shards alone."""

import pytest

from stratumfs.erasure.code import Code
from stratumfs.ids import CellIndex, DeviceId, StoreId, VolumeId
from stratumfs.shards.layout import ShardName
from stratumfs.shards.memory import MemoryShards
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.found import find_volumes, table_of
from stratumfs.volumes.toc import about, about_entry, pack

DEVICES = tuple(DeviceId(bytes([index] * 16)) for index in range(3))
VOLUME = VolumeInfo(VolumeId(bytes(16)), "hot", Code(1, 2), DEVICES)


@pytest.mark.parametrize("sequences", [(5, 7, 6), (7, 5, 6), (5, 6, 7)])
def test_of_several_tables_the_newest_counts(sequences: tuple[int, ...]) -> None:
    """A device was away when a later one was written."""
    devices = {ident: MemoryShards() for ident in DEVICES}
    for index, (shards, sequence) in enumerate(zip(devices.values(), sequences, strict=True)):
        table = pack([about_entry(VOLUME.id, sequence, 0)])
        shard = shards.create(ShardName(VOLUME.id, CellIndex(index)))
        shard.write_at(0, table.parts(StoreId(bytes(16)), VOLUME, CellIndex(index), 0))
    found = find_volumes(devices)[VOLUME.id]
    said = about(table_of(found, VOLUME.code, devices) or ())
    assert said is not None
    assert said.sequence == 7
