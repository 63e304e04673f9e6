"""All that was written to a file since a moment: it lies above what is beneath. Pure; nothing here waits."""

from collections.abc import Sequence

from stratumfs.fuse.pieces import Piece, Pieces, Stripe

Gap = tuple[int, int]
"""[start, stop) of a file that a layer says nothing about."""


class Layer:
    """Writes and truncates on top of a file of ``size`` bytes, to be published together.

    floor       bytes from here on are this layer's or zeros; those before may show what is beneath
    cut         smallest size that the file had, if it was truncated
    stripes     in the order in which they were cut off: a later one lies above earlier ones
    mtime_ns    for the publication; changed_ns: of the last change, for ctime
    since       time of the first change, on the clock of whoever owns the layer
    etag        for the publication, once the layer is frozen
    """

    __slots__ = (
        "_placed",
        "_runs",
        "changed",
        "changed_ns",
        "cut",
        "etag",
        "floor",
        "mtime_ns",
        "pieces",
        "since",
        "size",
        "stripes",
    )

    def __init__(self, size: int) -> None:
        self.size = self.floor = size
        self.cut: int | None = None
        self.pieces = Pieces()
        self.stripes: list[Stripe] = []
        self.changed = False
        self.mtime_ns = self.changed_ns = 0
        self.since = 0.0
        self.etag: str | None = None
        self._placed = self._runs = 0

    @property
    def extents(self) -> int:
        """Rows that a publication takes: pieces, and runs of stripes that lie behind one another (counted so far)."""
        while self._placed < len(self.stripes) and self.stripes[self._placed].location is not None:
            before = self.stripes[self._placed - 1].extent if self._placed else None
            self._runs += before is None or not before.continued_by(self.stripes[self._placed].extent)
            self._placed += 1
        return self.pieces.own_count + self._runs

    def write(self, offset: int, data: bytes, full: int) -> list[Stripe]:
        """Lay *data* on top. Returns the stripes of *full* bytes that are complete now."""
        piece = self.pieces.write(offset, data)
        self.size = max(self.size, offset + len(data))
        if piece.length < full:
            return []
        stripes = self.pieces.harvest(piece, full)
        self.stripes += stripes
        return stripes

    def truncate(self, size: int) -> list[Stripe]:
        """The file gets this size; new bytes are zeros. Returns the stripes that nobody wants any more."""
        gone: list[Stripe] = []
        if size < self.size:
            self.cut = size if self.cut is None else min(self.cut, size)
            self.floor = min(self.floor, size)
            self.pieces.truncate(size)
            for stripe in self.stripes:
                stripe.wanted = min(stripe.wanted, max(0, size - stripe.offset))
            gone = [stripe for stripe in self.stripes if not stripe.wanted]
            self.stripes = [stripe for stripe in self.stripes if stripe.wanted]
            self._placed = self._runs = 0
        self.size = size
        return gone

    def fill(self, out: memoryview, start: int, gaps: Sequence[Gap]) -> tuple[list[Gap], list[tuple[Piece, int, int]]]:
        """Copy what this layer has of *gaps* to *out*, whose first byte is byte *start* of the file.

        *out* must be zeros. Returns the gaps that show what is beneath, and parts (piece, start, stop) of stripes whose
        payload is in memory no more.
        """
        beneath: list[Gap] = []
        stored: list[tuple[Piece, int, int]] = []
        for low, high in gaps:
            at = low
            for piece in self.pieces.over(low, high):
                self._show_beneath(beneath, at, piece.offset)
                first, last = max(low, piece.offset), min(high, piece.end)
                if not _copy(piece, first, last, out, start):
                    stored.append((piece, first, last))
                at = last
            self._show_beneath(beneath, at, high)
        return beneath, stored

    def _show_beneath(self, beneath: list[Gap], start: int, stop: int) -> None:
        stop = min(stop, self.floor)
        if start < stop:
            beneath.append((start, stop))


def _copy(piece: Piece, start: int, stop: int, out: memoryview, base: int) -> bool:
    """False where the bytes are in memory no more."""
    source = piece.data if piece.stripe is None else piece.stripe.payload
    if source is None:
        return False
    first = start - piece.offset + piece.skip
    out[start - base : stop - base] = memoryview(source)[first : first + stop - start]
    return True
