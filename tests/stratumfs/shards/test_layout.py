"""Names of shard files."""

from hypothesis import given
from hypothesis import strategies as st

from stratumfs.ids import CellIndex, VolumeId
from stratumfs.shards.layout import ShardName, parse_file_name, path_of


@given(st.binary(min_size=16, max_size=16), st.integers(0, 254))
def test_a_file_name_says_which_shard_it_is(volume: bytes, index: int) -> None:
    name = ShardName(VolumeId(volume), CellIndex(index))
    assert parse_file_name(path_of(name).name) == name


def test_shards_are_spread_over_folders_by_the_first_byte() -> None:
    name = ShardName(VolumeId(bytes([0xAB] + 15 * [1])), CellIndex(7))
    assert str(path_of(name)) == "volumes/ab/ab" + "01" * 15 + ".7"


def test_other_files_are_no_shards() -> None:
    good = "ab" * 16
    for text in (good, good + ".255", good + ".01", good.upper() + ".1", good + ".1.new", "x" + good + ".1", ""):
        assert parse_file_name(text) is None
