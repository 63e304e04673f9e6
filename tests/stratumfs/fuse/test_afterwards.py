"""The program that outlives an owner; ``tests/mount/test_killed.py`` has what it is for."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from stratumfs.fuse import afterwards
from stratumfs.fuse.mountinfo import device_at

NO_DEVICE = 0, 1 << 19


def test_it_ends_with_the_owner_and_leaves_other_mounts_alone() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as owner:
        words = [sys.executable, "-m", afterwards.__name__, str(owner.pid), *map(str, NO_DEVICE), "/"]
        with subprocess.Popen(words) as program:
            owner.kill()
            assert program.wait(60) == 0
    assert os.listdir("/")


def test_a_connection_that_is_another_mounts_by_now_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(afterwards, "_CONNECTIONS", tmp_path)
    device = device_at("/proc")
    assert device is not None
    (tmp_path / str(device[1])).mkdir()
    abort = tmp_path / str(device[1]) / "abort"
    afterwards.abort_connection("/nowhere", device)
    assert not abort.exists()
    afterwards.abort_connection("/proc", device)
    assert abort.read_text() == "1"


def test_an_owner_whose_first_thread_is_gone_is_dying() -> None:
    assert not afterwards._is_dying(os.getpid())
    with subprocess.Popen(["true"]) as ended:
        fd = os.pidfd_open(ended.pid)
        assert select.select([fd], [], [], 60)[0]
        os.close(fd)
        assert afterwards._is_dying(ended.pid)
    assert not afterwards._is_dying(ended.pid)
