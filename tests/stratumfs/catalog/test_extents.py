"""Extents against a plain array of bytes."""

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stratumfs import location
from stratumfs.catalog import extents
from stratumfs.catalog.extents import clear_void, clipped, cut_extents, insert_extents, layout
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import insert_volume, seal_volume
from stratumfs.errors import CatalogCorrupt, StaleIds, WriteConflict
from stratumfs.ids import DeviceId, ExtentId, InodeNo, Nonce, StripeNo, VolumeId
from stratumfs.location import Location
from stratumfs.values import NewExtent
from tests.stratumfs.catalog.tables import Tables

INO = InodeNo(7)
VOLUME = VolumeId(b"v" * 16)
SIZE = 5000
CELL = 100


def byte_at(location: Location) -> int:
    """What a volume of these tests holds at a place: a function of the place alone."""
    return (location.stripe * 131 + location.skip * 7 + location.nonce * 3) % 256


def with_volume(tables: Tables) -> Transaction:
    tx = tables.tx
    insert_volume(tx, VOLUME, "hot", 4, 2, [DeviceId(bytes([i]) * 16) for i in range(6)], 1)
    return tx


def content(tx: Transaction, size: int) -> bytes:
    """The bytes that the rows stand for."""
    found = bytearray(size)
    at = 0
    while at < size:
        chunk = layout(tx, INO, at, size, 5)
        for extent in chunk:
            part = clipped(extent, at, size)
            for i in range(part.length):
                found[part.offset + i] = (
                    part.data[i] if part.data is not None else byte_at(part.location.advanced(i))  # type: ignore[union-attr]
                )
        if len(chunk) < 5:
            break
        at = chunk[-1].offset + chunk[-1].length
    return bytes(found)


writes = st.tuples(
    st.just("write"), st.integers(0, SIZE - 1), st.integers(1, 1500), st.booleans(), st.integers(0, 1 << 20)
)
cuts = st.tuples(st.just("cut"), st.integers(0, SIZE))
clears = st.tuples(st.just("clear"))


@given(st.lists(st.one_of(writes, writes, writes, cuts, clears), max_size=25))
def test_any_sequence_of_writes_and_truncates_reads_like_an_array(steps: list[tuple[object, ...]]) -> None:
    tables = Tables()
    tx = with_volume(tables)
    model = bytearray(SIZE)
    # So small that voids come up all the time, rows are deleted in several chunks, and runs have many stripes.
    with (
        patch.object(extents, "_CLEAR_MAX", 1),
        patch.object(extents, "TRANSACTION_ROWS_MAX", 2),
        patch.object(location, "STRIPE_PAYLOAD_MAX", 4 * CELL),
    ):
        for number, step in enumerate(steps):
            match step:
                case ("write", int(offset), int(length), bool(inline), int(seed)):
                    length = min(length, SIZE - offset)
                    if inline:
                        data = bytes((seed + i) % 256 for i in range(length))
                        new = NewExtent(offset, length, data=data)
                        model[offset : offset + length] = data
                    else:
                        at = Location(VOLUME, StripeNo(seed), 0, CELL, seed % CELL, Nonce((1 << 64) - 1 - number))
                        new = NewExtent(offset, length, location=at)
                        model[offset : offset + length] = bytes(byte_at(at.advanced(i)) for i in range(length))
                    insert_extents(tx, INO, [new], ExtentId(tables.ids(3)))
                case ("cut", int(size)):
                    cut_extents(tx, INO, size, ExtentId(tables.ids()))
                    model[size:] = bytes(SIZE - size)
                case _:
                    clear_void(tx, INO)
            assert content(tx, SIZE) == model
        while clear_void(tx, INO):
            pass
        assert content(tx, SIZE) == model
    inline = tx.one("select coalesce(sum(length), 0) from extent where volume is null")
    assert inline == tx.one("select value from counter where name = 'inline_bytes'")
    live = tx.one("select coalesce(sum(length), 0) from extent where volume is not null")
    assert live == tx.one("select live from volume")


