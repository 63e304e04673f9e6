"""The log as it grows, in pieces that wait to be taken to a backup: in order, without gaps, nothing twice.

A *series* is a base and the pieces behind it. Where a gap comes in (an owner without this, a disk that fails) it ends,
and another one begins with a base of its own. A piece is written before the position that says so; one that a stop left
behind the position is written again, with the same bytes.

Where the target is away pieces wait here, on the catalog's disk, but no more than a new base would be worth, and not
where they would keep the store from writing: then the series ends too, and all pieces go.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from stratumfs.catalog.chains import COPY_CHUNK, SALTS
from stratumfs.catalog.connection import fsync_path
from stratumfs.catalog.durability import Mark, Primary
from stratumfs.errors import StoreBusy, StoreFull, StratumError
from stratumfs.limits import (
    BACKUP_LOG_MIN,
    BACKUP_RENEW,
    SPOOL_SMALL_SHARE,
    SPOOL_SPARE_BYTES,
    SPOOL_SPARE_LOG_BYTES,
    SPOOL_SPARE_SHARE,
)

POSITION = "position.json"
_UNFINISHED = "piece.new"


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a series goes: byte *end* of the log of *generation*, which is counted from *salt*.

    closed  that is all of the generation, which is over, so that the next one may follow
    """

    series: str
    salt: int
    generation: int
    end: int
    closed: bool


@dataclass(frozen=True, slots=True, order=True)
class Piece:
    """Bytes [start, end) of the log of a generation. sequence, time_ns: of the last transaction in it, and when it was
    taken. Names are in the order of the log."""

    generation: int
    start: int
    end: int
    sequence: int
    time_ns: int

    @property
    def name(self) -> str:
        return f"wal.{self.generation:010d}.{self.start:014d}.{self.end:014d}.{self.sequence}.{self.time_ns}"


def parse_piece(name: str) -> Piece | None:
    """None for what is no piece's name."""
    word, *numbers = name.split(".")
    if word != "wal" or len(numbers) != 5 or not all(number.isdecimal() for number in numbers):
        return None
    return Piece(*map(int, numbers))


def fits(count: int, waiting: int, free: int, total: int) -> bool:
    """Whether *count* bytes may be put beside *waiting* ones on a disk of the catalog's that has so much."""
    return count <= free - spare_bytes(total) or waiting + count <= free // SPOOL_SMALL_SHARE


