"""GF(256) on rows of bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratumfs.erasure.field import add_scaled, combine, correct, define_parity, inverse, invert, times
from stratumfs.errors import GeometryError

elements = st.integers(0, 255)


@given(elements, elements, elements)
def test_multiplication_distributes_over_addition(a: int, b: int, c: int) -> None:
    table = times(a)
    assert table[b ^ c] == table[b] ^ table[c]
    assert table[b] == times(b)[a]


@given(st.integers(1, 255))
def test_every_element_but_zero_has_an_inverse(a: int) -> None:
    assert times(a)[inverse(a)] == 1


def test_a_row_is_scaled_and_added() -> None:
    assert add_scaled(b"\x01\x02", 2, b"\x80\x01") == bytes([0x01 ^ 0x1D, 0x02 ^ 0x02])
    assert combine(bytes([1, 0]), [b"\x05", b"\x07"]) == b"\x05"


def test_a_matrix_times_its_inverse_is_one() -> None:
    matrix = [bytes([1, 1, 1]), bytes([1, 2, 4]), bytes([1, 3, 5])]
    inverted = invert(matrix)
    assert [combine(row, inverted) for row in matrix] == [b"\x01\x00\x00", b"\x00\x01\x00", b"\x00\x00\x01"]


def test_a_singular_matrix_is_refused() -> None:
    with pytest.raises(GeometryError):
        invert([bytes([1, 2]), bytes([1, 2])])


@given(st.binary(min_size=1, max_size=100), st.data())
def test_half_as_many_flipped_bytes_as_parity_are_corrected(message: bytes, data: st.DataObject) -> None:
    word = bytearray(message + define_parity(message, 8))
    for place in data.draw(st.sets(st.integers(0, len(word) - 1), max_size=4)):
        word[place] ^= data.draw(st.integers(1, 255))
    assert correct(bytes(word), 8) == message


def test_too_much_damage_is_admitted() -> None:
    word = bytearray(b"message" + define_parity(b"message", 4))
    for place in range(6):
        word[place] ^= 0x55
    assert correct(bytes(word), 4) != b"message"
