"""What a disk holds, and what a kill or a power cut leaves of it.

A file's bytes survive a power cut as they were at its last fsync or fdatasync, a name as its folder was at the folder's
last fsync: nothing more is promised by POSIX, and nothing more is taken for granted here. What came later may be there
or not, whole or in part (`torn`).
"""

import os
import random
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

Image = dict[str, bytes | None]
"""Paths below the root with their bytes; None is a folder."""

LEFT_OUT = ("catalog.db-shm", "lock", "control")
"""Shared memory, locks and sockets: they mean nothing to the next process."""

SECTOR = 512
"""What a disk writes whole or not at all."""


@dataclass(frozen=True, slots=True)
class Contents:
    """Folders (name to inode number) and files by inode number."""

    root: int
    folders: Mapping[int, Mapping[str, int]]
    files: Mapping[int, bytes]


def image_of(contents: Contents) -> Image:
    """All of it, by path."""
    image: Image = {}
    waiting = [("", contents.root)]
    while waiting:
        path, number = waiting.pop()
        for name, child in contents.folders[number].items():
            image[path + name] = contents.files.get(child)
            if child not in contents.files:
                waiting.append((f"{path}{name}/", child))
    return image


def image_below(root: Path) -> Image:
    """What processes see below *root*."""
    with closing(Disk(root)) as disk:
        return image_of(disk.now())


def write_image(image: Image, root: Path) -> None:
    """Make *root* hold *image* and nothing else."""
    while root.exists():  # a thread that nobody waits for any more may be closing something in it
        shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    for path, data in sorted(image.items()):  # without `Path`, whose objects take longer than the files in memory
        if data is None:
            os.mkdir(f"{root}/{path}", 0o700)
        else:
            with open(
                os.open(f"{root}/{path}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0
            ) as file:
                assert file.write(data) == len(data)


def torn(safe: Contents, now: Contents, rng: random.Random) -> Image:
    """After a power cut that took some of what was not synced: any names, any sectors."""
    image: Image = {}
    waiting = [("", now.root)]
    while waiting:
        path, number = waiting.pop()
        for name, child in _mixed_names(safe.folders.get(number, {}), now.folders.get(number, {}), rng).items():
            if child in safe.folders or child in now.folders:
                image[path + name] = None
                waiting.append((f"{path}{name}/", child))
            else:
                image[path + name] = _mixed_bytes(safe.files.get(child, b""), now.files.get(child, b""), rng)
    return image


def _mixed_names(old: Mapping[str, int], new: Mapping[str, int], rng: random.Random) -> dict[str, int]:
    names = {}
    for name in sorted(old.keys() | new.keys()):
        child = (old if rng.random() < 0.5 else new).get(name)
        if child is not None:
            names[name] = child
    return names


def _mixed_bytes(old: bytes, new: bytes, rng: random.Random) -> bytes:
    """Each sector old or new. One of which nothing was safe may be zeros, or anything, instead.

    A sector that holds synced bytes beside new ones is written whole or not at all, and never damaged: disks promise
    this (SQLite calls it powersafe overwrite), and both the WAL and the shards rely on it.
    """
    how = rng.choice(("old", "new", "sectors", "zeros", "garbage"))
    if old == new or how in ("old", "new"):
        return old if how == "old" else new
    size = rng.choice((len(old), len(new), rng.randint(min(len(old), len(new)), max(len(old), len(new)))))
    mixed = bytearray(old.ljust(size, b"\0")[:size])
    wanted = new.ljust(size, b"\0")[:size]
    for at in range(0, size, SECTOR):
        before, after = mixed[at : at + SECTOR], wanted[at : at + SECTOR]
        if before == after or rng.random() < 0.5:
            continue
        if how == "sectors" or any(before):
            mixed[at : at + SECTOR] = after
        elif how == "garbage":
            mixed[at : at + SECTOR] = rng.randbytes(len(after))
    return bytes(mixed)


class Disk:
    """Follows what of *root* is on stable storage. What it finds at first counts as synced.

    Each file that it meets is kept open, so that no inode number comes to mean another file. Not thread-safe: whoever
    calls it keeps everybody else from changing anything meanwhile.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._descriptors: dict[int, int] = {}
        self._last: dict[int, bytes] = {}
        self._folders: set[int] = set()
        first = self.now()
        self._root_number = first.root
        self._safe_folders = {number: dict(names) for number, names in first.folders.items()}
        self._safe_files = dict(first.files)

    def close(self) -> None:
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def synced(self, path: Path) -> None:
        """The file or folder at *path* was synced."""
        number = path.stat().st_ino
        if path.is_dir():
            self._safe_folders[number] = self._names(path)[0]
        else:
            self._safe_files[number] = self._read(path, number)

    def safe(self) -> Contents:
        """What a power cut cannot take. A safe name may stand for a folder or file of which nothing else is."""
        folders = {number: dict(names) for number, names in self._safe_folders.items()}
        files = dict(self._safe_files)
        for number in {child for names in self._safe_folders.values() for child in names.values()}:
            if number in self._folders:
                folders.setdefault(number, {})
            else:
                files.setdefault(number, b"")
        return Contents(self._root_number, folders, files)

    def now(self) -> Contents:
        """What processes see, and files that lost their last name."""
        folders: dict[int, dict[str, int]] = {}
        files: dict[int, bytes] = {}
        waiting = [self._root]
        while waiting:
            folder = waiting.pop()
            number = folder.stat().st_ino
            self._folders.add(number)
            folders[number], below = self._names(folder)
            waiting += [folder / name for name in below]
            for name, child in folders[number].items():
                if name not in below:
                    files[child] = self._read(folder / name, child)
        for number in self._descriptors.keys() - files.keys():
            files[number] = self._last[number]
        return Contents(self._root.stat().st_ino, folders, files)

    def _names(self, folder: Path) -> tuple[dict[str, int], list[str]]:
        """All names in *folder*, and those that are folders."""
        names, folders = {}, []
        with os.scandir(folder) as found:
            for entry in found:
                if entry.name in LEFT_OUT:
                    continue
                names[entry.name] = entry.inode()
                if entry.is_dir():
                    folders.append(entry.name)
                    self._folders.add(entry.inode())
        return names, folders

    def _read(self, path: Path, number: int) -> bytes:
        if number not in self._descriptors:
            self._descriptors[number] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        descriptor = self._descriptors[number]
        data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        if data != self._last.get(number):
            self._last[number] = data
        return self._last[number]  # one object for equal bytes: a run has hundreds of moments
