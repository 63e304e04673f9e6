"""Shards in memory pass the suite, fail on demand, and know what a power cut leaves."""

import pytest

from stratumfs.errors import DeviceFailed
from stratumfs.shards.layout import ShardName
from stratumfs.shards.memory import MemoryShards
from tests.suites.shard_backend import NAME, OTHER, ShardBackendSuite


class TestMemoryShards(ShardBackendSuite):
    @pytest.fixture
    def shards(self) -> MemoryShards:
        return MemoryShards()


def test_a_power_cut_leaves_what_was_synced() -> None:
    shards = MemoryShards()
    shard = shards.create(NAME)
    shard.write_at(0, [b"kept"])
    shard.datasync()
    shards.sync_folder(NAME)
    shard.write_at(0, [b"LOST, and more"])
    shards.create(OTHER).datasync()
    shards.power_cut()
    assert shards.contents == {NAME: bytearray(b"kept")}  # the other's folder was never synced


def test_faults_are_raised() -> None:
    def fault(verb: str, name: ShardName | None) -> None:
        if verb == "datasync":
            raise DeviceFailed("dead", "memory")

    shards = MemoryShards(fault=fault)
    shard = shards.create(NAME)
    with pytest.raises(DeviceFailed):
        shard.datasync()
