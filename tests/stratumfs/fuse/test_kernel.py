"""What the kernel tells and is told outside of requests."""

import ctypes
import errno
import os
import threading
from pathlib import Path

import pytest

from stratumfs.fuse import kernel, mountinfo
from stratumfs.fuse.kernel import tune
from stratumfs.fuse.mountinfo import device_at, device_of
from stratumfs.fuse.session import SessionOptions
from stratumfs.fuse.wake import Waker

_MOUNTS = b"""\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
40 22 0:39 / /mnt/stratum rw,nosuid - fuse.stratumfs store rw
41 22 0:40 / /mnt/a\\040b rw,nosuid - fuse.stratumfs store rw
42 22 0:41 / /mnt/stratum rw,nosuid - fuse.stratumfs store rw
"""


@pytest.mark.parametrize(
    ("point", "device"), [("/mnt/stratum", (0, 41)), ("/mnt/a b", (0, 40)), ("/mnt", None), ("/", (254, 0))]
)
def test_the_topmost_mount_is_found(point: str, device: tuple[int, int] | None) -> None:
    assert device_of(point, _MOUNTS) == device


def test_bounds_are_raised_where_that_may_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mountinfo").write_bytes(_MOUNTS)
    (tmp_path / "41").mkdir()
    (tmp_path / "41" / "max_background").write_text("12")
    monkeypatch.setattr(mountinfo, "_MOUNTINFO", tmp_path / "mountinfo")
    monkeypatch.setattr(kernel, "_CONNECTIONS", tmp_path)
    monkeypatch.setattr(kernel, "_DEVICES", tmp_path / "nothing")
    assert device_at("/mnt/stratum") == (0, 41)
    tune(device_at("/mnt/stratum"))
    assert (tmp_path / "41" / "max_background").read_text() == "256"
    tune(None)


def test_options_become_words_for_libfuse() -> None:
    words = SessionOptions(read_only=True, allow_other=True, filesystem_name="/srv/a,b\\ü", kernel=("noatime",)).words
    assert words == {"ro", "allow_other", "noatime", "default_permissions", "subtype=stratumfs", "fsname=/srv/a?b??"}
    assert "allow_other" not in SessionOptions(allow_other=False).words


def test_a_thread_that_stands_still_in_a_call_is_interrupted() -> None:
    """In C, as pyfuse3 reads: Python itself would go on reading."""
    read_end, write_end = os.pipe()
    libc = ctypes.PyDLL(None, use_errno=True)
    errors: list[int] = []

    def stand_still() -> None:
        waker = Waker()
        waker.alive()
        buffer = ctypes.create_string_buffer(1)
        libc.read(read_end, buffer, 1)
        errors.append(ctypes.get_errno())
        waker.close()

    thread = threading.Thread(target=stand_still)
    thread.start()
    thread.join(60)
    os.close(read_end)
    os.close(write_end)
    assert errors == [errno.EINTR]
