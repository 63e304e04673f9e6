"""From 64-bit keys to slots, in 4 bytes a place: an open-addressing table beside the array that holds the keys.

A dict of integers takes over 100 bytes for each; a store has more objects than that is worth.
Source: Knuth, The Art of Computer Programming, volume 3, section 6.4, algorithm R (deletion without tombstones).
"""

import sys
from array import array

_EMPTY = 0xFFFF_FFFF
_MIX = 0x9E37_79B9_7F4A_7C15
_MASK = (1 << 64) - 1


class KeyIndex:
    """*keys* is shared: slot number to key. Places are filled up to 4/5 and grow by 2/5, so 5 to 7.2 bytes a key."""

    def __init__(self, keys: "array[int]") -> None:
        self._keys = keys
        self._count = 0
        self._places = array("I", [_EMPTY]) * 64

    def __len__(self) -> int:
        return self._count

    @property
    def nbytes(self) -> int:
        return sys.getsizeof(self._places)

    def _home(self, key: int) -> int:
        return ((((key * _MIX) & _MASK) >> 32) * len(self._places)) >> 32

    def get(self, key: int) -> int | None:
        places, keys = self._places, self._keys
        at = ((((key * _MIX) & _MASK) >> 32) * len(places)) >> 32
        while (slot := places[at]) != _EMPTY:
            if keys[slot] == key:
                return slot
            at += 1
            if at == len(places):
                at = 0
        return None

    def add(self, slot: int) -> None:
        """The key of *slot* is in the shared array already, and not yet here."""
        if 5 * (self._count + 1) > 4 * len(self._places):
            self._grow()
        self._enter(slot)
        self._count += 1

    def remove(self, slot: int) -> None:
        """The key of *slot* is still in the shared array."""
        places = self._places
        hole = self._home(self._keys[slot])
        while places[hole] != slot:
            hole = (hole + 1) % len(places)
        at = hole
        while True:
            at = (at + 1) % len(places)
            other = places[at]
            if other == _EMPTY:
                break
            # It may fill the hole unless its home lies behind the hole, on the way to where it is.
            if (at - self._home(self._keys[other])) % len(places) >= (at - hole) % len(places):
                places[hole] = other
                hole = at
        places[hole] = _EMPTY
        self._count -= 1

    def _enter(self, slot: int) -> None:
        places = self._places
        at = self._home(self._keys[slot])
        while places[at] != _EMPTY:
            at = (at + 1) % len(places)
        places[at] = slot

    def _grow(self) -> None:
        old = self._places
        self._places = array("I", [_EMPTY]) * (len(old) * 7 // 5)
        for slot in old:
            if slot != _EMPTY:
                self._enter(slot)
