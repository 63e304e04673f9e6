"""Bytes of volumes in somebody's S3 that were fetched before anybody asked for them, or beside what was asked for.

One request for what several readers want one after the other costs the time of one; and what lies in a segment must be
fetched and decrypted with it, so that its neighbours are there too. Nothing of it is needed: what is not found is
fetched by whoever wants it.
"""

import threading
from collections import OrderedDict

from stratumfs.ids import Buffer, VolumeId


class Piece:
    """Bytes [start, stop) of a volume, on their way or there. data: None until then, and of one that did not come."""

    def __init__(self, volume: VolumeId, start: int, stop: int) -> None:
        self.volume, self.start, self.stop = volume, start, stop
        self.data: Buffer | None = None
        self.ended = threading.Event()


class Recalled:
    """Pieces, *bytes_max* of them; those that nobody has asked for for longest go first. Used by any thread."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes = self.hits = 0
        self._bytes_max = bytes_max
        self._lock = threading.Lock()  # guards all but what pieces hold
        self._pieces: OrderedDict[Piece, None] = OrderedDict()
        self._of: dict[VolumeId, list[Piece]] = {}

    def begin(self, volume: VolumeId, start: int, stop: int) -> Piece | None:
        """Somebody will fetch these bytes, those left out that they begin with and that are there already, or on their
        way, and give them to `end`. None: there are no others, or there is no room."""
        with self._lock:
            for each in sorted(self._of.get(volume, ()), key=lambda piece: piece.start):
                if each.start <= start < each.stop:
                    start = each.stop
            if start >= stop or not self._make_room(stop - start):
                return None
            piece = Piece(volume, start, stop)
            self._add(piece)
            return piece

    def end(self, piece: Piece, data: Buffer | None) -> None:
        """They have come; None: they have not, and whoever waits for them fetches them himself."""
        with self._lock:
            piece.data = data
            if data is None and piece in self._pieces:
                self._drop(piece)
        piece.ended.set()

    def keep(self, volume: VolumeId, start: int, data: memoryview) -> None:
        """These were fetched."""
        piece = self.begin(volume, start, start + len(data))
        if piece is not None:
            self.end(piece, data[piece.start - start :])

    def find(self, volume: VolumeId, position: int, length: int, patience_s: float) -> bytes | None:
        """Waits for what is on its way. None if a part of it is not."""
        parts = self._parts(volume, position, length, patience_s)
        return b"".join(parts) if parts is not None else None

    def view(self, volume: VolumeId, position: int, length: int, patience_s: float) -> Buffer | None:
        """As `find`, without a copy where it lies in one piece: which is kept whole for as long as that is."""
        parts = self._parts(volume, position, length, patience_s)
        if parts is None:
            return None
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _parts(self, volume: VolumeId, position: int, length: int, patience_s: float) -> list[memoryview] | None:
        parts, at, stop = list[memoryview](), position, position + length
        while at < stop:
            with self._lock:
                piece = next((each for each in self._of.get(volume, ()) if each.start <= at < each.stop), None)
                if piece is None:
                    return None
                self._pieces.move_to_end(piece)
            if not piece.ended.wait(patience_s):
                return None
            data = piece.data
            part = memoryview(data if data is not None else b"")[at - piece.start : stop - piece.start]
            if not part:
                return None
            parts.append(part)
            at += len(part)
        self.hits += 1
        return parts

    def forget(self, volume: VolumeId) -> None:
        with self._lock:
            for piece in list(self._of.get(volume, ())):
                self._drop(piece)

    def _make_room(self, count: int) -> bool:
        if self.bytes + count <= self._bytes_max:
            return True
        for piece in list(self._pieces):
            if piece.ended.is_set():
                self._drop(piece)
                if self.bytes + count <= self._bytes_max:
                    return True
        return False

    def _add(self, piece: Piece) -> None:
        self._pieces[piece] = None
        self._of.setdefault(piece.volume, []).append(piece)
        self.bytes += piece.stop - piece.start

    def _drop(self, piece: Piece) -> None:
        del self._pieces[piece]
        of = self._of[piece.volume]
        of.remove(piece)
        if not of:
            del self._of[piece.volume]
        self.bytes -= piece.stop - piece.start