def test_a_run_over_more_rows_of_the_same_publication_than_are_cleared_at_once_hides_them() -> None:
    tables = Tables()
    tx = with_volume(tables)
    count = extents._CLEAR_MAX + 1
    rows = [NewExtent(at, 1, data=b"x") for at in range(count)]
    over = NewExtent(0, count, data=b"y" * count)
    writes = [*rows, over, NewExtent(3, 1, data=b"z")]
    assert insert_extents(tx, INO, writes, ExtentId(tables.ids(3 * len(writes))))
    shown = b"yyyz" + b"y" * (count - 4)
    assert content(tx, count) == shown
    while clear_void(tx, INO):
        pass
    assert content(tx, count) == shown
    assert tx.one("select count(*) from extent") == (3,)


def test_a_void_that_would_hide_rows_with_later_ids_than_those_drawn_is_refused() -> None:
    tables = Tables()
    tx = with_volume(tables)
    count = extents._CLEAR_MAX + 1
    first = ExtentId(tables.ids(3))
    insert_extents(tx, INO, [NewExtent(at, 1, data=b"x") for at in range(count)], ExtentId(tables.ids(3 * count)))
    with pytest.raises(StaleIds):
        insert_extents(tx, INO, [NewExtent(0, count, data=b"y" * count)], first)
    with pytest.raises(StaleIds):
        cut_extents(tx, INO, 0, first)


def test_a_flipped_column_is_noticed() -> None:
    tables = Tables()
    tx = with_volume(tables)
    insert_extents(tx, INO, [NewExtent(0, 3, data=b"abc")], ExtentId(tables.ids(3)))
    insert_extents(
        tx,
        INO,
        [NewExtent(10, 3, location=Location(VOLUME, StripeNo(1), 0, CELL, 0, Nonce(9)))],
        ExtentId(tables.ids(3)),
    )
    for column, value in (("data", b"abd"), ("position", 128), ("offset", 11), ("nonce", 8)):
        before = tx.all("select * from extent")
        where = "volume is null" if column == "data" else "volume is not null"
        tx.run(f"update extent set {column} = ? where {where}", (value,))
        with pytest.raises(CatalogCorrupt):
            layout(tx, INO, 0, 100)
        tx.run("delete from extent")
        for row in before:
            tx.run(f"insert into extent values ({', '.join('?' * len(row))})", row)


def test_a_damaged_row_can_be_overwritten_whole() -> None:
    tables = Tables()
    tx = with_volume(tables)
    insert_extents(tx, INO, [NewExtent(10, 5, data=b"abcde")], ExtentId(tables.ids(3)))
    tx.run("update extent set data = ?", (b"xxxxx",))
    insert_extents(tx, INO, [NewExtent(8, 9, data=b"123456789")], ExtentId(tables.ids(3)))
    assert content(tx, 20) == b"\0" * 8 + b"123456789" + b"\0" * 3


def test_no_row_names_a_stripe_past_the_mark_of_a_sealed_volume() -> None:
    tx = with_volume(Tables())
    seal_volume(tx, VOLUME, 2 * (128 + location.STRIPE_PAYLOAD_MAX // 4), 2, 2)
    full = location.STRIPE_PAYLOAD_MAX
    at = Location(VOLUME, StripeNo(0), 0, full // 4, 0, Nonce(5))
    insert_extents(tx, INO, [NewExtent(0, 2 * full, location=at)], ExtentId(1), fresh=True)
    for length, first in ((2 * full + 1, at), (1, at.advanced(2 * full))):
        with pytest.raises(WriteConflict, match="sealed before stripe 2"):
            insert_extents(tx, INO, [NewExtent(2 * full, length, location=first)], ExtentId(10), fresh=True)


def test_fresh_extents_overlap_nothing() -> None:
    tx = with_volume(Tables())
    insert_extents(tx, INO, [NewExtent(0, 3, data=b"abc")], ExtentId(1), fresh=True)
    for new in ([NewExtent(2, 2, data=b"cd")], [NewExtent(3, 2, data=b"de"), NewExtent(4, 1, data=b"e")]):
        with pytest.raises(WriteConflict, match="overlaps"):
            insert_extents(tx, INO, new, ExtentId(10), fresh=True)
