"""Backups of the catalog: bases, and the log that follows each, to a folder or a remote S3.

At the target, below the store's id, each series is a folder: ``base``, a copy of the database; pieces of the log, from
the beginning of the generation that was open then, see `catalog.spool`; and ``series.json``, last, which says that the
base is whole. Time in names is when a piece was taken: a catalog can be brought back as of the end of any of them.
"""

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from stratumfs import config
from stratumfs.catalog.chains import COPY_CHUNK
from stratumfs.catalog.durability import Mark, Primary
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.schema import VERSION
from stratumfs.catalog.spool import Piece, Spool, has_room, parse_piece
from stratumfs.config import SETTINGS_FILE
from stratumfs.errors import CatalogCorrupt, ConfigError, StoreBusy, StoreFull, StratumError
from stratumfs.ids import StoreId
from stratumfs.limits import BACKUP_LOG_MIN, BACKUP_RENEW
from stratumfs.owner.backup_target import Target
from stratumfs.owner.places import travelling_files
from stratumfs.threads import in_thread

FORMAT = 1
SPOOL_FOLDER = "backup"
"""In the store folder."""
BASE, SERIES_FILE = "base", "series.json"
DAY_S = 86400.0
_ASIDE = "new-"

_log = structlog.get_logger(__name__)


class SeriesHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``series.json`` says.

    page_size   of the database
    salt        of the generation that was open when the base was copied, which is number 0 of the series
    created_ns  when the base was begun
    files       settings of the store folder; keys do not leave the machine
    """

    format: int
    store: str
    schema: int
    page_size: int
    salt: int
    created_ns: int
    base_bytes: int
    files: dict[str, str]


@dataclass(frozen=True, slots=True)
class Series:
    """One whose base is whole, with its pieces in order, of which the first is that of the base."""

    name: str
    head: SeriesHead
    pieces: tuple[Piece, ...]

    @property
    def first_ns(self) -> int:
        """The earliest moment that it can bring back."""
        return self.pieces[0].time_ns

    @property
    def last(self) -> Piece:
        """The end of what it can bring back."""
        return self.until(None)[-1]

    @property
    def has_gap(self) -> bool:
        """Pieces are missing: what comes behind them is of no use."""
        return self.lacks_until(None)

    def lacks_until(self, at_ns: int | None) -> bool:
        """Whether what was taken up to that moment cannot all be brought back, for pieces are missing."""
        taken = [piece for piece in self.pieces if at_ns is None or piece.time_ns <= at_ns]
        return len(self.until(at_ns)) < len(taken)

    def until(self, at_ns: int | None) -> tuple[Piece, ...]:
        """Pieces up to that moment, without a gap; all if it is None."""
        found: list[Piece] = []
        for piece in self.pieces:
            if at_ns is not None and piece.time_ns > at_ns:
                break
            if found and not _follows(piece, found[-1]):
                break
            found.append(piece)
        return tuple(found)


class Backup:
    """One task of the owner, where settings name a target; and what does it by command.

    spool  None: settings name no target, so that the log is not followed
    """

    def __init__(
        self,
        store: StoreId,
        catalog: Catalog,
        folder: Path,
        settings: config.Backup,
        spool: Spool | None,
        open_target: Callable[[str, str | None, str | None], Target],
    ) -> None:
        self._store, self._catalog, self._folder = store, catalog, folder
        self._settings, self._spool, self._open = settings, spool, open_target
        self._turn = trio.Lock()
        """One copies aside at a time, and what it finds there is of nobody who still runs."""
        self._last: dict[str, Any] | None = None
        self._failure: str | None = None

    async def serve(self) -> None:
        """Until cancelled."""
        while self._settings.to is not None:
            await trio.sleep(self._settings.every_s)
            try:
                await self.run()
            except Exception as error:  # whatever lies at the target, or its client raises: the store goes on
                self._failure = str(error) or type(error).__name__
                known = isinstance(error, StratumError | OSError)
                _log.warning(
                    "the catalog could not be backed up",
                    to=self._settings.to,
                    error=self._failure,
                    exc_info=None if known else error,
                )

    async def run(self) -> dict[str, Any]:
        """What settings say: go on with the series, or begin another; drop what the window has left behind.

        Raises: ConfigError if they name no target; DeviceFailed, DeviceFull of the target; StoreBusy, StoreFull,
        StoreReadOnly, StratumError, OSError.
        """
        if self._settings.to is None or self._spool is None:
            raise ConfigError("no target is given, and [backup] of stratumfs.toml names none")
        async with self._turn:
            target = await in_thread(self._open, self._settings.to, self._settings.endpoint, self._settings.credentials)
            all_series = await in_thread(read_series, target, self._store)
            at = self._spool.position
            here = next((each for each in all_series if at is not None and each.name == at.series), None)
            if here is not None and (_is_long(here) or here.has_gap):
                here = None  # another one begins
            if here is not None:
                async with self._catalog.aside.kept_log() as log:
                    await in_thread(self._spool.take, log.primary, log.mark)
            if here is None or self._spool.position is None:
                name = await self._begin(target, self._spool)
            else:
                name = here.name
            await self._send(target, name)
            all_series = await in_thread(read_series, target, self._store)
            await in_thread(prune, target, self._store, all_series, self._settings.window_days * DAY_S)
        self._failure = None
        self._last = about(next(each for each in all_series if each.name == name))
        return self._last

    def standing(self) -> dict[str, Any] | None:
        """For status: where to, what was done last in this owner, and what failed since; None without a target."""
        if self._settings.to is None:
            return None
        return {"to": self._settings.to, "last": self._last, "failure": self._failure}

    async def once(self, to: str, endpoint: str | None = None, keys: str | None = None) -> dict[str, Any]:
        """A series of its own at another target, which nothing follows. Raises: as `run`."""
        async with self._turn:
            target = await in_thread(self._open, to, endpoint, keys)
            name = await self._begin(target, None)
            found = await in_thread(read_series, target, self._store)
        return about(next(each for each in found if each.name == name))

    async def _begin(self, target: Target, spool: Spool | None) -> str:
        now_ns = time.time_ns()
        seconds = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now_ns // 10**9))
        series = f"{seconds}.{now_ns % 10**9:09d}-{os.urandom(4).hex()}"
        files = {name: text for name, text in travelling_files(self._folder).items() if name == SETTINGS_FILE}
        with self._aside(series) as (base, log):
            # Aside first: nothing that a remote service takes long for keeps a checkpoint or a join from the log.
            async with self._catalog.aside.kept_log() as kept:
                mark = kept.mark
                size = await in_thread(_copy_aside, kept.primary, mark, base, log)
                kept.check()
                if spool is not None:
                    await in_thread(spool.begin, series, mark.salt, mark.end)
            head = SeriesHead(
                FORMAT, self._store.hex(), VERSION, kept.primary.page_size, mark.salt, now_ns, size, dict(files)
            )
            piece = Piece(0, 0, mark.end, mark.sequence, now_ns)
            try:
                await in_thread(_put_series, target, f"{self._store.hex()}/{series}", base, log, piece, head)
            except BaseException:
                if spool is not None:  # the next one begins another
                    with trio.CancelScope(shield=True):
                        await in_thread(spool.lose)
                raise
        _log.info("a series of the catalog's backup has begun", series=series)
        return series

    @contextmanager
    def _aside(self, series: str) -> Iterator[tuple[Path, Path]]:
        """Where a base and its log are copied to; what an earlier stop left there goes."""
        folder = self._folder / SPOOL_FOLDER
        folder.mkdir(mode=0o700, exist_ok=True)
        for left in folder.glob(f"{_ASIDE}*"):
            left.unlink()
        base, log = (folder / f"{_ASIDE}{what}.{series}" for what in ("base", "log"))
        try:
            yield base, log
        finally:
            base.unlink(missing_ok=True)
            log.unlink(missing_ok=True)

    async def _send(self, target: Target, series: str) -> None:
        assert self._spool is not None
        for piece, path in await in_thread(self._spool.waiting):
            try:
                await in_thread(_put_file, target, f"{self._store.hex()}/{series}/{piece.name}", path)
            except FileNotFoundError as error:
                raise StoreBusy("more of the log waited than may: the next backup begins another series") from error
            await in_thread(partial(path.unlink, missing_ok=True))


def read_series(target: Target, store: StoreId) -> list[Series]:
    """Those that can be brought back, oldest first: by transactions, for clocks are set back.

    Raises: DeviceFailed; CatalogCorrupt, ConfigError if one cannot be read.
    """
    items: dict[str, list[str]] = {}
    for _, series, item in _items(target, store):
        items.setdefault(series, []).append(item)
    found = []
    for series, names in sorted(items.items()):
        if SERIES_FILE in names:
            pieces = sorted(piece for name in names if (piece := parse_piece(name)) is not None)
            if pieces and (pieces[0].generation, pieces[0].start) == (0, 0):
                found.append(Series(series, _head(target, store, series), tuple(pieces)))
    return sorted(found, key=lambda each: each.pieces[0].sequence)


def stores_at(target: Target) -> list[StoreId]:
    """Whose backups lie there."""
    names = {name.partition("/")[0] for name in target.names("") if "/" in name}
    return [StoreId(bytes.fromhex(name)) for name in sorted(names) if len(name) == 32 and set(name) <= _HEX]


def prune(target: Target, store: StoreId, all_series: Sequence[Series], window_s: float) -> None:
    """Delete series that ended before the window, and behind which another one begins before it; and broken beginnings.

    A stop leaves the rest to the next time: what says that a series is whole goes first.
    """
    begin_ns = time.time_ns() - int(window_s * 1e9)
    needless = {
        each.name for each, after in pairwise(all_series) if each.last.time_ns < begin_ns and after.first_ns < begin_ns
    }
    known = {each.name for each in all_series}
    newest = max(known, default="")  # by the clock, which is all that is known of broken beginnings
    for name, series, _ in sorted(_items(target, store), key=lambda each: each[2] != SERIES_FILE):
        if series in needless or (series not in known and series < newest):
            target.delete(name)


def _items(target: Target, store: StoreId) -> Iterator[tuple[str, str, str]]:
    """(name, series, item) of what backups of *store* wrote. Other things may lie there too: a marker of a folder, a
    file that somebody put there; they are nobody's to read or delete."""
    for name in target.names(f"{store.hex()}/"):
        _, series, item = (*name.split("/", 2), "", "")[:3]
        if series and (item in {BASE, SERIES_FILE} or parse_piece(item) is not None):
            yield name, series, item


