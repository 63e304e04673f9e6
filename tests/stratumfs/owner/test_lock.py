import os
from pathlib import Path

import pytest

from stratumfs.devices.check import LOCK_FILE
from stratumfs.errors import DeviceFailed, StoreInUse
from stratumfs.ids import DeviceId
from stratumfs.owner import asking
from stratumfs.owner.asking import NO_ANSWER
from stratumfs.owner.lock import Locks


def folders(tmp_path: Path, count: int) -> list[tuple[DeviceId, Path]]:
    found = []
    for number in range(count):
        path = tmp_path / f"d{number}"
        path.mkdir()
        found.append((DeviceId(bytes([count - number]) * 16), path))
    return found


def test_who_finds_one_lock_held_gets_none(tmp_path: Path) -> None:
    devices = folders(tmp_path, 3)
    first, second, third = Locks(), Locks(), Locks()
    first.take_all(None, devices[1:2])
    with pytest.raises(StoreInUse, match=f"d1 is in use.*process {os.getpid()}"):
        second.take_all(tmp_path, devices)
    third.take_all(tmp_path, [devices[0], devices[2]])
    third.release()
    first.release()
    second.take_all(tmp_path, devices)
    second.release()


def test_locks_are_taken_in_the_order_of_device_ids_and_the_store_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = folders(tmp_path, 3)
    taken: list[Path] = []
    take = Locks.take

    def noting(locks: Locks, folder: Path) -> None:
        taken.append(folder)
        take(locks, folder)

    monkeypatch.setattr(Locks, "take", noting)
    locks = Locks()
    locks.take_all(tmp_path, devices)
    locks.release()
    assert [path.name for path in taken] == ["d2", "d1", "d0", tmp_path.name]


def test_a_device_that_appears_later_is_locked_beside_the_others(tmp_path: Path) -> None:
    devices = folders(tmp_path, 2)
    locks, other = Locks(), Locks()
    locks.take_all(tmp_path, devices[:1])
    locks.take(devices[1][1])
    locks.take(devices[1][1])
    with pytest.raises(StoreInUse):
        other.take(devices[1][1])
    locks.release()


def test_the_lock_file_stays_and_is_private(tmp_path: Path) -> None:
    locks = Locks()
    locks.take(tmp_path)
    inode = (tmp_path / LOCK_FILE).stat().st_ino
    locks.release()
    locks.take(tmp_path)
    locks.release()
    assert (tmp_path / LOCK_FILE).stat().st_ino == inode
    assert (tmp_path / LOCK_FILE).stat().st_mode & 0o777 == 0o600


def test_a_device_that_cannot_be_locked_is_told_of_and_the_others_are_held(tmp_path: Path) -> None:
    devices = folders(tmp_path, 3)
    (devices[1][1] / LOCK_FILE).mkdir()
    locks = Locks()
    failed = locks.take_all(tmp_path, devices)
    assert list(failed) == [devices[1][0]]
    assert "d1" in failed[devices[1][0]]
    with pytest.raises(StoreInUse):
        Locks().take(devices[0][1])
    locks.release()


def test_a_folder_that_cannot_be_locked_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeviceFailed, match="gone"):
        Locks().take(tmp_path / "gone")
    (tmp_path / LOCK_FILE).symlink_to("/dev/null")
    with pytest.raises(DeviceFailed, match="lock"):
        Locks().take(tmp_path)


def test_a_store_folder_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ask", lambda calls: dict.fromkeys(calls, NO_ANSWER))
    with pytest.raises(DeviceFailed, match="no answer"):
        Locks().take_all(tmp_path, [])
