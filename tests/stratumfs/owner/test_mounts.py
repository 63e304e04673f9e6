import os
from pathlib import Path

import pytest

from stratumfs.errors import ConfigError
from stratumfs.owner import mounts
from stratumfs.owner.mounts import Mount, check_allow_other, check_mount_point, mount_at, mount_of

TABLE = rb"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:21 / /proc rw - proc proc rw
90 22 0:50 / /mnt/with\040blank rw,nosuid shared:7 master:1 - fuse.stratumfs /srv/my\040store rw,user_id=0
91 22 0:51 / /mnt/a rw - tmpfs none rw
92 22 0:52 / /mnt/a rw - fuse.stratumfs /srv/a rw
93 22 0:53 / /mnt/tab\011\134 rw - tmpfs none rw
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mountinfo"
    path.write_bytes(TABLE)
    monkeypatch.setattr(mounts, "mounts", lambda: _original(path))
    return path


_original = mounts.mounts


def test_mountinfo_is_read_with_its_escapes_and_optional_fields(table: Path) -> None:
    found = mount_at(Path("/mnt/with blank"))
    assert found == Mount("0:50", Path("/mnt/with blank"), "fuse.stratumfs", "/srv/my store")
    assert found.ours
    assert mount_at(Path("/mnt/tab\t\\")) is not None


def test_of_two_mounts_at_one_place_the_later_one_counts(table: Path) -> None:
    found = mount_at(Path("/mnt/a"))
    assert found is not None
    assert found.source == "/srv/a"


def test_a_file_lies_on_the_mount_of_its_filesystem(table: Path) -> None:
    found = mount_of(os.makedev(0, 50))
    assert found is not None
    assert found.point == Path("/mnt/with blank")
    assert mount_of(os.makedev(8, 77)) is None


def test_an_occupied_mount_point_says_what_to_do(table: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"already the mount point of /srv/a: `stratumfs umount /mnt/a`"):
        check_mount_point(Path("/mnt/a"))
    with pytest.raises(ConfigError, match=r"already a mount point \(tmpfs"):
        check_mount_point(Path("/mnt/tab\t\\"))
    with pytest.raises(ConfigError, match="mkdir -p"):
        check_mount_point(tmp_path / "missing")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is no directory"):
        check_mount_point(tmp_path / "file")
    with pytest.raises(ConfigError, match="not empty"):
        check_mount_point(tmp_path)
    check_mount_point(tmp_path, nonempty=True)
    (tmp_path / "empty").mkdir()
    check_mount_point(tmp_path / "empty")


def test_a_missing_fuse_device_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "FUSE_DEVICE", tmp_path / "fuse")
    with pytest.raises(ConfigError, match="modprobe fuse"):
        check_mount_point(tmp_path)


def test_who_may_let_others_in_is_told_before_fusermount3_tells_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "fuse.conf"
    monkeypatch.setattr(mounts, "FUSE_SETTINGS", settings)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigError, match="user_allow_other"):
        check_allow_other()
    settings.write_text("# user_allow_other\nmount_max = 7\n")
    with pytest.raises(ConfigError, match="user_allow_other"):
        check_allow_other()
    settings.write_text("mount_max = 7\n user_allow_other\n")
    check_allow_other()
    settings.unlink()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    check_allow_other()


def test_the_real_table_has_proc() -> None:
    proc = mount_at(Path("/proc"))
    assert proc is not None
    assert proc.filesystem == "proc"
    assert proc.device == f"{os.major(os.stat('/proc').st_dev)}:{os.minor(os.stat('/proc').st_dev)}"
