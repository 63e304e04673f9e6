"""The code: reedsolo's bytes at ISA-L's speed."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratumfs.erasure import code as code_module
from stratumfs.erasure.code import Code, Codec, codec_for, parity_matrix
from stratumfs.erasure.engine import PortableEngine
from stratumfs.erasure.field import define_parity
from stratumfs.errors import GeometryError, TooFewShards
from stratumfs.ids import CellIndex

SMALL = [Code(k, n - k) for n in range(2, 21) for k in range(1, n)]


def cells_of(code: Code, size: int, seed: int) -> list[bytes]:
    source = random.Random(seed)
    return [source.randbytes(size) for _ in range(code.k)]


def test_parity_is_that_of_reedsolo_for_every_code_up_to_20_shards() -> None:
    for code in SMALL:
        size = 67  # more than a vector register, and not a multiple of one
        data = cells_of(code, size, code.k)
        parity = Codec(code).encode(data, size)
        for column in (0, 31, 66):
            message = bytes(cell[column] for cell in data)
            assert bytes(cell[column] for cell in parity) == define_parity(message, code.m), code


def test_the_portable_engine_agrees_with_the_fast_one() -> None:
    for code in (Code(1, 1), Code(4, 2), Code(10, 4), Code(2, 18)):
        data = cells_of(code, 100, 7)
        assert Codec(code, PortableEngine()).encode(data, 100) == Codec(code).encode(data, 100)


def test_every_pattern_of_losses_of_4_plus_2_is_decoded() -> None:
    code = Code(4, 2)
    codec = Codec(code)
    data = cells_of(code, 50, 1)
    cells = dict(enumerate([*data, *codec.encode(data, 50)]))
    for lost in itertools.chain(itertools.combinations(range(6), 1), itertools.combinations(range(6), 2)):
        left = {CellIndex(at): cell for at, cell in cells.items() if at not in lost}
        found = codec.recover(left, [CellIndex(at) for at in lost], 50)
        assert all(found[CellIndex(at)] == cells[at] for at in lost)


@settings(max_examples=30)
@given(st.integers(1, 254), st.data())
def test_any_k_cells_give_back_all_others(k: int, data: st.DataObject) -> None:
    code = Code(k, data.draw(st.integers(1, 255 - k)))
    codec = codec_for(code)
    payload = cells_of(code, 3, k)
    cells = [*payload, *codec.encode(payload, 3)]
    kept = data.draw(st.permutations(range(code.n)))[:k]
    wanted = [CellIndex(at) for at in range(code.n) if at not in kept][:5]
    found = codec.recover({CellIndex(at): cells[at] for at in kept}, wanted, 3)
    assert all(found[at] == cells[at] for at in wanted)


def test_a_code_without_parity_has_none() -> None:
    assert Codec(Code(3, 0)).encode([b"a", b"b", b"c"], 1) == []
    assert parity_matrix(Code(3, 0)) == ()


def test_too_few_cells_are_refused() -> None:
    with pytest.raises(TooFewShards):
        Codec(Code(2, 1)).recover({CellIndex(0): b"x"}, [CellIndex(1)], 1)


@pytest.mark.parametrize(("k", "m"), [(0, 1), (1, -1), (200, 56), (256, 0)])
def test_impossible_geometries_are_refused(k: int, m: int) -> None:
    with pytest.raises(GeometryError):
        Code(k, m)


def test_a_wrong_number_of_data_cells_is_refused() -> None:
    with pytest.raises(GeometryError):
        Codec(Code(2, 1)).encode([b"x"], 1)


def test_inverted_tables_are_kept_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_module, "RECOVERIES_KEPT", 2)
    codec = Codec(Code(4, 2))
    data = cells_of(codec.code, 8, 3)
    cells = dict(enumerate([*data, *codec.encode(data, 8)]))
    for lost in range(4):
        left = {CellIndex(at): cell for at, cell in cells.items() if at != lost}
        assert codec.recover(left, [CellIndex(lost)], 8)[CellIndex(lost)] == cells[lost]
    assert len(codec._recoveries) == 2


def test_read_only_and_writable_buffers_are_taken_alike() -> None:
    codec = Codec(Code(2, 1))
    as_bytes = codec.encode([b"abcd", b"efgh"], 4)
    as_views = codec.encode([memoryview(bytearray(b"abcd")), memoryview(b"xxefgh")[2:]], 4)
    assert as_bytes == as_views
