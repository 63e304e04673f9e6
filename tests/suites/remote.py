"""What every `Remote` must do. A test module derives from `RemoteSuite` and gives `remote`, which is empty."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from stratumfs.errors import DeviceFailed, ShardMissing
from stratumfs.shards.remote import Remote

LARGE = bytes(range(256)) * 12_000  # 3 MB: in several pieces


class RemoteSuite:
    def test_what_is_put_is_given_back_in_ranges(self, remote: Remote) -> None:
        remote.put("large", memoryview(LARGE))
        assert remote.size("large") == len(LARGE)
        for offset, length in ((0, len(LARGE)), (0, 1), (1_000_001, 1_500_000), (len(LARGE) - 1, 1), (7, 0)):
            assert remote.get("large", offset, length) == LARGE[offset : offset + length]

    def test_a_put_replaces(self, remote: Remote) -> None:
        remote.put("a", b"first, longer")
        remote.put("a", bytearray(b"second"))
        assert remote.size("a") == 6
        assert remote.get("a", 0, 6) == b"second"

    def test_nothing_can_be_put(self, remote: Remote) -> None:
        remote.put("nothing", b"")
        assert remote.size("nothing") == 0
        assert list(remote.names("")) == ["nothing"]

    def test_bytes_behind_the_end_are_not_made_up(self, remote: Remote) -> None:
        remote.put("short", b"four")
        for offset, length in ((0, 5), (3, 2), (4, 1), (400, 1)):
            with pytest.raises(DeviceFailed, match="short"):
                remote.get("short", offset, length)

    def test_what_is_not_there_is_said_to_be_missing(self, remote: Remote) -> None:
        remote.put("other", b"x")
        with pytest.raises(ShardMissing, match="absent"):
            remote.get("absent", 0, 1)
        with pytest.raises(ShardMissing, match="absent"):
            remote.size("absent")

    def test_a_delete_may_run_twice(self, remote: Remote) -> None:
        remote.put("a", b"1")
        remote.put("ab", b"2")
        remote.delete("a")
        remote.delete("a")
        assert list(remote.names("")) == ["ab"]
        with pytest.raises(ShardMissing):
            remote.size("a")

    def test_names_are_listed_by_their_beginning(self, remote: Remote) -> None:
        wanted = {"volumes/00ff", "volumes/01", "owner", "odd name+%&é"}
        for name in wanted:
            remote.put(name, b"x")
        assert set(remote.names("")) == wanted
        assert set(remote.names("volumes/")) == {"volumes/00ff", "volumes/01"}
        assert set(remote.names("odd")) == {"odd name+%&é"}
        assert list(remote.names("absent/")) == []

    def test_a_listing_says_when_what_was_put_was_put(self, remote: Remote) -> None:
        """By one clock for all of them."""
        remote.put("said/first", b"x")
        [first] = remote.listed("said/")
        remote.put("said/then", b"xy")
        found = {each.name: each for each in remote.listed("said/")}
        assert first.put_s > 0
        assert found["said/then"].size == 2
        assert first.put_s <= found["said/then"].put_s <= first.put_s + 3600
        assert 0 <= found["said/then"].age_s < 3600

    def test_a_long_listing_is_whole(self, remote: Remote) -> None:
        """Several pages of LISTED_AT_ONCE."""
        wanted = {f"many/{number:02}" for number in range(35)}
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: remote.put(name, b""), wanted))
        found = list(remote.names("many/"))
        assert set(found) == wanted
        assert len(found) == len(wanted)

    def test_threads_share_it(self, remote: Remote) -> None:
        def turn(number: int) -> bool:
            name, data = f"thread/{number}", bytes([number]) * (10_000 + number)
            remote.put(name, data)
            return remote.get(name, number, 5000) == data[number : number + 5000]

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(turn, range(40)))
