"""Every name that POSIX allows, and every key that S3 allows, through the real kernel."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.conftest import Mount


@pytest.mark.parametrize(
    "name",
    [
        b"a" * 255,
        b"caf\xe9",
        b"\xff\xfe",
        b"_-_",
        b"_-_kx",
        b"_-_oa",
        b"_-_d" + b"0" * 32,
        b"new\nline",
        b" ",
        b"*",
        "ü".encode(),
    ],
)
def test_any_name_can_be_made_listed_and_removed(bucket: Path, name: bytes) -> None:
    path = os.fsencode(bucket) + b"/" + name
    with open(path, "wb") as file:
        file.write(b"x")
    assert os.listdir(os.fsencode(bucket)) == [name]
    os.rename(path, path[:-1] + b"Z")
    assert os.listdir(os.fsencode(bucket)) == [name[:-1] + b"Z"]
    os.unlink(path[:-1] + b"Z")
    os.mkdir(path)
    assert os.listdir(os.fsencode(bucket)) == [name]
    os.rmdir(path)
    assert os.listdir(os.fsencode(bucket)) == []


def test_names_over_255_bytes_are_too_long(bucket: Path) -> None:
    for call in (os.mkdir, os.lstat, os.unlink, os.rmdir, lambda p: os.symlink("x", p), lambda p: os.rename(bucket, p)):
        with pytest.raises(OSError) as raised:
            call(bucket / ("n" * 256))
        assert raised.value.errno == errno.ENAMETOOLONG


def test_names_that_the_mount_keeps_cannot_be_made(bucket: Path) -> None:
    with pytest.raises(PermissionError):
        (bucket / ".versions").mkdir()
    assert not (bucket / ".snapshot").exists()


def test_every_key_is_found_in_the_mount(mount: Mount, bucket: Path) -> None:
    long = b"l" * 300
    names = [
        b"plain",
        b"a/b",
        b"a",
        b"x//y",
        b"dots/../up",
        b"dots/./here",
        b"keep/.versions",
        b"_-_kmark",
        b"_-_b=41",
        long,
    ]
    for key in names:
        mount.put(bucket, key, b"key " + key)
    found = {}
    for folder, _, files in os.walk(os.fsencode(bucket)):
        for name in files:
            with open(os.path.join(folder, name), "rb") as file:
                found[file.read()] = os.path.join(folder, name)
    assert sorted(found) == sorted(b"key " + key for key in names)
    for path in found.values():
        os.unlink(path)
    assert all(key.endswith(b"/") for key in mount.keys(bucket))


def test_an_object_beside_a_directory_has_the_reserved_name(mount: Mount, bucket: Path) -> None:
    mount.put(bucket, b"a", b"object")
    assert (bucket / "a").read_bytes() == b"object"
    mount.put(bucket, b"a/b", b"below")
    assert sorted(os.listdir(bucket)) == ["_-_oa", "a"]
    assert (bucket / "_-_oa").read_bytes() == b"object"
    assert (bucket / "a" / "b").read_bytes() == b"below"
    os.rename(bucket / "a", bucket / "moved")
    assert sorted(os.listdir(bucket)) == ["a", "moved"]
    assert (bucket / "a").read_bytes() == b"object"
    # The rename came from the mount: its handler queues the change of the other spelling, it may not wait for it.
    _wait_until(lambda: not (bucket / "_-_oa").exists())
    assert [key for key in mount.keys(bucket) if not key.endswith(b"/")] == [b"a", b"moved/b"]


def test_a_bare_name_like_a_reserved_one_gives_way(mount: Mount, bucket: Path) -> None:
    (bucket / "_-_oa").write_text("bare")
    assert (bucket / "_-_oa").read_text() == "bare"
    mount.put(bucket, b"a", b"object")
    mount.put(bucket, b"a/b", b"below")
    assert (bucket / "_-_oa").read_bytes() == b"object"
    os.unlink(bucket / "_-_oa")
    assert (bucket / "_-_oa").read_text() == "bare"


@pytest.mark.parametrize("length", [250, 251, 252, 255, 256, 1000])
def test_long_segments_beside_directories_are_reached(mount: Mount, bucket: Path, length: int) -> None:
    segment = b"s" * length
    mount.put(bucket, segment, b"object")
    mount.put(bucket, segment + b"/x", b"below")
    names = os.listdir(bucket)
    assert len(names) == 2
    (file,) = [bucket / name for name in names if (bucket / name).is_file()]
    (folder,) = [bucket / name for name in names if (bucket / name).is_dir()]
    assert file.read_bytes() == b"object"
    assert (folder / "x").read_bytes() == b"below"


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
