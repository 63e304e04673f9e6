"""Blocks that correct themselves."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratumfs.erasure.field import define_parity
from stratumfs.errors import ShardCorrupt
from stratumfs.volumes.block import LANES, corrected, open_block, seal_blocks

fields = st.binary(min_size=100, max_size=100)


@given(st.lists(fields, max_size=5))
def test_the_parity_of_each_is_reedsolos(many: list[bytes]) -> None:
    assert seal_blocks(many) == [each + define_parity(each, 28) for each in many]


def test_there_may_be_more_than_fit_one_call() -> None:
    many = [bytes([at]) * 100 for at in range(2 * LANES + 3)]
    assert seal_blocks(many) == [seal_blocks([each])[0] for each in many]


@given(fields, st.sets(st.integers(0, 127), max_size=14))
def test_fourteen_flipped_bytes_are_corrected(content: bytes, places: set[int]) -> None:
    block = bytearray(seal_blocks([content])[0])
    for place in places:
        block[place] ^= 0x5A
    assert open_block(block) == content
    assert corrected(block) == seal_blocks([content])[0]


def test_what_is_no_block_is_refused() -> None:
    with pytest.raises(ShardCorrupt, match="50 bytes"):
        open_block(bytes(50))
    with pytest.raises(ShardCorrupt, match="beyond"):
        open_block(bytes(range(128)))
    assert corrected(bytes(range(128))) is None


def test_threads_do_not_share_their_room() -> None:
    wrong = []

    def work(value: int) -> None:
        content = bytes([value]) * 100
        expected = content + define_parity(content, 28)
        wrong.extend(1 for _ in range(500) if seal_blocks([content]) != [expected])

    threads = [threading.Thread(target=work, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
