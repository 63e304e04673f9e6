"""Payloads into cells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratumfs.erasure.code import Code, codec_for
from stratumfs.erasure.stripe import cell_size_for, encode, split
from stratumfs.errors import GeometryError
from stratumfs.ids import CellIndex
from stratumfs.limits import STRIPE_PAYLOAD_MAX


@given(st.integers(1, 12), st.binary(min_size=1, max_size=200))
def test_data_cells_are_the_payload_and_zeros(k: int, payload: bytes) -> None:
    cells = split(payload, Code(k, 0))
    size = cell_size_for(len(payload), Code(k, 0))
    assert [len(cell) for cell in cells] == [size] * k
    assert b"".join(cells) == payload.ljust(k * size, b"\0")


@pytest.mark.parametrize("k", [1, 3, 4, 255])
def test_a_full_stripe_is_the_same_of_every_code_and_not_copied(k: int) -> None:
    payload = bytearray(STRIPE_PAYLOAD_MAX)
    cells = split(payload, Code(k, 0))
    payload[0] = 7
    assert cells[0][0] == 7
    assert sum(map(len, cells)) - STRIPE_PAYLOAD_MAX == -STRIPE_PAYLOAD_MAX % k


@given(st.binary(min_size=1, max_size=500))
def test_a_padded_stripe_is_decoded(payload: bytes) -> None:
    codec = codec_for(Code(4, 2))
    cells = encode(payload, codec)
    size = len(cells[0])
    left = {CellIndex(at): cells[at] for at in (2, 3, 4, 5)}
    found = codec.recover(left, [CellIndex(0), CellIndex(1)], size)
    assert b"".join([found[CellIndex(0)], found[CellIndex(1)], cells[2], cells[3]])[: len(payload)] == payload


@pytest.mark.parametrize("length", [0, STRIPE_PAYLOAD_MAX + 1])
def test_payloads_that_are_no_stripe_are_refused(length: int) -> None:
    with pytest.raises(GeometryError):
        cell_size_for(length, Code(4, 2))
