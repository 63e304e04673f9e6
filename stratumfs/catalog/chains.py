"""What lies in a place's catalog folder: a manifest that names one *chain*, and each chain in a folder of its own.

A chain is all that is needed to show the catalog up to some transaction, in one of two forms:

    database   ``catalog.db`` and its ``-wal``: the primary's, or what was the primary's
    copy       ``base.<g>``, the database with all generations below g folded into it; ``wal.<g>.<frames>`` for each
               closed generation from g on; ``wal.<g>``, the open one; ``spare``, a folded log whose blocks are to be
               written over; ``look-*``, other names of base and log for who looks into them

A *generation* is one life of the primary's ``-wal`` between two restarts: SQLite adds 1 to its salt each time, and the
manifest says which salt generation 0 had. A folder that no manifest names is left over: it was being made, or it was
set aside. Nothing here is ever overwritten in place; all of it blocks.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from io import FileIO
from pathlib import Path
from typing import Any

import apsw
import msgspec

from stratumfs.catalog.connection import DATABASE, WAL, connect, fsync_path, log_bytes_kept, translate, wal_end
from stratumfs.catalog.epochs import Epoch, pack_epoch, unpack_epoch
from stratumfs.catalog.progress import Step, unwatched
from stratumfs.catalog.state import GET_STATE, TICK
from stratumfs.errors import CatalogCorrupt, StratumError

MANIFEST = "manifest.json"
FORMAT = 1
SALTS = 1 << 32
COPY_CHUNK = 4 << 20
COPY_SYNC = 64 << 20
"""Bytes after which a file that is copied is synced: a step of a copy takes a bounded time, and so does its last."""
CHECK_STEP = 100_000
"""Operations of SQLite's machine in a step of a check: some milliseconds."""
LOOK = "look-"
_BASE = re.compile(r"base\.(\d+)")
_CLOSED = re.compile(r"wal\.(\d+)\.(\d+)")
_OPEN = re.compile(r"wal\.(\d+)")
_CHAIN = re.compile(r"chain-[0-9a-f]{16}")


class ChainDamaged(CatalogCorrupt):
    """What lies in a chain cannot be opened or copied. Where it was to be copied to is not to blame."""


class Form(StrEnum):
    DATABASE = "database"
    COPY = "copy"


@dataclass(frozen=True, slots=True)
class Manifest:
    """folder  of the chain, in the place's catalog folder
    salt       of generation 0
    files      small files of the store folder that travel with the catalog, by name: settings, credentials
    """

    epoch: Epoch
    folder: str
    form: Form
    salt: int
    files: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chain:
    """A member's chain as its manifest will name it."""

    folder: str
    form: Form
    salt: int


def read_manifest(place: Path) -> Manifest | None:
    """Of the catalog folder *place*; None if it has none. Raises: CatalogCorrupt, OSError."""
    path = place / MANIFEST
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        plain: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
        if plain["format"] != FORMAT:
            raise CatalogCorrupt(f"{path} has format {plain['format']}, this version knows {FORMAT}")
        files = {str(name): str(text) for name, text in plain["files"].items()}
        return Manifest(
            unpack_epoch(plain["epoch"]), str(plain["folder"]), Form(plain["form"]), int(plain["salt"]), files
        )
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise CatalogCorrupt(f"{path} is damaged: {error}") from error


def write_manifest(place: Path, manifest: Manifest) -> None:
    """Replace the manifest; durable on return. What it names is on stable storage already. Raises: OSError."""
    plain = {
        "format": FORMAT,
        "epoch": pack_epoch(manifest.epoch),
        "folder": manifest.folder,
        "form": str(manifest.form),
        "salt": manifest.salt,
        "files": dict(manifest.files),
    }
    temporary = place / f"{MANIFEST}.new"
    # The files may hold secrets.
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(plain), indent=1))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(place / MANIFEST)
    fsync_path(place)


def new_chain(place: Path) -> Path:
    """An empty folder for a chain, durable; the place's catalog folder is made if it is missing."""
    if not place.exists():
        place.mkdir(mode=0o700)
        fsync_path(place.parent)
    folder = place / f"chain-{os.urandom(8).hex()}"
    folder.mkdir(mode=0o700)
    fsync_path(place)
    return folder


def forget_manifest(place: Path) -> None:
    """Nothing at *place* is named any more; durable on return. Raises: OSError."""
    (place / MANIFEST).unlink()
    fsync_path(place)


