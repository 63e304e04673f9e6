"""What the kernel was given to keep and was not told to forget since: only of that it needs to be told."""

from itertools import count

from stratumfs.fuse.names import MARKER, readings
from stratumfs.ids import InodeNo
from stratumfs.limits import KEPT_NAMES_MAX, SPECIAL_NAMES_MAX


class Kept:
    """Names by directory, and inodes with their attributes. Used on the loop.

    Each has the number of the answer that gave it last, so that a call that has begun before does not count for it.
    A directory whose names do not fit into the bound stands for all names that there can be.
    *Special* names depend on what else is in their directory.
    """

    def __init__(self) -> None:
        self._numbers = count(1)
        self._attributes: dict[InodeNo, int] = {}
        self._names: dict[InodeNo, dict[bytes, int] | None] = {}
        self._special: dict[InodeNo, set[bytes]] = {}
        self._name_count = self._special_count = 0

    @property
    def now(self) -> int:
        """Larger than the number of all answers before, smaller than those of all after."""
        return next(self._numbers)

    def attributes(self, ino: InodeNo) -> None:
        self._attributes[ino] = next(self._numbers)

    def name(self, parent: InodeNo, posix: bytes) -> bool:
        """False if it may not be kept, for there is no room."""
        if not self.has_room(parent, posix):
            return False
        self._note_special(parent, posix)
        names = self._names.setdefault(parent, {})
        if names is None:
            return True
        if posix not in names:
            if self._name_count >= KEPT_NAMES_MAX:
                self._name_count -= len(names)
                self._names[parent] = None
                return True
            self._name_count += 1
        names[posix] = next(self._numbers)
        return True

    def has_room(self, parent: InodeNo, posix: bytes) -> bool:
        """Of special names there may be too many."""
        known = self._special_count < SPECIAL_NAMES_MAX or posix in self._special.get(parent, ())
        return known or not _is_special(posix)

    def has_attributes(self, ino: InodeNo) -> bool:
        return ino in self._attributes

    def has_name(self, parent: InodeNo, posix: bytes) -> bool:
        names = self._names.get(parent, {})
        return names is None or posix in names

    def take_special(self, parent: InodeNo) -> set[bytes]:
        """All of a directory, which are none any more."""
        names = self._special.pop(parent, set())
        self._special_count -= len(names)
        return names

    def attributes_told(self, ino: InodeNo, before: int) -> None:
        """A call that began at *before* is done."""
        if self._attributes.get(ino, before) < before:
            del self._attributes[ino]

    def name_told(self, parent: InodeNo, posix: bytes, before: int) -> None:
        """A call that began at *before* is done."""
        names = self._names.get(parent)
        if names is not None and names.get(posix, before) < before:
            del names[posix]
            self._name_count -= 1

    def forget(self, ino: InodeNo) -> None:
        """The kernel knows the inode no more, and so no name in it."""
        self._attributes.pop(ino, None)
        self._name_count -= len(self._names.pop(ino, None) or ())
        self.take_special(ino)

    def _note_special(self, parent: InodeNo, posix: bytes) -> None:
        if _is_special(posix):
            names = self._special.setdefault(parent, set())
            self._special_count += posix not in names
            names.add(posix)


def _is_special(posix: bytes) -> bool:
    return posix.startswith(MARKER) and len(readings(posix)) > 1
