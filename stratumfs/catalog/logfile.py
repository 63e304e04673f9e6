"""A log that is open: what is written to it counts as long as its name leads to it."""

import os
from pathlib import Path

from stratumfs.descriptor import Descriptor
from stratumfs.errors import CatalogCorrupt


class LogFile(Descriptor):
    """What lies at its path must be what was opened there: bytes of a file without a name are lost with us."""

    __slots__ = ("_identity", "_path")

    def __init__(self, path: Path, number: int) -> None:
        """Owns *number*, which was opened at *path*. Raises: OSError."""
        super().__init__(number)
        self._path = os.fspath(path)
        found = os.fstat(number)
        self._identity = found.st_dev, found.st_ino

    def hold(self, end: int) -> None:
        """Return when all that was written is on stable storage. Raises: OSError; CatalogCorrupt if there is no such
        file of at least *end* bytes any more."""
        os.fdatasync(self.number)
        try:
            named = os.stat(self._path)
        except FileNotFoundError as error:
            raise CatalogCorrupt(f"{self._path} was removed") from error
        if (named.st_dev, named.st_ino) != self._identity:
            raise CatalogCorrupt(f"{self._path} was replaced")
        if named.st_size < end:
            raise CatalogCorrupt(f"{self._path} was cut")
