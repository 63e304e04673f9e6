"""Reading and writing through the real kernel, as programs do."""

import ctypes
import errno
import fcntl
import os
from pathlib import Path

import pytest

from tests.mount.conftest import Mount


def _fd(path: Path, flags: int, mode: int = 0o644) -> int:
    return os.open(path, flags, mode)


def test_what_one_handle_writes_another_reads_at_once(bucket: Path) -> None:
    writer = _fd(bucket / "f", os.O_CREAT | os.O_WRONLY)
    reader = _fd(bucket / "f", os.O_RDONLY)
    other = _fd(bucket / "f", os.O_RDWR)
    os.write(writer, b"0123456789")
    assert os.pread(reader, 100, 2) == b"23456789"
    os.pwrite(other, b"xx", 4)
    assert os.pread(reader, 100, 0) == b"0123xx6789"
    assert os.stat(bucket / "f").st_size == 10
    for fd in (writer, reader, other):
        os.close(fd)
    assert (bucket / "f").read_bytes() == b"0123xx6789"


def test_append_goes_to_the_end_wherever_that_is(bucket: Path) -> None:
    one = _fd(bucket / "f", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    two = _fd(bucket / "f", os.O_WRONLY | os.O_APPEND)
    for turn in range(50):
        os.write(one, f"one {turn}\n".encode())
        os.write(two, f"two {turn}\n".encode())
    os.close(one)
    os.close(two)
    expected = "".join(f"one {turn}\ntwo {turn}\n" for turn in range(50))
    assert (bucket / "f").read_text() == expected


def test_holes_are_zeros_and_a_cut_file_does_not_come_back(bucket: Path) -> None:
    fd = _fd(bucket / "f", os.O_CREAT | os.O_RDWR)
    os.pwrite(fd, b"a" * 5000, 3_000_000)
    assert os.pread(fd, 10, 2_999_995) == b"\0" * 5 + b"a" * 5
    os.ftruncate(fd, 3_002_000)
    os.fsync(fd)
    os.ftruncate(fd, 3_005_000)
    assert os.pread(fd, 6000, 3_001_998) == b"aa" + b"\0" * 3000
    os.ftruncate(fd, 10)
    os.ftruncate(fd, 20)
    os.close(fd)
    assert (bucket / "f").read_bytes() == b"\0" * 20


def test_truncate_by_path_is_seen_by_whoever_has_it_open(bucket: Path) -> None:
    (bucket / "f").write_bytes(b"x" * 10_000)
    with (bucket / "f").open("rb") as reader:
        os.truncate(bucket / "f", 3)
        assert reader.read() == b"xxx"
    writer = _fd(bucket / "f", os.O_WRONLY)
    os.pwrite(writer, b"y" * 10, 0)
    os.truncate(bucket / "f", 5)
    assert (bucket / "f").read_bytes() == b"yyyyy"
    os.close(writer)
    assert (bucket / "f").read_bytes() == b"yyyyy"


def test_opening_with_trunc_shows_an_empty_file_at_once(bucket: Path) -> None:
    (bucket / "f").write_bytes(b"old")
    fd = _fd(bucket / "f", os.O_WRONLY | os.O_TRUNC)
    assert os.stat(bucket / "f").st_size == 0
    assert (bucket / "f").read_bytes() == b""
    os.close(fd)
    assert (bucket / "f").read_bytes() == b""


def test_an_unlinked_file_lives_as_long_as_somebody_has_it_open(mount: Mount, bucket: Path) -> None:
    fd = _fd(bucket / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"before")
    other = _fd(bucket / "f", os.O_RDONLY)
    (bucket / "f").unlink()
    assert os.fstat(fd).st_nlink == 0
    os.write(fd, b" and after" * 200_000)
    os.fsync(fd)
    os.ftruncate(fd, 16)
    os.close(fd)
    assert os.pread(other, 100, 0) == b"before and after"
    os.close(other)
    assert not (bucket / "f").exists()


def test_a_replaced_file_lives_on_in_open_handles(bucket: Path) -> None:
    (bucket / "f").write_bytes(b"old")
    fd = _fd(bucket / "f", os.O_RDONLY)
    (bucket / "g").write_bytes(b"new")
    (bucket / "g").replace(bucket / "f")
    assert os.read(fd, 10) == b"old"
    assert (bucket / "f").read_bytes() == b"new"
    os.close(fd)


def test_direct_io_reads_and_writes_what_others_see(bucket: Path) -> None:
    fd = _fd(bucket / "f", os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    os.write(fd, b"d" * 8192)
    assert (bucket / "f").read_bytes() == b"d" * 8192
    os.close(fd)


@pytest.mark.parametrize("flag", [os.O_RDONLY, os.O_WRONLY])
def test_access_modes_of_handles_hold(bucket: Path, flag: int) -> None:
    (bucket / "f").write_bytes(b"x")
    fd = _fd(bucket / "f", flag)
    with pytest.raises(OSError) as raised:
        os.write(fd, b"y") if flag == os.O_RDONLY else os.read(fd, 1)
    assert raised.value.errno == errno.EBADF
    os.close(fd)


def test_large_files_come_back_as_they_went(mount: Mount, bucket: Path) -> None:
    mount.shell(
        "head -c 7000000 /dev/urandom | tee big | md5sum > sum; md5sum < big | cmp - sum;"
        " dd if=big of=copy bs=1237 status=none; cmp big copy;"
        " dd if=big of=copy bs=1M conv=notrunc oflag=direct status=none; cmp big copy;"
        " printf patch | dd of=copy bs=1 seek=3000000 conv=notrunc status=none; ! cmp -s big copy;"
        " [ $(cmp -l big copy | wc -l) -le 5 ]",
        bucket,
    )


def test_a_file_written_in_order_has_its_md5_as_etag(mount: Mount, bucket: Path) -> None:
    mount.shell("head -c 3000000 /dev/urandom > f; printf small > g; : > h", bucket)
    for name in "fgh":
        md5 = mount.shell(f"md5sum < {name}", bucket).split()[0]
        assert os.getxattr(bucket / name, "user.stratum.etag").decode() == md5
    with (bucket / "g").open("r+b") as file:
        file.seek(2)
        file.write(b"X")
    etag = os.getxattr(bucket / "g", "user.stratum.etag").decode()
    assert etag.endswith("-1")
    assert len(etag) == 34


def test_locks_of_both_kinds_exclude_other_processes(mount: Mount, bucket: Path) -> None:
    (bucket / "f").write_bytes(b"")
    with (bucket / "f").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mount.shell("! flock -n f true", bucket)
        fcntl.flock(file, fcntl.LOCK_UN)
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0)
        probe = (
            "import fcntl, sys; f = open('f', 'r+b')\n"
            "fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)\n"
            "try: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)\n"
            "except OSError: sys.exit(0)\n"
            "sys.exit('the lock was given twice')"
        )
        mount.python(probe, folder=bucket)


def test_mappings_write_through_and_see_writes(mount: Mount, bucket: Path) -> None:
    script = """
import mmap, os
fd = os.open("f", os.O_CREAT | os.O_RDWR)
os.ftruncate(fd, 100_000)
with mmap.mmap(fd, 100_000) as view:
    view[50_000:50_005] = b"hello"
    view.flush()
    assert os.pread(fd, 5, 50_000) == b"hello"
    os.pwrite(fd, b"HELLO", 70_000)
    assert view[70_000:70_005] == b"HELLO"
    view[99_990:99_995] = b"world"
os.close(fd)
"""
    mount.python(script, folder=bucket)
    data = (bucket / "f").read_bytes()
    assert data[50_000:50_005] == b"hello"
    assert data[70_000:70_005] == b"HELLO"
    assert data[99_990:99_995] == b"world"
    assert len(data) == 100_000


def test_a_mapping_that_outlives_its_handle_is_not_lost(mount: Mount, bucket: Path) -> None:
    script = """
import mmap, os
fd = os.open("f", os.O_CREAT | os.O_RDWR)
os.ftruncate(fd, 1 << 20)
view = mmap.mmap(fd, 1 << 20)
os.close(fd)
for at in range(0, 1 << 20, 4096):
    view[at] = at >> 12 & 0xFF
view.close()
"""
    mount.python(script, folder=bucket)
    data = (bucket / "f").read_bytes()
    assert all(data[at] == at >> 12 & 0xFF for at in range(0, 1 << 20, 4096))


def test_what_the_door_cannot_do_says_so(bucket: Path) -> None:
    fd = _fd(bucket / "f", os.O_CREAT | os.O_RDWR)
    os.write(fd, b"x" * 1000)
    os.pwrite(fd, b"y", 1_000_000)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 0
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 1_000_001
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.fallocate(fd, 0, ctypes.c_long(0), ctypes.c_long(4096)) == -1
    assert ctypes.get_errno() == errno.EOPNOTSUPP
    for call in (lambda: os.pwrite(fd, b"x", 6 << 40), lambda: os.ftruncate(fd, 6 << 40)):
        with pytest.raises(OSError) as raised:
            call()
        assert raised.value.errno == errno.EFBIG
    os.close(fd)


def test_files_far_larger_than_their_content(bucket: Path) -> None:
    fd = _fd(bucket / "f", os.O_CREAT | os.O_RDWR)
    os.ftruncate(fd, 4 << 40)
    os.pwrite(fd, b"end", (4 << 40) - 3)
    os.close(fd)
    with (bucket / "f").open("rb") as file:
        file.seek((4 << 40) - 5)
        assert file.read() == b"\0\0end"
    assert os.stat(bucket / "f").st_size == 4 << 40