def all_chains(place: Path) -> list[Path]:
    """Those that lie at *place*, named or not. Raises: OSError."""
    return [each for each in place.iterdir() if _CHAIN.fullmatch(each.name)] if place.exists() else []


def probe(place: Path) -> None:
    """Return when the disk has answered. *place* need not be there. Raises: OSError."""
    number = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def last_sequence(place: Path, manifest: Manifest) -> int:
    """The last transaction in the chain that *manifest* names. Folds what a copy has closed.

    Raises: CatalogCorrupt, OSError.
    """
    folder = place / manifest.folder
    if manifest.form is Form.COPY:
        return _last_of_copy(folder, manifest.salt)
    if wal_salt(folder / WAL) is None:
        raise CatalogCorrupt(f"{folder / WAL} is missing or cut")
    return _count(folder / DATABASE)[1]


def build_database(source: Path, manifest: Manifest, target: Path, step: Step = unwatched) -> int:
    """Make a database in the empty folder *target* of the chain that *manifest* names at the place *source*.

    Its log goes on where that chain's ends, so that copies of the chain can follow it. Returns the salt of generation
    0. Durable on return. Raises: ChainDamaged if the source cannot be read, or what came out does not pass SQLite's
    check; OSError, CatalogCorrupt if the target fails.
    """
    base, log, frames = _source(source / manifest.folder, manifest, step)
    _copy(base, target / DATABASE, None, step)
    salt = manifest.salt
    if frames:
        _copy(log, target / WAL, wal_end(frames, _page_size(target / DATABASE)), step)
    else:
        salt = _begin_log(target)
    check_database(target, step)
    fsync_path(target)
    return salt


def check_database(folder: Path, step: Step = unwatched) -> None:
    """Read all of a database, as SQLite's quick check does. Raises: ChainDamaged; CatalogCorrupt."""

    def goes_on() -> bool:
        step()
        return False

    db = connect(folder / DATABASE)
    try:
        db.set_progress_handler(goes_on, CHECK_STEP)
        found = str(db.pragma("quick_check"))
    except apsw.Error as error:
        raise _translated(error) from error
    finally:
        db.close()
    if found != "ok":
        raise ChainDamaged(f"{folder / DATABASE} is damaged: {found.splitlines()[0]}")


def _source(folder: Path, manifest: Manifest, step: Step) -> tuple[Path, Path, int]:
    """A database, its log and how many frames of that count. Raises: ChainDamaged."""
    try:
        if manifest.form is Form.DATABASE:
            return folder / DATABASE, folder / WAL, _count(folder / DATABASE)[0]
        fold(folder, step)
        files = copy_files(folder)
        base, log = folder / f"base.{files.base}", folder / f"wal.{files.base}"
        with _log_beside(base, log if log.exists() else None, manifest.salt + files.base):
            return base, log, _count(base)[0]
    except (StratumError, OSError) as error:
        raise ChainDamaged(str(error)) from error


@dataclass(frozen=True, slots=True)
class CopyFiles:
    """The newest base of a copy, and its closed generations with their frames."""

    base: int
    closed: Mapping[int, int]


def copy_files(folder: Path) -> CopyFiles:
    """Raises: ChainDamaged if there is no base; OSError."""
    names = [each.name for each in folder.iterdir()]
    bases = [int(found[1]) for name in names if (found := _BASE.fullmatch(name))]
    closed = {int(found[1]): int(found[2]) for name in names if (found := _CLOSED.fullmatch(name))}
    if not bases:
        raise ChainDamaged(f"{folder} has no base")
    return CopyFiles(max(bases), closed)


def forget_looks(folder: Path) -> None:
    """Names that a stop has left of who looked into a copy; of one that looks now only names go."""
    for left in folder.glob(f"{LOOK}*"):
        shutil.rmtree(left, ignore_errors=True)


def fold(folder: Path, step: Step = unwatched) -> None:
    """Fold all closed generations of a copy into its base, by SQLite. A crash anywhere leaves what can be folded again.

    Raises: ChainDamaged, also if a log has not all the frames that it was closed with; CatalogCorrupt, OSError.
    """
    forget_looks(folder)
    files = copy_files(folder)
    base = files.base
    while base in files.closed:
        log = folder / f"wal.{base}.{files.closed[base]}"
        _fold_one(folder / f"base.{base}", log, files.closed[base])
        (folder / f"base.{base}").rename(folder / f"base.{base + 1}")
        fsync_path(folder)  # the base is named before its log may be written over
        if log.stat().st_size > (kept := log_bytes_kept(folder)):
            os.truncate(log, kept)
        log.rename(folder / "spare")
        base += 1
        step()


