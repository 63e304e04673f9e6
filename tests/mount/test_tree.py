"""Names and directories through the real kernel."""

import ctypes
import errno
import os
import socket
import stat
import time
from pathlib import Path

import pytest

from tests.mount.conftest import Mount

_libc = ctypes.CDLL(None, use_errno=True)
_AT_FDCWD = -100
_NOREPLACE, _EXCHANGE, _WHITEOUT = 1, 2, 4


def _renameat2(old: Path, new: Path, flags: int) -> None:
    if _libc.renameat2(_AT_FDCWD, os.fsencode(old), _AT_FDCWD, os.fsencode(new), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _errno(call: object, *args: object) -> int:
    with pytest.raises(OSError) as raised:
        call(*args)  # type: ignore[operator]
    assert raised.value.errno is not None
    return raised.value.errno


def test_rename_noreplace_refuses_and_moves(bucket: Path) -> None:
    (bucket / "a").write_text("a")
    (bucket / "b").write_text("b")
    assert _errno(_renameat2, bucket / "a", bucket / "b", _NOREPLACE) == errno.EEXIST
    _renameat2(bucket / "a", bucket / "c", _NOREPLACE)
    assert (bucket / "c").read_text() == "a"
    assert not (bucket / "a").exists()


def test_rename_exchange_swaps_files_and_directories(bucket: Path) -> None:
    (bucket / "file").write_text("file")
    (bucket / "dir").mkdir()
    (bucket / "dir" / "inside").write_text("inside")
    _renameat2(bucket / "file", bucket / "dir", _EXCHANGE)
    assert (bucket / "dir").read_text() == "file"
    assert (bucket / "file" / "inside").read_text() == "inside"
    assert _errno(_renameat2, bucket / "file", bucket / "nothing", _EXCHANGE) == errno.ENOENT


def test_whiteouts_are_refused(bucket: Path) -> None:
    (bucket / "a").write_text("a")
    assert _errno(_renameat2, bucket / "a", bucket / "b", _WHITEOUT) == errno.EINVAL


def test_a_directory_cannot_move_below_itself(bucket: Path) -> None:
    (bucket / "a" / "b").mkdir(parents=True)
    assert _errno(os.rename, bucket / "a", bucket / "a" / "b" / "c") == errno.EINVAL


def test_rename_replaces_files_and_empty_directories_only(bucket: Path) -> None:
    for name in ("empty", "full", "moving"):
        (bucket / name).mkdir()
    (bucket / "full" / "x").write_text("")
    (bucket / "file").write_text("")
    assert _errno(os.rename, bucket / "moving", bucket / "full") == errno.ENOTEMPTY
    assert _errno(os.rename, bucket / "file", bucket / "empty") == errno.EISDIR
    assert _errno(os.rename, bucket / "moving", bucket / "file") == errno.ENOTDIR
    os.rename(bucket / "moving", bucket / "empty")
    assert sorted(os.listdir(bucket)) == ["empty", "file", "full"]


def test_links_count_and_share(bucket: Path) -> None:
    (bucket / "a").write_text("one")
    os.link(bucket / "a", bucket / "b")
    assert os.stat(bucket / "a").st_nlink == os.stat(bucket / "b").st_nlink == 2
    assert os.stat(bucket / "a").st_ino == os.stat(bucket / "b").st_ino
    (bucket / "b").write_text("two!")
    assert (bucket / "a").read_text() == "two!"
    os.unlink(bucket / "a")
    assert os.stat(bucket / "b").st_nlink == 1
    assert _errno(os.link, bucket, bucket / "c") in (errno.EPERM, errno.EXDEV)


def test_directories_count_their_subdirectories(bucket: Path) -> None:
    before = os.stat(bucket).st_nlink
    (bucket / "a" / "b").mkdir(parents=True)
    (bucket / "file").write_text("")
    assert os.stat(bucket).st_nlink == before + 1
    assert os.stat(bucket / "a").st_nlink == 3
    os.rename(bucket / "a" / "b", bucket / "b")
    assert (os.stat(bucket).st_nlink, os.stat(bucket / "a").st_nlink) == (before + 2, 2)
    (bucket / "b").rmdir()
    assert os.stat(bucket).st_nlink == before + 1


def test_special_files_keep_their_kind(bucket: Path) -> None:
    os.mkfifo(bucket / "fifo", 0o640)
    os.mknod(bucket / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.symlink("fifo", bucket / "link")
    os.symlink("x" * 4000, bucket / "long")
    with socket.socket(socket.AF_UNIX) as listening:
        folder = os.open(bucket, os.O_PATH)
        listening.bind(f"/proc/self/fd/{folder}/socket")  # sun_path is short
        os.close(folder)
    assert stat.S_ISFIFO(os.stat(bucket / "link").st_mode)
    assert os.stat(bucket / "null").st_rdev == os.makedev(1, 3)
    assert stat.S_ISSOCK(os.stat(bucket / "socket").st_mode)
    assert os.readlink(bucket / "long") == "x" * 4000
    assert os.lstat(bucket / "long").st_size == 4000


def test_modes_owners_and_inherited_groups(bucket: Path) -> None:
    (bucket / "shared").mkdir()
    os.chown(bucket / "shared", 10, 20)
    os.chmod(bucket / "shared", 0o2775)
    (bucket / "shared" / "sub").mkdir()
    (bucket / "shared" / "file").write_text("")
    assert os.stat(bucket / "shared" / "sub").st_gid == 20
    assert os.stat(bucket / "shared" / "sub").st_mode & stat.S_ISGID
    assert os.stat(bucket / "shared" / "file").st_gid == 20
    old = os.umask(0o027)
    try:
        os.close(os.open(bucket / "masked", os.O_CREAT | os.O_WRONLY, 0o666))
        assert stat.S_IMODE(os.stat(bucket / "masked").st_mode) == 0o640
    finally:
        os.umask(old)


def test_ordinary_users_meet_permissions_sticky_and_set_id_rules(mount: Mount, bucket: Path) -> None:
    mount.shell(
        """
        chmod 755 . && mkdir -m 1777 tmp && echo secret > hidden && chmod 600 hidden
        as() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }
        ! as 1000 cat hidden 2>/dev/null
        ! as 1000 touch not-here 2>/dev/null
        as 1000 bash -c 'echo mine > tmp/mine'
        ! as 1001 rm -f tmp/mine 2>/dev/null
        ! as 1001 mv tmp/mine tmp/yours 2>/dev/null
        as 1000 cp /bin/true tmp/set && chmod 6755 tmp/set
        as 1000 bash -c 'echo more >> tmp/set'
        [ "$(stat -c %a tmp/set)" = 755 ]
        as 1000 rm tmp/mine tmp/set
        """,
        bucket,
    )


def test_times_have_nanoseconds_and_move_as_they_should(bucket: Path) -> None:
    path = bucket / "f"
    path.write_text("x")
    os.utime(path, ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321))
    found = os.stat(path)
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_234_567_890_123_456_789, 987_654_321_987_654_321)
    os.chmod(path, 0o600)
    assert os.stat(path).st_ctime_ns > found.st_ctime_ns
    assert os.stat(path).st_mtime_ns == found.st_mtime_ns
    before = os.stat(bucket).st_mtime_ns
    (bucket / "g").write_text("")
    assert os.stat(bucket).st_mtime_ns > before
    os.utime(path, ns=(-1_500_000_000, -1))
    assert os.stat(path).st_mtime_ns == -1


