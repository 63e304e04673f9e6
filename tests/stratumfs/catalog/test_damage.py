"""Damaged shards, and where shards lie."""

from stratumfs.catalog.damage import (
    FIRST,
    Held,
    clear_damage,
    damage_rows,
    damaged_on,
    devices_named,
    held_behind,
    misplaced,
    move_shard,
    note_damage,
    placed_behind,
    shards_on,
)
from stratumfs.catalog.extents import insert_row
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import forget_volume, free_volumes, insert_volume, seal_volume, volume
from stratumfs.ids import CellIndex, DeviceId, InodeNo, Nonce, StripeNo, VolumeId
from stratumfs.limits import NEVER_NS
from stratumfs.location import Location
from tests.stratumfs.catalog.tables import Tables

VOLUME, OTHER = VolumeId(b"v" * 16), VolumeId(b"w" * 16)
DEVICES = [DeviceId(bytes([at]) * 16) for at in range(4)]
SPARE = DEVICES[3]
CELLS = [CellIndex(at) for at in range(3)]


def tables() -> Transaction:
    tx = Tables().tx
    for ident in (VOLUME, OTHER):
        insert_volume(tx, ident, "hot", 2, 1, DEVICES[:3], 1)
        seal_volume(tx, ident, 100, 1, 2)
    return tx


def test_damage_is_remembered_once_with_its_first_reason() -> None:
    tx = tables()
    note_damage(tx, [(VOLUME, CELLS[1], "bad"), (VOLUME, CELLS[0], "missing"), (VolumeId(b"?" * 16), CELLS[0], "")], 5)
    note_damage(tx, [(VOLUME, CELLS[1], "again")], 6)
    assert [(row.cell, row.since_ns, row.reason) for row in damage_rows(tx)] == [(0, 5, "missing"), (1, 5, "bad")]
    assert damage_rows(tx, FIRST, 1) + damage_rows(tx, (VOLUME, CELLS[0])) == damage_rows(tx)
    clear_damage(tx, VOLUME, [CELLS[0], CELLS[2]])
    assert [row.cell for row in damage_rows(tx)] == [1]


def test_damage_goes_with_its_volume() -> None:
    tx = tables()
    note_damage(tx, [(VOLUME, CELLS[1], "bad")], 5)
    free_volumes(tx, [VOLUME], 9)
    assert not forget_volume(tx, VOLUME, DEVICES[1:])
    assert len(damage_rows(tx)) == 1
    assert forget_volume(tx, VOLUME, DEVICES[:3])
    assert damage_rows(tx) == []


def test_a_shard_moves_once_and_is_sound_then() -> None:
    tx = tables()
    note_damage(tx, [(VOLUME, CELLS[1], "bad"), (VOLUME, CELLS[0], "bad")], 5)
    assert move_shard(tx, VOLUME, CELLS[1], DEVICES[1], SPARE)
    assert not move_shard(tx, VOLUME, CELLS[1], DEVICES[1], SPARE)
    row = volume(tx, VOLUME)
    assert row is not None
    assert row.devices == (DEVICES[0], SPARE, DEVICES[2])
    assert [row.cell for row in damage_rows(tx)] == [0]


def test_a_shard_does_not_move_to_where_another_one_lies_or_out_of_a_volume_that_is_open() -> None:
    tx = tables()
    assert not move_shard(tx, VOLUME, CELLS[1], DEVICES[1], DEVICES[2])
    free_volumes(tx, [OTHER], 9)
    assert move_shard(tx, OTHER, CELLS[1], DEVICES[1], SPARE)
    insert_volume(tx, VolumeId(b"x" * 16), "hot", 2, 1, DEVICES[:3], 1)
    assert not move_shard(tx, VolumeId(b"x" * 16), CELLS[1], DEVICES[1], SPARE)


def test_what_a_device_holds_is_known_from_its_side() -> None:
    tx = tables()
    note_damage(tx, [(VOLUME, CELLS[1], "bad")], 5)
    assert shards_on(tx, DEVICES[1]) == [(VOLUME, 1), (OTHER, 1)]
    assert shards_on(tx, DEVICES[1], VOLUME) == [(OTHER, 1)]
    assert held_behind(tx, DEVICES[1], NEVER_NS, VolumeId(b""), 3) == (Held(2, 200), None)
    assert held_behind(tx, DEVICES[1], NEVER_NS, VolumeId(b""), 1) == (Held(1, 100), VOLUME)
    assert held_behind(tx, DEVICES[1], NEVER_NS, VOLUME, 1) == (Held(1, 100), OTHER)
    assert held_behind(tx, DEVICES[1], NEVER_NS, OTHER, 1) == held_behind(tx, SPARE, 0, VolumeId(b""), 1)
    assert devices_named(tx) == DEVICES[:3]
    free_volumes(tx, [OTHER], 9)
    assert held_behind(tx, DEVICES[1], 9, VolumeId(b""), 3) == (Held(1, 100), None)
    assert held_behind(tx, DEVICES[1], 8, VolumeId(b""), 3) == (Held(2, 200), None)
    assert placed_behind(tx, DEVICES[1], VolumeId(b""), 3) == (2, None)
    assert placed_behind(tx, DEVICES[1], VolumeId(b""), 1) == (1, VOLUME)
    assert damaged_on(tx) == {DEVICES[1]: 1}
    assert misplaced(tx, DEVICES[1], [(VOLUME, CELLS[1]), (VOLUME, CELLS[2]), (VolumeId(b"?"), CELLS[1])]) == [
        (VOLUME, 2),
        (b"?", 1),
    ]


def test_what_an_extent_names_is_misplaced_only_where_a_row_places_it_elsewhere() -> None:
    tx = tables()
    insert_row(tx, 1, InodeNo(1), 0, 10, Location(VOLUME, StripeNo(0), 0, 64, 0, Nonce(1)), None)
    tx.run("delete from shard where volume in (?, ?) and cell = ?", (VOLUME, OTHER, CELLS[1]))
    shards = [(volume, cell) for volume in (VOLUME, OTHER) for cell in (CELLS[1], CELLS[2])]
    assert misplaced(tx, DEVICES[1], shards) == [(VOLUME, 2), (OTHER, 1), (OTHER, 2)]
    tx.run("delete from volume where id = ?", (VOLUME,))
    tx.run("delete from shard where volume = ?", (VOLUME,))
    assert misplaced(tx, DEVICES[1], shards) == [(OTHER, 1), (OTHER, 2)]