def wal_salt(path: Path) -> int | None:
    """Salt-1 in the header of a log; None if there is no header."""
    try:
        with path.open("rb") as file:
            header = file.read(32)
    except FileNotFoundError:
        return None
    return int.from_bytes(header[16:20], "big") if len(header) == 32 else None


def _last_of_copy(folder: Path, salt: int) -> int:
    fold(folder)
    base = copy_files(folder).base
    path, log = folder / f"base.{base}", folder / f"wal.{base}"
    with _log_beside(path, log if log.exists() else None, salt + base):
        return _count(path)[1]


class _log_beside:  # noqa: N801 - used as a context
    """Let SQLite see *log* as the log of *base*, if it is of the generation that begins with *salt*."""

    def __init__(self, base: Path, log: Path | None, salt: int) -> None:
        self._link = Path(f"{base}-wal")
        self._log = log if log is not None and wal_salt(log) == salt % SALTS else None

    def __enter__(self) -> None:
        self._link.unlink(missing_ok=True)
        if self._log is not None:
            os.link(self._log, self._link)

    def __exit__(self, *_: object) -> None:
        self._link.unlink(missing_ok=True)


def _fold_one(base: Path, log: Path, frames: int) -> None:
    link = Path(f"{base}-wal")
    link.unlink(missing_ok=True)
    os.link(log, link)
    try:
        db = connect(base)
        try:
            db.execute("select count(*) from sqlite_schema").fetchall()  # opens the log; without it nothing is folded
            done = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        finally:
            db.close()
    except apsw.Error as error:
        raise _translated(error) from error
    finally:
        link.unlink(missing_ok=True)
    if done != (frames, frames):  # SQLite has checked every checksum when it opened the log
        raise ChainDamaged(f"{log}: {done} frames of {frames} could be folded")


def _count(database: Path) -> tuple[int, int]:
    """(committed frames in the log, sequence of the last transaction)"""
    db = connect(database)
    try:
        row: Any = db.execute(GET_STATE, ("sequence",)).fetchone()
        frames, _ = db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    except apsw.Error as error:
        raise translate(error) from error
    finally:
        db.close()
    if row is None:
        raise CatalogCorrupt(f"{database} has lost its sequence")
    return max(frames, 0), int(row[0])


def _begin_log(folder: Path) -> int:
    """Give a database without frames a log: it begins with the next transaction. Returns its salt."""
    db = connect(folder / DATABASE)
    try:
        db.execute(TICK)
    except apsw.Error as error:
        raise _translated(error) from error
    finally:
        db.close()
    fsync_path(folder / WAL)
    salt = wal_salt(folder / WAL)
    assert salt is not None
    return salt


def _page_size(database: Path) -> int:
    with database.open("rb") as file:
        size = int.from_bytes(file.read(18)[16:18], "big")
    return 65536 if size == 1 else size


class Copied:
    """A file that grows by copying, synced as it grows."""

    def __init__(self, file: FileIO, step: Step) -> None:
        self._file, self._step = file, step
        self._synced = self.size = 0

    def add(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        self.size += len(data)
        if self.size - self._synced >= COPY_SYNC:
            os.fdatasync(self._file.fileno())
            self._synced = self.size
        self._step()

    def end(self) -> None:
        """Durable on return."""
        os.fsync(self._file.fileno())
        self._step()


def _copy(source: Path, target: Path, size: int | None, step: Step) -> None:
    """The first *size* bytes of a file, or all, as a new file on stable storage. Raises: ChainDamaged if it cannot be
    read; OSError."""
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with FileIO(descriptor, "wb") as new:
        copied = Copied(new, step)
        for data in _chunks(source, size):
            copied.add(data)
        copied.end()


def _chunks(source: Path, size: int | None) -> Iterator[bytes]:
    try:
        with source.open("rb") as old:
            left = os.fstat(old.fileno()).st_size if size is None else size
            while left:
                data = old.read(min(left, COPY_CHUNK))
                if not data:
                    raise ChainDamaged(f"{source} was cut")
                yield data
                left -= len(data)
    except OSError as error:
        raise ChainDamaged(f"{source} cannot be read: {error.strerror}") from error


def _translated(error: apsw.Error) -> Exception:
    """Of what was read from a database: pages that are no pages are its own damage, an I/O error is the disk's."""
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | apsw.FormatError):
        return ChainDamaged(f"the database is damaged: {error}")
    return translate(error)
