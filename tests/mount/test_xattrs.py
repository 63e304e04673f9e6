"""Extended attributes through the real kernel."""

import errno
import os
from pathlib import Path

import pytest

from tests.mount.conftest import Mount


def test_attributes_are_kept_listed_and_removed(bucket: Path) -> None:
    path = bucket / "f"
    path.write_text("x")
    for name in ("user.one", "trusted.two", "security.three"):
        os.setxattr(path, name, name.encode() * 10)
    assert sorted(os.listxattr(path)) == ["security.three", "trusted.two", "user.one"]
    assert os.getxattr(path, "trusted.two") == b"trusted.two" * 10
    os.setxattr(path, "user.one", b"", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.one") == b""
    os.removexattr(path, "user.one")
    with pytest.raises(OSError) as raised:
        os.getxattr(path, "user.one")
    assert raised.value.errno == errno.ENODATA


@pytest.mark.parametrize(
    ("name", "flags", "number"),
    [
        ("user.there", os.XATTR_CREATE, errno.EEXIST),
        ("user.missing", os.XATTR_REPLACE, errno.ENODATA),
        ("system.posix_acl_access", 0, errno.EOPNOTSUPP),
        ("nothing.known", 0, errno.EOPNOTSUPP),
        ("user.stratum.etag", 0, errno.EPERM),
    ],
)
def test_what_cannot_be_set_says_why(bucket: Path, name: str, flags: int, number: int) -> None:
    (bucket / "f").write_text("x")
    os.setxattr(bucket / "f", "user.there", b"x")
    with pytest.raises(OSError) as raised:
        os.setxattr(bucket / "f", name, b"value", flags)
    assert raised.value.errno == number


def test_large_values_and_their_bound(bucket: Path) -> None:
    (bucket / "f").write_text("x")
    value = os.urandom(65_536)
    os.setxattr(bucket / "f", "user.large", value)
    assert os.getxattr(bucket / "f", "user.large") == value
    for number in range(2):
        os.setxattr(bucket / "f", f"user.more{number}", value)
    with pytest.raises(OSError, match="No space"):
        os.setxattr(bucket / "f", "user.too_much", value)


def test_directories_and_links_have_attributes_of_their_own(bucket: Path) -> None:
    (bucket / "d").mkdir()
    os.setxattr(bucket / "d", "user.of", b"directory")
    assert os.listxattr(bucket / "d") == ["user.of"]
    os.symlink("d", bucket / "l")
    assert os.listxattr(bucket / "l", follow_symlinks=False) == []


def test_a_copy_takes_attributes_along(mount: Mount, bucket: Path) -> None:
    (bucket / "f").write_text("x")
    os.setxattr(bucket / "f", "user.colour", b"blue")
    os.setxattr(bucket / "f", "user.s3.meta.owner", b"me")
    mount.shell("cp -a f g; rsync -aX f h; mv h i", bucket)
    for name in "gi":
        assert os.getxattr(bucket / name, "user.colour") == b"blue"
        assert os.getxattr(bucket / name, "user.s3.meta.owner") == b"me"


def test_a_capability_goes_when_the_file_is_written(mount: Mount, bucket: Path) -> None:
    """The kernel asks for it before each write, and the answer is remembered while a file is open."""
    value = bytes.fromhex("0100000202000000000000000000000000000000")
    fd = os.open(bucket / "f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x")
    os.setxattr(bucket / "f", "security.capability", value)
    assert "security.capability" in os.listxattr(bucket / "f")
    os.write(fd, b"y")
    os.close(fd)
    assert "security.capability" not in os.listxattr(bucket / "f")
