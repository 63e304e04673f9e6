"""A copy of the catalog as it is now, to look into, beside who ships to it. Blocking.

Nothing is copied, but where a store is only read: a catalog may be larger than any room for scratch. The base and the
log of the open generation get other names, under which a connection of its own reads them without locks. The log only
grows meanwhile, and the connection does not look for more; but folding writes into the base. So what was read counts if
no generation was closed before and the same is there after, and is read again otherwise: of a later moment then.
"""

import errno
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import apsw

from stratumfs.catalog.chains import LOOK, SALTS, ChainDamaged, CopyFiles, copy_files, wal_salt
from stratumfs.catalog.connection import DATABASE, WAL, private_view
from stratumfs.catalog.transaction import Transaction
from stratumfs.errors import CatalogCorrupt, StoreBusy, is_starved
from stratumfs.ids import PlaceId

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_TRIES = 300
_PAUSE_S = 0.1
"""A generation is folded in less, but for those of a slow disk: then it is tried again later."""


@dataclass(frozen=True, slots=True)
class CopyAt:
    """A chain in the form of a copy. label: of its place; salt: of generation 0; untouched: nothing is to be changed
    where it lies, not even for a moment, and nobody folds it."""

    place: PlaceId
    label: str
    folder: Path
    salt: int
    untouched: bool = False


class Snapshot:
    """What *copy* holds: of one moment as long as it is not folded. Used by one thread at a time; close it."""

    def __init__(self, copy: CopyAt) -> None:
        """Raises: ChainDamaged if it cannot be read; StoreBusy if it is being folded for long."""
        self.copy = copy
        self._db: apsw.Connection | None = None
        self._tx, self._files = self._open_again()

    def read(self, fn: Callable[[Transaction, *Ts], T], *args: *Ts) -> T:
        """What *fn* finds, which may be run again. Raises: as the constructor."""
        for _ in range(_TRIES):
            try:
                found = fn(self._tx, *args)
            except CatalogCorrupt as error:
                if self._is_there():
                    raise ChainDamaged(f"{self.copy.folder}: {error}") from error
            else:
                if self._is_there():
                    return found
            self._tx, self._files = self._open_again()
        raise StoreBusy(f"{self.copy.folder} is folded again and again")

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _is_there(self) -> bool:
        """What was opened."""
        return self._look() == self._files

    def _look(self) -> CopyFiles:
        try:
            return copy_files(self.copy.folder)
        except OSError as error:
            raise _of_source(self.copy.folder, error) from error

    def _open_again(self) -> tuple[Transaction, CopyFiles]:
        self.close()
        for _ in range(_TRIES):
            before = self._look()
            if not before.closed and (db := self._open(before)) is not None:
                self._db = db
                if self._look() == before:
                    return Transaction(db, writable=False), before
                self.close()
            time.sleep(_PAUSE_S)
        raise StoreBusy(f"{self.copy.folder} is being folded")

    def _open(self, files: CopyFiles) -> apsw.Connection | None:
        """None if they are not there any more."""
        folder = self.copy.folder
        try:
            names = Path(tempfile.mkdtemp(prefix=LOOK, dir=None if self.copy.untouched else folder))
        except OSError as error:
            raise StoreBusy(f"{folder} cannot be looked into: {error.strerror}") from error
        try:
            log = folder / f"wal.{files.base}"
            self._name(folder / f"base.{files.base}", names / DATABASE)
            if wal_salt(log) == (self.copy.salt + files.base) % SALTS:
                self._name(log, names / WAL)
            return private_view(names / DATABASE)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _of_source(folder, error) from error
        except CatalogCorrupt as error:
            if self._look() != files:
                return None
            raise ChainDamaged(f"{folder}: {error}") from error
        finally:
            shutil.rmtree(names, ignore_errors=True)  # what is open stays so

    def _name(self, path: Path, name: Path) -> None:
        """Let *path* be *name* too; of what is not to be touched that is a copy in the folder for temporary files."""
        if not self.copy.untouched:
            os.link(path, name)
            return
        if shutil.disk_usage(name.parent).free < path.stat().st_size:
            raise StoreBusy(f"{path} cannot be looked into: {name.parent} has no room for it")
        shutil.copyfile(path, name)


def _of_source(source: Path, error: OSError) -> ChainDamaged | StoreBusy:
    words = f"{source} cannot be read: {error.strerror}"
    return StoreBusy(words) if is_starved(error) or error.errno in _NO_ROOM else ChainDamaged(words)
