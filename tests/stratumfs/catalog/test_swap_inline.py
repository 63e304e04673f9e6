"""Swaps of inline extents: a row that is still the one that was read points at its copy, another stays as it is."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from stratumfs.catalog.extents import clear_void, cut_extents, insert_extents, layout
from stratumfs.catalog.reap import inline_bytes
from stratumfs.catalog.swap import inline_extents, swap_inline
from stratumfs.catalog.volumes import FREED, insert_volume
from stratumfs.erasure.checksum import digest
from stratumfs.errors import WriteConflict
from stratumfs.ids import DeviceId, ExtentId, InodeNo, Nonce, StripeNo, VolumeId
from stratumfs.location import Location
from stratumfs.values import NewExtent, PackedExtent
from tests.stratumfs.catalog.tables import Tables

FILE, OTHER = InodeNo(7), InodeNo(8)
VOLUME = VolumeId(b"v" * 16)


class World:
    """Two files with three inline extents each, and copies of all of them in one stripe."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.tx = self.tables.tx
        insert_volume(self.tx, VOLUME, "hot", 4, 2, [DeviceId(bytes([i]) * 16) for i in range(6)], 1)
        for ino in (FILE, OTHER):
            for offset in (0, 100, 200):
                self.write(ino, offset, b"%d" % ino * 100)
        self.rows, _ = inline_extents(self.tx, ExtentId(0))
        self.packed = [
            PackedExtent(row.id, row.ino, row.offset, row.length, digest(row.data or b""), self.place(number * 100))
            for number, row in enumerate(self.rows)
        ]

    def place(self, skip: int) -> Location:
        return Location(VOLUME, StripeNo(3), 9000, 150, skip, Nonce(2**64 - 1))

    def write(self, ino: InodeNo, offset: int, data: bytes) -> None:
        insert_extents(self.tx, ino, [NewExtent(offset, len(data), data=data)], ExtentId(self.tables.ids(3)))

    def live(self) -> int:
        row = self.tx.one("select live from volume where id = ?", (VOLUME,))
        assert row is not None
        return int(row[0])


def test_rows_keep_their_ids_and_are_counted() -> None:
    world = World()
    assert [row.id for row in world.rows] == sorted(row.id for row in world.rows)
    assert swap_inline(world.tx, world.packed) == 600
    assert (world.live(), inline_bytes(world.tx)) == (600, 0)
    for ino in (FILE, OTHER):
        found = layout(world.tx, ino, 0, 300)  # checks each row against its sum
        assert [(row.id, row.location, row.data) for row in found] == [
            (each.id, each.target, None) for each in world.packed if each.ino == ino
        ]
    assert inline_extents(world.tx, ExtentId(0)) == ([], None)
    assert swap_inline(world.tx, world.packed) == 0


@pytest.mark.parametrize(
    "race",
    [
        lambda world: world.write(FILE, 100, b"x" * 100),
        lambda world: world.write(FILE, 150, b"x" * 10),
        lambda world: cut_extents(world.tx, FILE, 150, ExtentId(world.tables.ids())),
        lambda world: cut_extents(world.tx, FILE, 0, ExtentId(world.tables.ids())),
    ],
    ids=["overwritten", "split", "cut", "emptied"],
)
def test_what_happened_meanwhile_wins(race: Callable[[World], None]) -> None:
    world = World()
    race(world)
    before = layout(world.tx, FILE, 0, 300)
    swap_inline(world.tx, world.packed)
    after = layout(world.tx, FILE, 0, 300)
    swapped = {each.id: each.target for each in world.packed}
    for was, now in zip(before, after, strict=True):
        assert (was.id, was.offset, was.length) == (now.id, now.offset, now.length)
        assert now.location == swapped.get(was.id)
    assert all(row.location is not None for row in layout(world.tx, OTHER, 0, 300))
    packed = sum(row.length for row in (*after, *layout(world.tx, OTHER, 0, 300)) if row.location is not None)
    assert world.live() == packed


def test_a_copy_of_other_bytes_is_not_taken_for_one() -> None:
    world = World()
    assert swap_inline(world.tx, [replace(world.packed[0], hash=digest(b"other"))]) == 0
    assert (world.live(), inline_bytes(world.tx)) == (0, 600)


def test_a_volume_that_was_freed_meanwhile_is_named_by_none() -> None:
    world = World()
    world.tx.run("update volume set state = ?", (FREED,))
    with pytest.raises(WriteConflict):
        swap_inline(world.tx, world.packed)


def test_what_a_void_hides_stays_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr("stratumfs.catalog.extents._CLEAR_MAX", 1)
    assert cut_extents(world.tx, FILE, 0, ExtentId(world.tables.ids()))
    assert swap_inline(world.tx, world.packed) == 600
    assert layout(world.tx, FILE, 0, 300) == []
    while clear_void(world.tx, FILE):
        pass
    assert world.live() == 300


def test_damaged_rows_are_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.tx.run("update extent set data = ? where id = ?", (b"?" * 100, world.rows[1].id))
    first, after = inline_extents(world.tx, ExtentId(0), 2)
    assert ([row.id for row in first], after) == ([world.rows[0].id], world.rows[1].id)
    rest, after = inline_extents(world.tx, world.rows[1].id, 100)
    assert ([row.id for row in rest], after) == ([row.id for row in world.rows[2:]], None)
