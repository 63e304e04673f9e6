"""Bytes written above a file: pieces that do not overlap, in the order of their offsets. Pure; nothing here waits."""

from bisect import bisect_right
from collections.abc import Iterable

import trio

from stratumfs.ids import Buffer
from stratumfs.location import Location
from stratumfs.store.writer import PendingStripe
from stratumfs.values import NewExtent


class Stripe:
    """A full stripe's worth of one file on its way into a volume. Its payload never changes.

    length    bytes of the payload, which is None once it is on stable storage and can be read from there
    pending   the stripe on its way there
    hashed    set when its bytes are hashed, which may keep them in memory; None: they are
    wanted    bytes of it, from its first on, that the file still has (a truncate takes the rest)
    """

    __slots__ = ("hashed", "length", "offset", "payload", "pending", "wanted")

    def __init__(self, offset: int, payload: Buffer) -> None:
        self.offset = offset
        self.payload: Buffer | None = payload
        self.length = self.wanted = len(payload)
        self.pending = PendingStripe(payload)
        self.hashed: trio.Event | None = None

    @property
    def location(self) -> Location | None:
        """None until it is appended; final once it is synced."""
        return self.pending.location

    @property
    def extent(self) -> NewExtent:
        """What the file still has of it, once it is appended."""
        return NewExtent(self.offset, self.wanted, self.pending.at)

    @property
    def synced(self) -> bool:
        return self.pending.synced


class Piece:
    """A run of bytes: its own (``data`` is exactly they), or a part of a stripe, from its byte ``skip`` on."""

    __slots__ = ("data", "length", "offset", "skip", "stripe")

    def __init__(self, offset: int, length: int, data: bytes | bytearray, stripe: Stripe | None, skip: int) -> None:
        self.offset = offset
        self.length = length
        self.data = data
        self.stripe = stripe
        self.skip = skip

    @property
    def end(self) -> int:
        return self.offset + self.length


class Pieces:
    """The pieces of one layer. ``own_bytes`` and ``own_count`` are of those that are not in a stripe yet.

    Owned by one layer, changed between awaits only. Neighbouring pieces of their own are one piece: writing in order,
    or the same place again, makes no new ones.
    """

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._pieces: list[Piece] = []
        self.own_bytes = 0
        self.own_count = 0

    def __len__(self) -> int:
        return len(self._pieces)

    def own(self) -> Iterable[Piece]:
        """Those that are in no stripe, by offset."""
        return (piece for piece in self._pieces if piece.stripe is None)

    def write(self, offset: int, data: bytes) -> Piece:
        """Lay *data* above what is here. Returns the piece that holds it now. *data* is kept as it is: no copy."""
        index = bisect_right(self._starts, offset) - 1
        if index >= 0:
            left = self._pieces[index]
            if left.stripe is None and offset + len(data) <= left.end:
                _writable(left)[offset - left.offset : offset - left.offset + len(data)] = data
                return left
        index = self._make_room(offset, offset + len(data))
        piece = self._append_left(index, offset, data)
        if piece is None:
            piece = Piece(offset, len(data), data, None, 0)
            self._insert(index, piece)
        else:
            index -= 1
        return self._join_right(index, piece)

    def harvest(self, piece: Piece, full: int) -> list[Stripe]:
        """Turn the first bytes of *piece* into as many full stripes as it has bytes for, *full* bytes each."""
        stripes = []
        while piece.length >= full:
            data = piece.data
            payload, rest = (data, b"") if len(data) == full else (data[:full], data[full:])
            stripe = Stripe(piece.offset, payload)
            stripes.append(stripe)
            self.own_bytes -= full
            rest_offset = piece.offset + full
            piece.data, piece.length, piece.stripe = b"", full, stripe
            if not rest:
                self.own_count -= 1
                break
            piece = Piece(rest_offset, len(rest), rest, None, 0)
            index = bisect_right(self._starts, rest_offset)
            self._starts.insert(index, rest_offset)
            self._pieces.insert(index, piece)
        return stripes

    def truncate(self, size: int) -> None:
        """Forget all bytes at or behind *size*."""
        self._make_room(size, 1 << 63)

    def over(self, start: int, stop: int) -> list[Piece]:
        """The pieces that have bytes in [start, stop), by offset."""
        index = max(bisect_right(self._starts, start) - 1, 0)
        found = []
        for piece in self._pieces[index:]:
            if piece.offset >= stop:
                break
            if piece.end > start:
                found.append(piece)
        return found

    def _insert(self, index: int, piece: Piece) -> None:
        self._starts.insert(index, piece.offset)
        self._pieces.insert(index, piece)
        if piece.stripe is None:
            self.own_bytes += piece.length
            self.own_count += 1

    def _delete(self, first: int, last: int) -> None:
        for piece in self._pieces[first:last]:
            if piece.stripe is None:
                self.own_bytes -= piece.length
                self.own_count -= 1
        del self._starts[first:last]
        del self._pieces[first:last]

    def _make_room(self, start: int, stop: int) -> int:
        """Take [start, stop) out of all pieces. Returns the index at which a piece there belongs."""
        index = bisect_right(self._starts, start) - 1
        if index >= 0 and self._pieces[index].end > start:
            self._split(index, start)
        first = bisect_right(self._starts, start - 1) if start else 0
        last = bisect_right(self._starts, stop - 1)
        if last > first and self._pieces[last - 1].end > stop:
            self._split(last - 1, stop)
        self._delete(first, last)
        return first

    def _split(self, index: int, at: int) -> None:
        """Make two pieces of one; nothing to do where *at* is its first byte."""
        piece = self._pieces[index]
        count = at - piece.offset
        if count == 0:
            return
        rest = piece.length - count
        if piece.stripe is None:
            right = Piece(at, rest, piece.data[count:], None, 0)
            piece.data = piece.data[:count]
            self.own_bytes -= rest
        else:
            right = Piece(at, rest, b"", piece.stripe, piece.skip + count)
        piece.length = count
        self._insert(index + 1, right)

    def _append_left(self, index: int, offset: int, data: bytes) -> Piece | None:
        """Lengthen the piece that ends where *data* begins, if it is one of its own."""
        if index == 0:
            return None
        left = self._pieces[index - 1]
        if left.stripe is not None or left.end != offset:
            return None
        grown = _writable(left)
        grown += data
        left.length += len(data)
        self.own_bytes += len(data)
        return left

    def _join_right(self, index: int, piece: Piece) -> Piece:
        """Make one piece of *piece* and the one that begins where it ends, if both are their own."""
        if index + 1 == len(self._pieces):
            return piece
        right = self._pieces[index + 1]
        if right.stripe is not None or right.offset != piece.end:
            return piece
        grown = _writable(piece)
        grown += right.data
        self._delete(index + 1, index + 2)
        piece.length += right.length
        self.own_bytes += right.length
        return piece


def _writable(piece: Piece) -> bytearray:
    if isinstance(piece.data, bytearray):
        return piece.data
    piece.data = bytearray(piece.data)
    return piece.data
