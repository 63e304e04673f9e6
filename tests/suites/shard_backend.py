"""What every shard backend must do. A backend's test module derives from `ShardBackendSuite` and gives `shards`."""

import pytest

from stratumfs.errors import DeviceError, ShardMissing
from stratumfs.ids import CellIndex, VolumeId
from stratumfs.shards.backend import ShardBackend
from stratumfs.shards.layout import FOLDERS, ShardName

NAME = ShardName(VolumeId(bytes(range(16))), CellIndex(3))
OTHER = ShardName(VolumeId(bytes(range(1, 17))), CellIndex(0))


def all_names(shards: ShardBackend) -> list[ShardName]:
    return [name for folder in FOLDERS for name in shards.names(folder)]


class ShardBackendSuite:
    def test_what_is_written_is_read(self, shards: ShardBackend) -> None:
        shard = shards.create(NAME)
        shard.write_at(0, [b"ab", memoryview(b"cd")])
        shard.write_at(6, [b"gh"])
        assert shards.read_at(NAME, 0, 8) == b"abcd\0\0gh"
        assert shards.size(NAME) == shard.size() == 8
        shard.close()
        shard.close()

    def test_reads_are_short_only_at_the_end(self, shards: ShardBackend) -> None:
        shards.create(NAME).write_at(0, [b"abc"])
        assert shards.read_at(NAME, 1, 10) == b"bc"
        assert shards.read_at(NAME, 3, 10) == b""
        assert shards.read_at(NAME, 30, 10) == b""

    def test_many_parts_are_written_in_order(self, shards: ShardBackend) -> None:
        parts = [bytes([at & 255]) for at in range(3000)]
        shards.create(NAME).write_at(5, parts)
        assert shards.read_at(NAME, 5, 3000) == b"".join(parts)

    def test_writing_twice_is_harmless(self, shards: ShardBackend) -> None:
        shard = shards.create(NAME)
        shard.write_at(0, [b"same"])
        shard.write_at(0, [b"same"])
        assert shards.read_at(NAME, 0, 9) == b"same"

    def test_preallocated_bytes_are_zeros_and_writes_land_in_them(self, shards: ShardBackend) -> None:
        shard = shards.create(NAME)
        shard.preallocate(0, 10000)
        shard.write_at(4, [b"x"])
        assert shards.read_at(NAME, 3, 3) == b"\0x\0"
        shard.preallocate(0, 5)
        assert shards.read_at(NAME, 3, 3) == b"\0x\0"

    def test_cutting_leaves_what_is_before(self, shards: ShardBackend) -> None:
        shard = shards.create(NAME)
        shard.write_at(0, [b"abcdef"])
        shard.cut(2)
        shard.datasync()
        assert (shards.size(NAME), shards.read_at(NAME, 0, 9)) == (2, b"ab")

    def test_a_device_that_is_well_answers(self, shards: ShardBackend) -> None:
        shards.probe()

    def test_a_name_is_used_once(self, shards: ShardBackend) -> None:
        shards.create(NAME)
        with pytest.raises(DeviceError):
            shards.create(NAME)

    def test_a_shard_is_opened_again_to_be_appended_to(self, shards: ShardBackend) -> None:
        first = shards.create(NAME)
        first.write_at(0, [b"abc"])
        first.close()
        again = shards.reopen(NAME)
        again.write_at(again.size(), [b"def"])
        assert shards.read_at(NAME, 0, 9) == b"abcdef"

    def test_a_missing_shard_is_said_to_be_missing(self, shards: ShardBackend) -> None:
        shards.create(OTHER)
        for call in (
            lambda: shards.read_at(NAME, 0, 1),
            lambda: shards.size(NAME),
            lambda: shards.reopen(NAME),
        ):
            with pytest.raises(ShardMissing):
                call()
        assert not shards.read_nowait(NAME, 0, [memoryview(bytearray(1))])

    def test_syncs_are_taken(self, shards: ShardBackend) -> None:
        shard = shards.create(NAME)
        shard.write_at(0, [b"x"])
        shard.datasync()
        shards.sync_folder(NAME)

    def test_nowait_gives_the_right_bytes_or_says_that_it_does_not(self, shards: ShardBackend) -> None:
        shards.create(NAME).write_at(0, [b"abcdef"])
        shards.read_at(NAME, 0, 1)
        first, second = bytearray(1), bytearray(2)
        if shards.read_nowait(NAME, 2, [memoryview(first), memoryview(second)]):
            assert (first, second) == (b"c", b"de")
        assert not shards.read_nowait(NAME, 2, [memoryview(bytearray(30))])

    def test_unlinked_shards_are_gone_and_unlinking_twice_is_harmless(self, shards: ShardBackend) -> None:
        shards.create(NAME).write_at(0, [b"x"])
        shards.read_at(NAME, 0, 1)
        shards.unlink(NAME)
        shards.unlink(NAME)
        assert all_names(shards) == []
        with pytest.raises(ShardMissing):
            shards.read_at(NAME, 0, 1)

    def test_what_is_read_from_the_device_itself_is_the_same(self, shards: ShardBackend) -> None:
        shard = shards.create(NAME)
        shard.write_at(0, [b"abc"])
        shards.uncache(NAME)
        assert shards.read_at(NAME, 0, 9) == b"abc"
        with pytest.raises(ShardMissing):
            shards.uncache(OTHER)

    def test_what_will_be_read_may_be_said_of_any_shard(self, shards: ShardBackend) -> None:
        shards.create(NAME).write_at(0, [b"abc"])
        for name in (NAME, OTHER):
            shards.will_read(name, 0, 9)
        assert shards.read_at(NAME, 0, 9) == b"abc"

    def test_names_are_listed(self, shards: ShardBackend) -> None:
        assert all_names(shards) == []
        shards.create(NAME)
        shards.create(OTHER)
        assert sorted(all_names(shards)) == sorted([NAME, OTHER])

    def test_quarantined_shards_are_no_longer_listed_or_read(self, shards: ShardBackend) -> None:
        shards.create(NAME)
        shards.create(OTHER)
        shards.read_at(NAME, 0, 1)
        shards.quarantine([NAME, ShardName(OTHER.volume, CellIndex(9))])
        assert all_names(shards) == [OTHER]
        with pytest.raises(ShardMissing):
            shards.read_at(NAME, 0, 1)
        shards.create(NAME)
        shards.quarantine([NAME])  # the one before stays where it is
        assert all_names(shards) == [OTHER]

    def test_a_quarantined_shard_comes_back_unless_its_name_is_taken(self, shards: ShardBackend) -> None:
        shards.create(NAME).write_at(0, [b"old"])
        shards.create(OTHER)
        shards.quarantine([NAME, OTHER])
        assert sorted(shards.quarantined()) == sorted([NAME, OTHER])
        shards.create(OTHER).write_at(0, [b"new"])
        shards.take_back([NAME, OTHER])
        assert shards.quarantined() == [OTHER]
        assert (shards.read_at(NAME, 0, 3), shards.read_at(OTHER, 0, 3)) == (b"old", b"new")

    def test_a_shard_built_anew_replaces_the_old_one_when_it_is_installed(self, shards: ShardBackend) -> None:
        old = shards.create(NAME)
        old.write_at(0, [b"old bytes"])
        assert shards.read_at(NAME, 0, 9) == b"old bytes"
        _build_anew(shards, NAME, b"newer")
        assert (shards.read_at(NAME, 0, 9), all_names(shards)) == (b"old bytes", [NAME])
        shards.install(NAME)
        assert (shards.read_at(NAME, 0, 9), shards.size(NAME), all_names(shards)) == (b"newer", 5, [NAME])
        old.write_at(0, [b"who held it"])
        assert shards.read_at(NAME, 0, 9) == b"newer"

    def test_a_shard_built_anew_may_be_the_first_of_its_name(self, shards: ShardBackend) -> None:
        _build_anew(shards, NAME, b"came to no end, and is longer")
        _build_anew(shards, NAME, b"new")
        with pytest.raises(ShardMissing):
            shards.size(NAME)
        shards.install(NAME)
        assert shards.read_at(NAME, 0, 9) == b"new"

    def test_what_was_not_installed_is_dropped(self, shards: ShardBackend) -> None:
        shards.create(OTHER)
        _build_anew(shards, NAME, b"new")
        for folder in (*FOLDERS, *FOLDERS):
            shards.drop_unfinished(folder)
        assert all_names(shards) == [OTHER]
        with pytest.raises(DeviceError):
            shards.install(NAME)


def _build_anew(shards: ShardBackend, name: ShardName, data: bytes) -> None:
    shard = shards.begin_anew(name)
    shard.write_at(0, [data])
    shard.datasync()
    shard.close()
