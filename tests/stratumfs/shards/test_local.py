"""Shards as files pass the suite, and never write where they should not."""

import errno
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from queue import SimpleQueue
from typing import Any

import pytest
import trio

from stratumfs.errors import DeviceFailed, DeviceFull, DeviceUnasked, ShardMissing
from stratumfs.ids import MIB, CellIndex, VolumeId
from stratumfs.shards.layout import ShardName, path_of
from stratumfs.shards.local import LocalOpenShard, LocalShards
from tests.both.passthrough import devices
from tests.suites.shard_backend import NAME, ShardBackendSuite, all_names


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On a disk, which has a page cache."""
    return tmp_path_factory.mktemp("shards")


class TestLocalShards(ShardBackendSuite):
    @pytest.fixture
    def shards(self, tmp_path: Path) -> LocalShards:
        return LocalShards(tmp_path)


def names(count: int) -> list[ShardName]:
    return [ShardName(VolumeId(bytes([at]) * 16), CellIndex(0)) for at in range(count)]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_files_for_reading_are_kept_open_within_a_bound(tmp_path: Path) -> None:
    shards = LocalShards(tmp_path, open_max=2)
    for name in names(6):
        shard = shards.create(name)
        shard.write_at(0, [name.volume])
        shard.close()
    before = open_files()
    for name in names(6) * 2:
        assert shards.read_at(name, 0, 16) == name.volume
    assert open_files() == before + 2
    shards.close()
    assert open_files() == before - 1


@pytest.mark.parametrize("let_go", [lambda shards: shards.unlink(NAME), lambda shards: shards.close()])
def test_regression_no_file_is_closed_under_the_lock_that_the_loop_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, let_go: Callable[[LocalShards], None]
) -> None:
    """On a disk that hangs close(2) hangs too."""
    shards = LocalShards(tmp_path)
    shards.create(NAME).write_at(0, [b"abcdef"])
    held = list[bool]()
    close = os.close
    monkeypatch.setattr(os, "close", lambda number: [held.append(shards._lock.locked()), close(number)])
    shards.read_at(NAME, 0, 6)
    let_go(shards)
    assert held
    assert not any(held)


def test_regression_a_file_that_two_open_at_once_is_not_closed_under_that_lock_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = LocalShards(tmp_path)
    shards.create(NAME).write_at(0, [b"abcdef"])
    held = list[bool]()
    close, opened = os.close, shards._open_file
    monkeypatch.setattr(os, "close", lambda number: [held.append(shards._lock.locked()), close(number)])

    def beside(path: PurePosixPath, flags: int) -> int:
        monkeypatch.setattr(shards, "_open_file", opened)
        shards.read_at(NAME, 0, 6)
        return opened(path, flags)

    monkeypatch.setattr(shards, "_open_file", beside)
    assert shards.read_at(NAME, 0, 6) == b"abcdef"
    assert held == [False]


def test_what_the_page_cache_has_is_read_without_waiting(tmp_path: Path) -> None:
    shards = LocalShards(tmp_path)
    shards.create(NAME).write_at(0, [b"abcdef"])
    found = bytearray(3)
    assert not shards.read_nowait(NAME, 0, [memoryview(found)])  # not open yet, and opening may block
    shards.read_at(NAME, 0, 6)
    assert shards.read_nowait(NAME, 1, [memoryview(found)])
    assert found == b"bcd"


def test_files_that_are_no_shards_are_skipped(tmp_path: Path) -> None:
    shards = LocalShards(tmp_path)
    shards.create(NAME)
    path = tmp_path / path_of(NAME)
    (path.parent / "notes.txt").write_text("x")
    (path.parent / ("ff" * 16 + ".0")).write_text("in the wrong folder")
    (tmp_path / "volumes" / "stray").write_text("x")
    assert all_names(shards) == [NAME]


def test_quarantined_files_keep_their_bytes(tmp_path: Path) -> None:
    shards = LocalShards(tmp_path)
    for content in (b"first", b"second"):
        shards.create(NAME).write_at(0, [content])
        shards.quarantine([NAME])
    assert {each.read_bytes() for each in (tmp_path / "quarantine").iterdir()} == {b"first", b"second"}


def test_a_missing_folder_is_a_failed_device(tmp_path: Path) -> None:
    with pytest.raises(DeviceFailed, match="missing"):
        LocalShards(tmp_path / "missing")


def test_a_folder_that_vanishes_is_a_failed_device_and_is_never_made_again(tmp_path: Path) -> None:
    root = tmp_path / "device"
    root.mkdir()
    shards = LocalShards(root)
    root.rmdir()
    with pytest.raises(DeviceFailed):
        shards.create(NAME)
    assert not root.exists()


def test_another_folder_under_the_same_path_gets_nothing(tmp_path: Path) -> None:
    root = tmp_path / "device"
    root.mkdir()
    shards = LocalShards(root)
    root.rename(tmp_path / "moved")  # as an unmount does: the path now names what was underneath
    root.mkdir()
    shards.create(NAME)
    assert list(root.iterdir()) == []
    assert (tmp_path / "moved" / path_of(NAME)).exists()


def test_an_emptied_device_has_no_shards_but_is_no_failure(tmp_path: Path) -> None:
    shards = LocalShards(tmp_path)
    shards.create(NAME)
    shutil.rmtree(tmp_path / "volumes")
    with pytest.raises(ShardMissing):
        shards.read_at(NAME, 0, 1)


def test_a_full_device_says_so(tmp_path: Path) -> None:
    shards = LocalShards(tmp_path)
    full = LocalOpenShard(shards, NAME, os.open("/dev/full", os.O_RDWR))
    with pytest.raises(DeviceFull) as caught:
        full.write_at(0, [b"x"])
    assert caught.value.device == str(tmp_path)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_this_process_lacks_is_no_failure_of_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    shards = LocalShards(tmp_path)

    def refuse(*args: object, **options: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    calls: list[Callable[[], object]] = [
        lambda: LocalShards(tmp_path),
        lambda: shards.create(NAME),
        lambda: shards.read_at(NAME, 0, 1),
        shards.probe,
    ]
    for call in calls:
        with pytest.raises(DeviceUnasked, match=os.strerror(number)) as caught:
            call()
        assert caught.value.device == str(tmp_path)


def test_a_folder_that_was_emptied_under_a_new_shard_is_the_devices_failure(tmp_path: Path) -> None:
    shards = LocalShards(tmp_path)
    shards.create(NAME)
    shutil.rmtree(tmp_path / "volumes")
    with pytest.raises(DeviceFailed, match="cannot sync the folder"):
        shards.sync_folder(NAME)


@pytest.mark.parametrize(
    ("call", "use"),
    [
        ("ftruncate", lambda shard: shard.cut(0)),
        ("pwritev", lambda shard: shard.write_at(0, [b"x"])),
        ("fdatasync", LocalOpenShard.datasync),
    ],
)
def test_a_file_that_a_device_has_lost_under_its_writer_is_the_devices_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, use: Callable[[LocalOpenShard], object]
) -> None:
    shards = LocalShards(tmp_path)
    shard = LocalOpenShard(shards, NAME, os.open(tmp_path / "lost", os.O_RDWR | os.O_CREAT, 0o600))

    def gone(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, gone)
        with pytest.raises(DeviceFailed):
            use(shard)
    shard.close()


def test_a_shard_that_is_let_go_of_is_closed_by_its_last_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that hangs must not find that the number of its file is another file's by now."""
    shard = LocalShards(tmp_path).create(NAME)
    numbers: list[int] = []

    def hanging(number: int, parts: object, position: int) -> int:
        shard.close()
        os.fstat(number)  # still open
        numbers.append(number)
        return 1

    monkeypatch.setattr(os, "pwritev", hanging)
    shard.write_at(0, [b"x"])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(numbers[0])
    with pytest.raises(DeviceFailed):
        shard.datasync()


