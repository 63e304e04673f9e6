"""A part of this machine's own file tree: names, bytes and metadata as nobody made them up for a test."""

import os
import random
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

ROOTS = Path("/usr/lib"), Path("/usr/share")
_LARGE = 256 << 10
_SPARE = 1.02
"""So much more is taken, for what cannot be read or changes meanwhile."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One name. path: without the leading slash; digest: of a file's bytes; target: of a symbolic link."""

    path: str
    mode: int
    mtime_ns: int
    size: int = 0
    digest: str = ""
    target: str = ""

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)


def digest(data: bytes) -> str:
    return blake2b(data, digest_size=16).hexdigest()


def sample(files: int, size: int, seed: int, roots: Sequence[Path] = ROOTS) -> list[Entry]:
    """At least so many files of so many bytes in all, with all above them.

    Whole directories in random order until the files are enough; then only large files until the bytes are.
    """
    rng = random.Random(seed)  # noqa: S311 - repeatable is the point
    folders = sorted(folder for root in roots for folder, _, _ in os.walk(root))
    rng.shuffle(folders)
    found: dict[str, Entry] = {}
    count = total = 0
    for folder in folders:
        many = count >= files * _SPARE
        for entry in _inside(folder, _LARGE if many else 0, size // 10):
            found[entry.path] = entry
            count, total = count + entry.is_file, total + entry.size
        if count >= files * _SPARE and total >= size * _SPARE:
            break
    else:
        raise SystemExit(f"there are only {count} files of {total} bytes below {', '.join(map(str, roots))}")
    above = {str(parent) for path in found for parent in Path(path).parents if str(parent) != "."}
    found.update({path: directory for path in above if (directory := _look(f"/{path}")) is not None})
    # What lies in a directory follows it at once: tar sets the directory's times when it meets something else.
    return sorted(found.values(), key=lambda entry: entry.path.split("/"))


def to_json(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    return [asdict(entry) for entry in entries]


def from_json(rows: Sequence[dict[str, Any]]) -> list[Entry]:
    return [Entry(**row) for row in rows]


def _inside(folder: str, size_min: int, size_max: int) -> Iterator[Entry]:
    """Files of these lengths, and links, of a directory."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        if not path.isprintable() or (os.path.isdir(path) and not os.path.islink(path)):
            continue
        entry = _look(path)
        if entry is not None and (not entry.is_file or size_min <= entry.size <= size_max):
            yield entry


def _look(path: str) -> Entry | None:
    """None for what cannot be read, or is no file, link or directory."""
    try:
        seen = os.lstat(path)
        name = path.lstrip("/")
        if stat.S_ISLNK(seen.st_mode):
            return Entry(name, seen.st_mode, seen.st_mtime_ns, target=os.readlink(path))
        if stat.S_ISDIR(seen.st_mode):
            return Entry(name, seen.st_mode, seen.st_mtime_ns)
        if stat.S_ISREG(seen.st_mode):
            data = Path(path).read_bytes()
            return Entry(name, seen.st_mode, seen.st_mtime_ns, len(data), digest(data))
    except OSError:
        pass
    return None