def test_times_set_before_close_stay(bucket: Path) -> None:
    """As tar, cp -p and rsync do it; and a later publication does not move ctime either, which git remembers."""
    fd = os.open(bucket / "f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x" * 100_000)
    os.utime(fd, ns=(5, 1_000_000_007))
    seen = os.fstat(fd)
    os.close(fd)
    found = os.stat(bucket / "f")
    assert found.st_mtime_ns == 1_000_000_007
    assert found.st_ctime_ns == seen.st_ctime_ns
    fd = os.open(bucket / "g", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"y")
    seen = os.fstat(fd)
    os.close(fd)
    assert os.stat(bucket / "g").st_ctime_ns == seen.st_ctime_ns
    assert os.stat(bucket / "g").st_mtime_ns == seen.st_mtime_ns


def test_a_read_is_noted_once(mount: Mount, bucket: Path) -> None:
    (bucket / "f").write_text("x")
    written = os.stat(bucket / "f")
    mount.shell("cat f > /dev/null", bucket)
    deadline = time.monotonic() + 60
    while os.stat(bucket / "f").st_atime_ns == written.st_atime_ns and time.monotonic() < deadline:
        pass  # noted beside the read
    read = os.stat(bucket / "f")
    assert read.st_atime_ns > written.st_mtime_ns
    assert (read.st_ctime_ns, read.st_mtime_ns) == (written.st_ctime_ns, written.st_mtime_ns)
    mount.shell("cat f > /dev/null", bucket)
    assert os.stat(bucket / "f").st_atime_ns == read.st_atime_ns


def test_the_top_directory_holds_buckets(mount: Mount, bucket: Path) -> None:
    assert _errno(os.mkdir, mount.path / "No_Bucket") == errno.EINVAL
    assert _errno((mount.path / "file").write_text, "x") == errno.EPERM
    assert _errno(os.symlink, "x", mount.path / "link") == errno.EPERM
    assert _errno(os.mkdir, bucket) == errno.EEXIST
    (bucket / "f").write_text("x")
    assert _errno(os.rmdir, bucket) == errno.ENOTEMPTY
    other = mount.path / "another-bucket"
    other.mkdir()
    assert _errno(os.rename, bucket / "f", other / "f") == errno.EXDEV
    assert _errno(os.link, bucket / "f", other / "f") == errno.EXDEV
    other.rmdir()
    assert not other.exists()
    mount.shell(f"mkdir ../{bucket.name}x; mv f ../{bucket.name}x/; cat ../{bucket.name}x/f", bucket)


def test_numbers_of_the_file_system(mount: Mount) -> None:
    found = os.statvfs(mount.path)
    assert found.f_namemax == 255
    assert 0 < found.f_bavail <= found.f_blocks
    assert found.f_files > found.f_ffree


def test_blocks_follow_the_size(bucket: Path) -> None:
    (bucket / "f").write_bytes(b"x" * 1025)
    assert os.stat(bucket / "f").st_blocks == 3


def test_syncing_a_directory_works(bucket: Path) -> None:
    fd = os.open(bucket, os.O_RDONLY)
    (bucket / "f").write_text("x")
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
