"""What one door has acknowledged the other shows on its next operation, although the kernel caches for an hour."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyfuse3
import pytest

from stratumfs.fuse import invalidate
from stratumfs.ids import InodeNo
from tests.mount.conftest import Mount

_CHURN = """
import os, random, sys
folder, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
print("ready", flush=True)
for turn in range(100000):
    name = f"{folder}/own{seed}-{rng.randrange(20)}"
    try:
        rng.choice([
            lambda: os.close(os.open(name, os.O_CREAT | os.O_WRONLY)), lambda: os.unlink(name),
            lambda: os.rename(name, name + "x"), lambda: os.listdir(folder), lambda: os.stat(name),
            lambda: os.mkdir(name),
        ])()
    except OSError:
        pass
"""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The inodes, and the directories of the names, that the kernel is told to forget."""
    found: list[int] = []

    def telling(call: Callable[..., None]) -> Callable[..., None]:
        def tell(ino: int, *args: Any, **options: Any) -> None:
            found.append(ino)
            call(ino, *args, **options)

        return tell

    for name in ("invalidate_entry", "invalidate_inode"):
        monkeypatch.setattr(pyfuse3, name, telling(getattr(pyfuse3, name)))
    return found


def test_a_replaced_object_is_seen_at_once(mount: Mount, bucket: Path) -> None:
    for turn in range(100):
        data = f"turn {turn}".encode() * (turn % 7 + 1)
        mount.put(bucket, b"key", data)
        assert (bucket / "key").read_bytes() == data
        assert os.stat(bucket / "key").st_size == len(data)