def test_a_file_opened_while_it_is_replaced_is_not_kept(tmp_path: Path) -> None:
    """Else its readers would meet the damage that was repaired for as long as it is among the open ones."""
    shards = LocalShards(tmp_path)
    shards.create(NAME).write_at(0, [b"old"])
    new = shards.begin_anew(NAME)
    new.write_at(0, [b"new"])
    opened = shards._open_file

    def replaced_meanwhile(path: PurePosixPath, flags: int) -> int:
        vars(shards)["_open_file"] = opened
        number = opened(path, flags)
        shards.install(NAME)
        return number

    vars(shards)["_open_file"] = replaced_meanwhile
    assert shards.read_at(NAME, 0, 3) == b"old"
    assert shards.read_at(NAME, 0, 3) == b"new"


async def test_regression_a_file_that_is_dropped_while_the_loop_reads_it_is_closed_by_another_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = LocalShards(tmp_path, open_max=1)
    kept, other = names(2)
    for name in (kept, other):
        shard = shards.create(name)
        shard.write_at(0, [b"x" * 4096])
        shard.close()
    close, preadv, closers = os.close, os.preadv, SimpleQueue[threading.Thread]()

    def dropping(*args: Any) -> int:
        thread = threading.Thread(target=shards.read_at, args=(other, 0, 1))
        thread.start()
        thread.join()
        return preadv(*args)

    shards.read_at(kept, 0, 1)
    monkeypatch.setattr(os, "close", lambda number: (close(number), closers.put(threading.current_thread())))
    monkeypatch.setattr(os, "preadv", dropping)
    assert shards.read_nowait(kept, 0, [memoryview(bytearray(10))])
    assert await trio.to_thread.run_sync(closers.get) is not threading.main_thread()
    monkeypatch.undo()
    shards.close()


@pytest.mark.slow
def test_regression_room_costs_no_writes_where_the_file_system_cannot_allocate(tmp_path: Path) -> None:
    """A large shard was made anew on such a device, and the device was struck: it had not answered for 30 s."""
    with devices(tmp_path, 1) as [device]:
        shards = LocalShards(device.point)
        shard = shards.create(NAME)
        try:
            shard.preallocate(0, 64 * MIB)
            assert shard.size() == 0
            with pytest.raises(DeviceFull):
                shard.preallocate(0, 1 << 60)
        finally:
            shard.close()
            shards.close()


def test_there_is_room_for_what_was_allocated(tmp_path: Path) -> None:
    shards = LocalShards(tmp_path)
    shard = shards.create(NAME)
    shard.preallocate(0, MIB)
    assert shard.size() == MIB
    assert (tmp_path / path_of(NAME)).stat().st_blocks * 512 >= MIB
    shard.close()
