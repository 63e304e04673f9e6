"""Swaps of runs against plain arrays: two files that share bytes, rewritten and cut between the transactions."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stratumfs import location
from stratumfs.catalog import extents, swap
from stratumfs.catalog.extents import clear_void, clipped, cut_extents, insert_extents, layout
from stratumfs.catalog.moves import begin_move, last_move
from stratumfs.catalog.swap import Place, swap_runs
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import insert_volume
from stratumfs.errors import CatalogCorrupt
from stratumfs.ids import DeviceId, ExtentId, InodeNo, Nonce, StripeNo, VolumeId
from stratumfs.location import Location
from stratumfs.values import MovedRun, NewExtent
from tests.stratumfs.catalog.tables import Tables

INOS = InodeNo(7), InodeNo(8)
OLD, NEW = VolumeId(b"o" * 16), VolumeId(b"n" * 16)
SIZE, CELL, FULL = 3000, 100, 400
STRIDE = CELL + location.CELL_HEADER_SIZE
RUNS = ((0, 5), (5, 1), (6, 6))
"""(first stripe, stripes) of the old volume."""


@contextmanager
def small() -> Iterator[None]:
    """So small that voids and further transactions come up all the time, and runs have many stripes."""
    with ExitStack() as stack:
        for module, name, value in (
            (extents, "_CLEAR_MAX", 1),
            (extents, "TRANSACTION_ROWS_MAX", 2),
            (swap, "TRANSACTION_ROWS_MAX", 2),
            (swap, "STRIPE_PAYLOAD_MAX", FULL),
            (location, "STRIPE_PAYLOAD_MAX", FULL),
        ):
            stack.enter_context(patch.object(module, name, value))
        yield


class World:
    """Two files over an old volume, and a new one that holds copies of runs of it."""

    def __init__(self) -> None:
        self.tables = Tables()
        self.tx: Transaction = self.tables.tx
        for volume, tier in ((OLD, "hot"), (NEW, "warm")):
            insert_volume(self.tx, volume, tier, 4, 2, [DeviceId(bytes([i]) * 16) for i in range(6)], 1)
        self.model = {ino: bytearray(SIZE) for ino in INOS}
        self.copies: list[MovedRun] = []

    def old(self, start: int, length: int) -> tuple[Location, int]:
        """A place in the old volume, and how many of *length* bytes its run has from there on."""
        stripe, skip = divmod(start, FULL)
        first, count = next(run for run in RUNS if run[0] <= stripe < run[0] + run[1])
        nonce = Nonce((2**64 - 3 + first * 1000 + stripe - first) % 2**64)  # wraps within the first run
        at = Location(OLD, StripeNo(stripe), stripe * STRIDE, CELL, skip, nonce)
        return at, min(length, (first + count) * FULL - start)

    def byte(self, at: Location) -> int:
        """What lies at a place."""
        if at.volume == OLD:
            return (at.stripe * 131 + at.skip * 7) % 251 + 1
        for run in self.copies:
            ahead = (at.stripe - run.target.stripe) * FULL + at.skip - run.target.skip
            if 0 <= ahead < run.length:
                return self.byte(run.source.advanced(ahead))
        raise AssertionError(f"nothing was written to {at}")

    def write(self, ino: InodeNo, offset: int, start: int, length: int) -> None:
        at, length = self.old(start, min(length, SIZE - offset))
        self.model[ino][offset : offset + length] = bytes(self.byte(at.advanced(i)) for i in range(length))
        insert_extents(self.tx, ino, [NewExtent(offset, length, at)], ExtentId(self.tables.ids(3)))

    def inline(self, ino: InodeNo, offset: int) -> None:
        insert_extents(self.tx, ino, [NewExtent(offset, 1, data=b"\0")], ExtentId(self.tables.ids(3)))
        self.model[ino][offset] = 0

    def cut(self, ino: InodeNo, size: int) -> None:
        cut_extents(self.tx, ino, size, ExtentId(self.tables.ids()))
        self.model[ino][size:] = bytes(SIZE - size)

    def copy(self) -> None:
        """The second file becomes one that shares the bytes of the first."""
        self.cut(INOS[1], 0)
        self.clear()
        rows = layout(self.tx, INOS[0], 0, SIZE, 1000)
        shared = [NewExtent(row.offset, row.length, row.location, row.data) for row in rows]
        insert_extents(self.tx, INOS[1], shared, ExtentId(self.tables.ids(len(rows) or 1)), fresh=True)
        self.model[INOS[1]][:] = self.model[INOS[0]]

    def clear(self) -> None:
        for ino in INOS:
            while clear_void(self.tx, ino):
                pass

    def copied(self, start: int, length: int) -> MovedRun:
        """A run of the old volume lies in the new one too from now on, beginning anywhere in a stripe."""
        source, length = self.old(start, length)
        stripe = max((run.target.advanced(run.length).stripe for run in self.copies), default=0) + 1
        target = Location(NEW, StripeNo(stripe), stripe * STRIDE, CELL, start % 7, Nonce(stripe * 31))
        self.copies.append(MovedRun(source, length, target))
        return self.copies[-1]

    def check(self) -> None:
        for ino, model in self.model.items():
            found = bytearray(SIZE)
            for extent in layout(self.tx, ino, 0, SIZE, 10_000):
                part = clipped(extent, 0, SIZE)
                found[part.offset : part.offset + part.length] = (
                    part.data
                    if part.location is None
                    else bytes(self.byte(part.location.advanced(i)) for i in range(part.length))
                )  # type: ignore[assignment]
            assert found == model
        for volume in (OLD, NEW):
            pointed = self.tx.one("select coalesce(sum(length), 0) from extent where volume = ?", (volume,))
            assert pointed == self.tx.one("select live from volume where id = ?", (volume,))


starts = st.integers(0, 12 * FULL - 1)
inos = st.sampled_from(INOS)
races = st.one_of(
    st.tuples(st.just(World.write), inos, st.integers(0, SIZE - 1), starts, st.integers(1, 1500)),
    st.tuples(st.just(World.inline), inos, st.integers(0, SIZE - 1)),
    st.tuples(st.just(World.cut), inos, st.integers(0, SIZE)),
    st.tuples(st.just(World.copy)),
    st.tuples(st.just(World.clear)),
)
swaps = st.tuples(st.just("swap"), st.lists(st.tuples(starts, st.integers(1, 2400)), min_size=1, max_size=3))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(races, races, swaps), max_size=14), st.lists(races, max_size=10))
def test_a_swap_changes_no_byte_whatever_comes_between_its_transactions(
    steps: list[tuple[object, ...]], between: list[tuple[object, ...]]
) -> None:
    with small():
        world = World()
        for step in steps:
            if step[0] == "swap":
                runs = tuple(world.copied(*each) for each in step[1])  # type: ignore[attr-defined]
                place: Place | None = Place()
                while place is not None:
                    first = ExtentId(world.tables.ids(swap.IDS_PER_SWAP))
                    place = swap_runs(world.tx, runs, place, first, None, 1).resume
                    world.check()
                    if between:
                        race = between.pop()
                        race[0](world, *race[1:])  # type: ignore[operator]
                        world.check()
            else:
                step[0](world, *step[1:])  # type: ignore[operator]
            world.check()


def swap_all(world: World, run: MovedRun, move: bytes | None = None) -> int:
    place: Place | None = Place()
    total = 0
    while place is not None:
        swapped = swap_runs(world.tx, (run,), place, ExtentId(world.tables.ids(swap.IDS_PER_SWAP)), move, 9)
        total, place = total + swapped.bytes, swapped.resume
    return total


@settings(max_examples=40, deadline=None)
@given(st.lists(races, max_size=12), starts, st.integers(1, 2400))
def test_nothing_is_left_behind_in_a_run_that_was_swapped(
    steps: list[tuple[object, ...]], start: int, length: int
) -> None:
    with small():
        world = World()
        for step in steps:
            step[0](world, *step[1:])  # type: ignore[operator]
        world.clear()
        run = world.copied(start, length)
        swap_all(world, run)
        world.check()
        left = swap_all(world, MovedRun(run.source, run.length, world.copied(start, run.length).target))
        assert left == 0, "a second swap of the same run finds nothing"


def test_copies_go_along_and_go_on_sharing() -> None:
    with small():
        world = World()
        world.write(INOS[0], 0, 0, 2000)
        world.copy()
        world.write(INOS[0], 700, 3000, 10)  # the rest of the first file begins in the middle of the copy's one row
        run = world.copied(900, 800)
        assert swap_all(world, run) == 1600
        world.check()
        places = [
            [each.location for each in layout(world.tx, ino, 900, 1700, 100) if each.location.volume == NEW]  # type: ignore[union-attr]
            for ino in INOS
        ]
        assert places[0] == places[1] == [run.target]


def test_rows_of_an_inode_with_a_void_are_swapped_whole_or_not_at_all() -> None:
    with small():
        world = World()
        for at in range(5):
            world.write(INOS[0], at * 100, at * 100, 100)
        world.write(INOS[0], 0, 3000, 450)  # hides four rows, cuts one
        assert extents.has_void(world.tx, INOS[0])
        assert swap_all(world, world.copied(3000, 200)) == 0
        assert swap_all(world, world.copied(3000, 450)) == 450
        world.check()
        world.clear()
        world.check()


def test_a_damaged_row_stays_as_it_is() -> None:
    with small():
        world = World()
        world.write(INOS[0], 0, 0, 100)
        world.write(INOS[1], 0, 0, 100)
        world.tx.run("update extent set offset = 1 where ino = ?", (INOS[0],))
        assert swap_all(world, world.copied(0, 100)) == 100
        with pytest.raises(CatalogCorrupt):
            layout(world.tx, INOS[0], 0, SIZE)


def test_what_a_move_took_along_is_recorded() -> None:
    with small():
        world = World()
        world.tx.run(
            "insert into inode select 7, mode, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, null, null, null, null from inode"
        )
        world.write(INOS[0], 0, 0, 100)
        move = begin_move(world.tx, b"m" * 16, INOS[0], "warm", 1000, "it is old", 5)
        assert swap_all(world, world.copied(0, 100), move.id) == 100
        found = last_move(world.tx, INOS[0])
        assert found is not None
        assert (found.source, found.at_ns, found.move.uid, found.move.reason, found.move.bytes) == (
            "hot",
            9,
            1000,
            "it is old",
            100,
        )
        assert last_move(world.tx, INOS[1]) is None