def spare_bytes(total: int) -> int:
    """Of a disk of the catalog's: what is free there for more than what nobody needs at once."""
    return max(min(SPOOL_SPARE_BYTES, total // SPOOL_SPARE_SHARE), min(SPOOL_SPARE_LOG_BYTES, total // 2))


def has_room(folder: Path, count: int, waiting: int = 0) -> bool:
    """`fits` in *folder* as it is now. Blocking. Raises: OSError."""
    found = os.statvfs(folder)
    return fits(count, waiting, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)


class Spool:
    """Pieces of one series in a folder. Its methods block, but for `give_up`, and may be called by several threads.

    `_lock` is held while files are written. `_state` guards the position and `_ends`, how often a series ended here,
    and is never held over a call that may hang: a call that began before the last end changes nothing any more.

    position  None: no series goes on here
    """

    def __init__(self, folder: Path, clock: Callable[[], int]) -> None:
        """Raises: OSError if the folder cannot be made."""
        self._folder, self._clock = folder, clock
        self._lock, self._state = threading.Lock(), threading.Lock()
        self._ends = 0
        folder.mkdir(mode=0o700, exist_ok=True)
        self.position = self._read()

    def begin(self, series: str, salt: int, end: int) -> None:
        """A new series, whose backup has its first generation up to *end* already. Raises: OSError."""
        with self._lock:
            ends = self._ends
            self._remove_pieces()
            self._set(Position(series, salt, 0, end, False), ends)

    def take(self, primary: Primary, mark: Mark) -> None:
        """What the log has behind the position, up to *mark*, which every member of the catalog holds.

        What cannot be taken, or was started over meanwhile, ends the series. Raises nothing.
        """
        self._go_on(partial(self._take, primary, mark))

    def close(self, mark: Mark) -> None:
        """The log has been started over behind *mark*. A series that has not all up to there ends. Raises nothing."""
        self._go_on(partial(self._close, mark))

    def lose(self) -> None:
        """The series ends here: what waits is of no use without what is lost."""
        self.give_up()
        with self._lock:
            self._clear()

    def give_up(self) -> None:
        """The same, but what lies in the folder goes with the call that hangs there, or the next one."""
        with self._state:
            self._ends += 1
            self.position = None

    def waiting(self) -> list[tuple[Piece, Path]]:
        """Pieces that are to be taken to the backup, in order. Raises: OSError."""
        found = [(piece, path) for path in self._folder.iterdir() if (piece := parse_piece(path.name)) is not None]
        return sorted(found)

    def _go_on(self, step: Callable[[Position, int], None]) -> None:
        with self._state:
            at, ends = self.position, self._ends
        if at is None:
            return
        with self._lock:
            with self._state:
                at = self.position if ends == self._ends else None
            try:
                if at is not None:
                    step(at, ends)
            except (OSError, StratumError):
                with self._state:
                    if ends == self._ends:
                        self._ends += 1
                        self.position = None
            self._clear()

    def _take(self, primary: Primary, mark: Mark, at: Position, ends: int) -> None:
        generation = (mark.salt - at.salt) % SALTS
        if generation == at.generation and mark.end >= at.end:
            start = at.end
        elif generation == at.generation + 1 and at.closed:
            start = 0
        else:
            raise StoreBusy("the log goes on elsewhere than the series")
        if start < mark.end:
            self._demand_room(primary, mark.end - start)
            self._write(primary, Piece(generation, start, mark.end, mark.sequence, self._clock()), mark.salt)
            self._set(Position(at.series, at.salt, generation, mark.end, False), ends)

    def _close(self, mark: Mark, at: Position, ends: int) -> None:
        if ((mark.salt - at.salt) % SALTS, mark.end) != (at.generation, at.end):
            raise StoreBusy("the log was started over before all of it was taken")
        self._set(Position(at.series, at.salt, at.generation, at.end, True), ends)

    def _clear(self) -> None:
        """Of a series that has ended nothing stays. With `_lock`, so that no other one begins meanwhile."""
        if self.position is None:
            with suppress(OSError):
                (self._folder / POSITION).unlink(missing_ok=True)
                self._remove_pieces()

    def _demand_room(self, primary: Primary, count: int) -> None:
        waiting = sum(piece.end - piece.start for piece, _ in self.waiting())
        bound = max(BACKUP_LOG_MIN, BACKUP_RENEW * primary.database_bytes())
        if waiting + count > bound or not has_room(self._folder, count, waiting):
            raise StoreFull(f"{waiting + count} bytes of the log would wait for a backup")

    def _remove_pieces(self) -> None:
        (self._folder / _UNFINISHED).unlink(missing_ok=True)
        for _, path in self.waiting():
            path.unlink()

    def _write(self, primary: Primary, piece: Piece, salt: int) -> None:
        temporary = self._folder / _UNFINISHED
        with temporary.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            at = piece.start
            while at < piece.end:
                data = primary.read_wal(at, min(COPY_CHUNK, piece.end - at))
                file.write(data)
                at += len(data)
            file.flush()
            os.fsync(file.fileno())
        if primary.salt() != salt:  # nobody waited for this any more
            raise StoreBusy("the log was started over while it was read")
        temporary.rename(self._folder / piece.name)
        fsync_path(self._folder)

    def _read(self) -> Position | None:
        with suppress(OSError, msgspec.MsgspecError):
            return msgspec.json.decode((self._folder / POSITION).read_bytes(), type=Position)
        return None

    def _set(self, position: Position, ends: int) -> None:
        temporary = self._folder / f"{POSITION}.new"
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(position))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._folder / POSITION)
        fsync_path(self._folder)
        with self._state:
            if ends == self._ends:
                self.position = position
