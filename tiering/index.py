"""From 64-bit keys to slots, in 4 bytes a place: small open-addressing tables beside the array that holds the keys.

A dict of integers takes over 100 bytes for each; a store has more objects than that is worth. In which table a key lies
say the first bits of its hash. A table that is full is divided by the next bit, so that no step takes longer because
there are many keys, but for the doubling of the list of tables, a copy of one pointer for some hundred keys.
Sources: Fagin et al., "Extendible Hashing: A Fast Access Method for Dynamic Files", TODS 1979; within a table Knuth,
The Art of Computer Programming, volume 3, section 6.4, algorithm R (deletion without tombstones).
"""

import sys
from array import array

_EMPTY = 0xFFFF_FFFF
_MIX = 0x9E37_79B9_7F4A_7C15
_MASK = (1 << 64) - 1
_FIRST, DIVIDED = 64, 600
"""Places of a new table, and how many there are at least when it is divided."""
_KEYS_A_POINTER = 32
"""So many at least for each pointer in the list of tables: where hashes gather, tables grow instead."""


class _Table:
    """*depth*: so many first bits of all its keys' hashes are the same."""

    __slots__ = ("count", "depth", "places")

    def __init__(self, depth: int, places: int) -> None:
        self.depth, self.count = depth, 0
        self.places = array("I", [_EMPTY]) * places

    @property
    def nbytes(self) -> int:
        return sys.getsizeof(self) + sys.getsizeof(self.places)

    def home(self, mixed: int) -> int:
        """By the bits behind those that are the same."""
        return ((((mixed << self.depth) & _MASK) >> 32) * len(self.places)) >> 32


class KeyIndex:
    """*keys* is shared: slot number to key. Places are filled up to 4/5 and grow by 2/5, so 5 to 7.2 bytes a key, and
    half a byte for tables."""

    def __init__(self, keys: "array[int]") -> None:
        self._keys = keys
        self._count = self._depth = 0
        self._tables = [_Table(0, _FIRST)]
        self._nbytes = self._tables[0].nbytes

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        return self._nbytes + sys.getsizeof(self._tables)

    def get(self, key: int) -> int | None:
        mixed, keys = (key * _MIX) & _MASK, self._keys
        table = self._tables[mixed >> (64 - self._depth)]
        places = table.places
        at = table.home(mixed)
        while (slot := places[at]) != _EMPTY:
            if keys[slot] == key:
                return slot
            at += 1
            if at == len(places):
                at = 0
        return None

    def add(self, slot: int) -> None:
        """The key of *slot* is in the shared array already, and not yet here."""
        mixed = self._mixed(slot)
        table = self._table(mixed)
        while 5 * (table.count + 1) > 4 * len(table.places):
            self._make_room(table, mixed)
            table = self._table(mixed)
        self._enter(table, slot)
        self._count += 1

    def remove(self, slot: int) -> None:
        """The key of *slot* is still in the shared array."""
        mixed = self._mixed(slot)
        table = self._table(mixed)
        places = table.places
        hole = table.home(mixed)
        while places[hole] != slot:
            hole = (hole + 1) % len(places)
        at = hole
        while True:
            at = (at + 1) % len(places)
            other = places[at]
            if other == _EMPTY:
                break
            # It may fill the hole unless its home lies behind the hole, on the way to where it is.
            if (at - table.home(self._mixed(other))) % len(places) >= (at - hole) % len(places):
                places[hole] = other
                hole = at
        places[hole] = _EMPTY
        table.count -= 1
        self._count -= 1

    def _mixed(self, slot: int) -> int:
        return (self._keys[slot] * _MIX) & _MASK

    def _table(self, mixed: int) -> _Table:
        return self._tables[mixed >> (64 - self._depth)]

    def _enter(self, table: _Table, slot: int) -> None:
        places = table.places
        at = table.home(self._mixed(slot))
        while places[at] != _EMPTY:
            at = (at + 1) % len(places)
        places[at] = slot
        table.count += 1

    def _make_room(self, table: _Table, mixed: int) -> None:
        made = [_Table(table.depth, len(table.places) * 7 // 5)]
        if len(table.places) >= DIVIDED and (
            table.depth < self._depth or (2 << self._depth) * _KEYS_A_POINTER <= self._count
        ):
            counts = self._halves(table)
            made = [_Table(table.depth + 1, max(_FIRST, count * 7 // 4)) for count in counts]
        if made[0].depth > self._depth:
            self._tables = [each for each in self._tables for _ in range(2)]
            self._depth += 1
        self._point(made, mixed)
        for slot in table.places:
            if slot != _EMPTY:
                self._enter(self._table(self._mixed(slot)), slot)
        self._nbytes += sum(each.nbytes for each in made) - table.nbytes

    def _halves(self, table: _Table) -> tuple[int, int]:
        """How many keys go to each when it is divided."""
        bit = 1 << (63 - table.depth)
        second = sum(1 for slot in table.places if slot != _EMPTY and self._mixed(slot) & bit)
        return table.count - second, second

    def _point(self, made: list[_Table], mixed: int) -> None:
        """At one table, or at two halves, wherever it was pointed at the table that they take the place of."""
        depth = made[0].depth - len(made) + 1
        count = 1 << (self._depth - depth)
        first = mixed >> (64 - depth) << (self._depth - depth)
        for number, table in enumerate(made):
            half = count // len(made)
            self._tables[first + number * half : first + (number + 1) * half] = [table] * half