def test_nothing_is_stale_while_others_churn_the_directory(
    mount: Mount, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(invalidate, "INVALIDATE_WAIT_S", 60.0)  # what hangs is late, not what a busy machine does
    late = mount.statistics()["invalidations_late"]
    (bucket / "d").mkdir()
    words = [sys.executable, "-c", _CHURN, str(bucket / "d")]
    churners = [subprocess.Popen([*words, str(seed)], stdout=subprocess.PIPE) for seed in range(3)]
    try:
        for churner in churners:
            assert churner.stdout is not None
            churner.stdout.readline()
        for turn in range(150):
            key, data = f"d/f{turn % 5}", b"%d" % turn
            if turn % 11 == 10:
                mount.delete(bucket, key.encode())
                assert not (bucket / key).exists()
            else:
                mount.put(bucket, key.encode(), data)
                assert (bucket / key).read_bytes() == data
    finally:
        for churner in churners:
            churner.kill()
            churner.communicate()
    assert mount.statistics()["invalidations_late"] == late


def test_a_name_known_to_be_missing_appears(mount: Mount, bucket: Path) -> None:
    assert not (bucket / "f").exists()
    assert not (bucket / "d").exists()
    mount.put(bucket, b"f", b"data")
    mount.put(bucket, b"d/e/f", b"deep")
    assert (bucket / "f").read_bytes() == b"data"
    assert (bucket / "d" / "e" / "f").read_bytes() == b"deep"


def test_implied_directories_come_and_go_with_their_keys(mount: Mount, bucket: Path) -> None:
    before = os.stat(bucket)
    mount.put(bucket, b"d/e/f", b"x")
    assert os.stat(bucket / "d" / "e").st_nlink == 2
    assert os.stat(bucket).st_nlink == before.st_nlink + 1
    assert os.stat(bucket).st_mtime_ns > before.st_mtime_ns
    mount.delete(bucket, b"d/e/f")
    assert not (bucket / "d").exists()
    assert os.listdir(bucket) == []
    assert os.stat(bucket).st_nlink == before.st_nlink


def test_buckets_come_and_go_with_s3(mount: Mount) -> None:
    path, links = mount.path / "made-by-s3", os.stat(mount.path).st_nlink
    assert not path.exists()
    mount.run(mount.store.objects.create_bucket, path.name, time.time_ns())
    assert os.listdir(path) == []
    assert os.stat(mount.path).st_nlink == links + 1
    mount.run(mount.store.objects.delete_bucket, path.name)
    assert not path.exists()
    assert path.name not in os.listdir(mount.path)
    assert os.stat(mount.path).st_nlink == links


def test_bytes_that_move_cost_no_call(mount: Mount, bucket: Path, told: list[int]) -> None:
    """Nothing that the kernel has depends on where they lie."""
    mount.put(bucket, b"f", b"x" * 1000)
    before, stamp = os.stat(bucket / "f"), mount.store.changes.counter
    ino = InodeNo(before.st_ino)
    (inline,) = mount.run(mount.store.reader.layout, ino, 0, 1000, set())
    mount.run(mount.store.packer.round, 1 << 30)
    (moved,) = mount.run(mount.store.reader.layout, ino, 0, 1000, set())
    assert inline.location is None
    assert moved.location is not None
    assert mount.store.changes.counter == stamp
    assert ino not in told
    assert os.stat(bucket / "f") == before
    assert (bucket / "f").read_bytes() == b"x" * 1000


def test_open_handles_keep_the_bytes_that_they_opened(mount: Mount, bucket: Path) -> None:
    old, new = os.urandom(300_000), os.urandom(200_000)
    mount.put(bucket, b"f", old)
    fd = os.open(bucket / "f", os.O_RDONLY)
    assert os.pread(fd, 1000, 0) == old[:1000]
    mount.put(bucket, b"f", new)
    assert os.pread(fd, 1 << 20, 0) == old
    assert (bucket / "f").read_bytes() == new
    mount.delete(bucket, b"f")
    assert os.pread(fd, 1000, 250_000) == old[250_000:251_000]
    os.close(fd)


def test_s3_sees_a_file_as_of_its_last_flush(mount: Mount, bucket: Path) -> None:
    fd = os.open(bucket / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"first")
    assert mount.get(bucket, b"f") == b""
    os.fsync(fd)
    assert mount.get(bucket, b"f") == b"first"
    os.write(fd, b" second")
    assert mount.get(bucket, b"f") == b"first"
    os.close(fd)
    assert mount.get(bucket, b"f") == b"first second"
    fd = os.open(bucket / "f", os.O_WRONLY | os.O_TRUNC)
    assert mount.get(bucket, b"f") == b"first second"
    os.close(fd)
    assert mount.get(bucket, b"f") == b""


def test_a_file_replaced_by_s3_while_it_is_written_stays_with_the_writer(mount: Mount, bucket: Path) -> None:
    fd = os.open(bucket / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"mine")
    mount.put(bucket, b"f", b"theirs")
    assert (bucket / "f").read_bytes() == b"theirs"
    os.write(fd, b" too")
    assert os.pread(fd, 100, 0) == b"mine too"
    os.close(fd)
    assert (bucket / "f").read_bytes() == b"theirs"


def test_creating_what_s3_created_meanwhile_opens_it(mount: Mount, bucket: Path) -> None:
    assert not (bucket / "f").exists()
    mount.put(bucket, b"f", b"theirs")
    fd = os.open(bucket / "f", os.O_CREAT | os.O_RDWR)
    assert os.read(fd, 100) == b"theirs"
    os.close(fd)
    with pytest.raises(FileExistsError):
        os.open(bucket / "f", os.O_CREAT | os.O_EXCL | os.O_RDWR)


def test_names_that_nobody_asked_the_mount_for_cost_no_call(mount: Mount, bucket: Path, told: list[int]) -> None:
    os.listdir(bucket)
    inside = os.stat(bucket).st_ino
    mount.put(bucket, b"first", b"x")
    assert told.count(inside) == 1, "of the attributes of the bucket"
    for number in range(20):
        mount.put(bucket, b"%d" % number, b"x")
    assert told.count(inside) == 1
    assert len(os.listdir(bucket)) == 21


def test_a_listing_comes_whole_in_whatever_pieces(mount: Mount, bucket: Path) -> None:
    """A chunk is an answer; the next is as large as the kernel has room for."""
    names = [f"{number:03}-{'n' * 100}" for number in range(600)]
    for name in names:
        mount.put(bucket, name.encode(), b"")
    assert sorted(os.listdir(bucket)) == names


def test_pages_stay_cached_over_a_close(mount: Mount, bucket: Path) -> None:
    """Reading again what was just written asks nobody: `keep_cache` by content number."""
    (bucket / "f").write_bytes(os.urandom(500_000))
    first = (bucket / "f").read_bytes()
    shown = mount.run(_reads, mount)
    assert (bucket / "f").read_bytes() == first
    assert mount.run(_reads, mount) == shown


async def _reads(mount: Mount) -> int:
    return sum(mount.store.volume_reader.statistics()[name] for name in ("cell_hits", "cell_misses"))