def _copy_aside(primary: Primary, mark: Mark, base: Path, log: Path) -> int:
    """Returns the length of the base. Raises: StoreFull if the catalog needs the room; PrimaryLost, OSError."""
    if not has_room(base.parent, primary.database_bytes() + mark.end):
        raise StoreFull(f"{base.parent} has no room for a copy of the catalog")
    size = _copy(primary.read_database, base, None)
    _copy(primary.read_wal, log, mark.end)
    return size


def _copy(read: Callable[[int, int], bytes], path: Path, end: int | None) -> int:
    """A file that is read by position, up to *end* or its own. Returns how long it is."""
    at = 0
    with path.open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        while at != end and (data := read(at, COPY_CHUNK if end is None else min(COPY_CHUNK, end - at))):
            file.write(data)
            at += len(data)
    return at


def _put_series(target: Target, prefix: str, base: Path, log: Path, piece: Piece, head: SeriesHead) -> None:
    _put_file(target, f"{prefix}/{BASE}", base)
    _put_file(target, f"{prefix}/{piece.name}", log)
    target.put(f"{prefix}/{SERIES_FILE}", io.BytesIO(msgspec.json.encode(head)))


def _put_file(target: Target, name: str, path: Path) -> None:
    with path.open("rb") as file:
        target.put(name, file)


def _head(target: Target, store: StoreId, series: str) -> SeriesHead:
    parts: list[bytes] = []
    target.get(f"{store.hex()}/{series}/{SERIES_FILE}", parts.append)
    try:
        head = msgspec.json.decode(b"".join(parts), type=SeriesHead)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CatalogCorrupt(f"series {series} of the backup is damaged: {error}") from error
    if head.format != FORMAT:
        raise ConfigError(f"series {series} of the backup has format {head.format}; this program knows {FORMAT}")
    return head


def _is_long(series: Series) -> bool:
    size = sum(piece.end - piece.start for piece in series.pieces)
    return size > max(BACKUP_LOG_MIN, BACKUP_RENEW * series.head.base_bytes)


def _follows(piece: Piece, last: Piece) -> bool:
    if piece.generation == last.generation:
        return piece.start <= last.end
    return piece.generation == last.generation + 1 and piece.start == 0


def about(series: Series) -> dict[str, Any]:
    """For JSON. gap: pieces are missing behind what it tells of."""
    size = series.head.base_bytes + sum(piece.end - piece.start for piece in series.pieces)
    return {
        "series": series.name,
        "from": series.first_ns / 1e9,
        "to": series.last.time_ns / 1e9,
        "sequence": series.last.sequence,
        "bytes": size,
        "gap": series.has_gap,
    }


_HEX = frozenset("0123456789abcdef")
