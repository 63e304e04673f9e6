"""Layers against a plain bytearray: whatever is written, cut and harvested, the same bytes are read."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from stratumfs import location
from stratumfs.fuse.layer import Layer
from stratumfs.fuse.pieces import Pieces
from stratumfs.ids import Nonce, StripeNo, VolumeId
from stratumfs.location import CELL_HEADER_SIZE, Location
from stratumfs.store.writer import merged

FULL = 16


@dataclass(frozen=True)
class Write:
    offset: int
    data: bytes


@dataclass(frozen=True)
class Truncate:
    size: int


_offsets = st.integers(0, 70)
_writes = st.builds(Write, _offsets, st.binary(min_size=1, max_size=40))
_steps = st.lists(st.one_of(_writes, _writes, st.builds(Truncate, _offsets)), max_size=25)


def _read(layer: Layer, beneath: bytes) -> bytes:
    out = bytearray(layer.size)
    gaps, stored = layer.fill(memoryview(out), 0, [(0, layer.size)])
    assert not stored
    for start, stop in gaps:
        out[start:stop] = beneath[start:stop]
    return bytes(out)


def _play(layer: Layer, model: bytearray, steps: list[Write | Truncate]) -> None:
    for step in steps:
        if isinstance(step, Write):
            model.extend(bytes(max(0, step.offset - len(model))))
            model[step.offset : step.offset + len(step.data)] = step.data
            layer.write(step.offset, step.data, FULL)
        else:
            del model[step.size :]
            model.extend(bytes(step.size - len(model)))
            layer.truncate(step.size)


@given(st.binary(max_size=60), _steps)
def test_a_layer_shows_what_a_file_would(beneath: bytes, steps: list[Write | Truncate]) -> None:
    layer, model = Layer(len(beneath)), bytearray(beneath)
    _play(layer, model, steps)
    assert _read(layer, beneath) == model


@given(st.binary(max_size=60), _steps)
def test_what_is_published_makes_the_same_file(beneath: bytes, steps: list[Write | Truncate]) -> None:
    layer, model = Layer(len(beneath)), bytearray(beneath)
    _play(layer, model, steps)
    made = bytearray(beneath)
    if layer.cut is not None:
        del made[layer.cut :]
    runs = [(s.offset, bytes(s.payload or b"")[: s.wanted]) for s in layer.stripes if s.wanted]
    for offset, data in [*runs, *((p.offset, bytes(p.data)) for p in layer.pieces.own())]:
        made.extend(bytes(max(0, offset - len(made))))
        made[offset : offset + len(data)] = data
    made.extend(bytes(max(0, layer.size - len(made))))
    assert made == model


@given(_steps)
def test_counts_of_pieces_stay_right(steps: list[Write | Truncate]) -> None:
    layer = Layer(0)
    _play(layer, bytearray(), steps)
    own = list(layer.pieces.own())
    assert layer.pieces.own_count == len(own)
    assert layer.pieces.own_bytes == sum(len(piece.data) for piece in own)
    assert all(piece.length == len(piece.data) > 0 for piece in own)


def _place(layer: Layer, gaps: Iterator[int], end: int) -> int:
    """Append what is not yet, behind stripe number *end* and so many others of somebody else. Returns the new end."""
    for stripe in layer.stripes:
        if stripe.location is None:
            end += next(gaps)
            stripe.pending.place(
                Location(VolumeId(b"v"), StripeNo(end), end * (CELL_HEADER_SIZE + 4), 4, 0, Nonce(end))
            )
            end += 1
    return end


@given(_steps, st.lists(st.integers(0, 1)))
def test_rows_are_counted_as_they_are_merged(steps: list[Write | Truncate], gaps: list[int]) -> None:
    layer, left, end = Layer(0), chain(gaps, repeat(0)), 0
    with patch.object(location, "STRIPE_PAYLOAD_MAX", FULL):
        for step in steps:
            _play(layer, bytearray(), [step])
            end = _place(layer, left, end)
            rows = merged(stripe.extent for stripe in layer.stripes)
            assert layer.extents == len(rows) + layer.pieces.own_count


def test_stripes_written_backwards_make_one_row_each() -> None:
    layer = Layer(0)
    with patch.object(location, "STRIPE_PAYLOAD_MAX", FULL):
        for count in (2, 1, 0):
            layer.write(count * FULL, bytes(FULL), FULL)
        _place(layer, repeat(0), 0)
        assert layer.extents == 3


def test_writing_in_order_or_again_makes_one_piece() -> None:
    pieces = Pieces()
    for offset in range(0, 40, 4):
        pieces.write(offset, b"abcd")
    for _ in range(3):
        pieces.write(7, b"xyz")
    pieces.write(44, b"end")
    pieces.write(38, b"......")
    assert [(p.offset, bytes(p.data)) for p in pieces.own()] == [(0, b"abcdabcxyzcd" + b"abcd" * 6 + b"ab......end")]


def test_a_full_stripe_is_taken_without_a_copy() -> None:
    layer = Layer(0)
    data = bytes(range(FULL))
    (stripe,) = layer.write(0, data, FULL)
    assert stripe.payload is data
    assert layer.pieces.own_bytes == layer.pieces.own_count == 0


def test_a_later_write_does_not_change_a_stripe() -> None:
    layer = Layer(0)
    (stripe,) = layer.write(0, b"a" * FULL, FULL)
    layer.write(4, b"bb", FULL)
    assert stripe.payload == b"a" * FULL
    assert _read(layer, b"") == b"aaaabb" + b"a" * 10
