"""Reading directories while they change."""

import os
from pathlib import Path

from tests.mount.conftest import Mount


def test_large_directories_are_listed_whole(mount: Mount, bucket: Path) -> None:
    for number in range(3000):
        os.mknod(bucket / f"f{number}")
    mount.shell("mkdir d1 d2", bucket)
    names = os.listdir(bucket)
    assert len(names) == len(set(names)) == 3002
    with os.scandir(bucket) as found:
        assert sum(entry.is_dir() for entry in found) == 2


def test_entries_that_stay_are_seen_once_while_others_come_and_go(bucket: Path) -> None:
    for number in range(800):
        os.mknod(bucket / f"stay{number}")
        os.mknod(bucket / f"go{number}")
    seen: list[str] = []
    with os.scandir(bucket) as entries:
        for position, entry in enumerate(entries):
            seen.append(entry.name)
            if position % 2 == 0 and position < 700:
                os.mknod(bucket / f"new{position}")
                (bucket / f"go{position}").unlink(missing_ok=True)
    stayed = [name for name in seen if name.startswith("stay")]
    assert sorted(stayed) == sorted(f"stay{number}" for number in range(800))
    assert len(seen) == len(set(seen))


_SEEK = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = ctypes.c_void_p
libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
for name in ("readdir", "telldir", "closedir"):
    getattr(libc, name).argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
directory = libc.opendir(b".")

def name():
    entry = libc.readdir(directory)
    return ctypes.string_at(entry + 19).decode() if entry else None

places = []
while True:
    place = libc.telldir(directory)
    found = name()
    if found is None:
        break
    places.append((place, found))
for gone in range(0, 500, 3):
    os.unlink(f"f{gone}")
for number in range(100):
    os.mknod(f"later{number}")
kept = [(place, found) for place, found in places if os.path.exists(found)]
for place, found in kept[::7]:
    libc.seekdir(directory, place)
    assert name() == found, found
"""


def test_telldir_and_seekdir_survive_changes(mount: Mount, bucket: Path) -> None:
    for number in range(500):
        os.mknod(bucket / f"f{number}")
    mount.python(_SEEK, folder=bucket)


def test_a_removed_directory_that_is_open_is_empty(bucket: Path) -> None:
    (bucket / "d").mkdir()
    fd = os.open(bucket / "d", os.O_RDONLY)
    (bucket / "d").rmdir()
    assert os.listdir(fd) == []
    try:
        os.close(os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    except FileNotFoundError:
        pass
    else:
        raise AssertionError("a file was made in a directory that is gone")
    finally:
        os.close(fd)
