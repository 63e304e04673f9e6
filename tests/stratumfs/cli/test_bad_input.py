"""Bad input to every command: the right exit code, one line, no traceback, nothing changed."""

import io
import os
import pty
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import structlog

from stratumfs.cli import fsck, gateway, mkfs, mount, stratumfs, tier
from stratumfs.cli.exit import Exit
from stratumfs.devices.identity import DEVICE_FILE, STORE_FILE, DeviceEntry, read_identity
from stratumfs.owner import create, locate
from stratumfs.owner.messages import Credentials

COMMANDS: dict[str, ModuleType] = {
    "fsck.stratumfs": fsck,
    "mkfs.stratumfs": mkfs,
    "mount.stratumfs": mount,
    "stratumfs": stratumfs,
    "stratum-gateway": gateway,
    "stratum-tier": tier,
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store, a device of another, folders for mounts; the default place is empty."""
    create.make_embedded(tmp_path / "store", Credentials("root", "correct-horse"))
    for name in ("empty", "full/x", "spare", "device", "other"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "identity.json").write_text("{")
    monkeypatch.setattr(locate, "default_folder", lambda: tmp_path / "default")
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.chdir(tmp_path)
    for name in ("STRATUM_ACCESS_KEY_ID", "STRATUM_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    structlog.reset_defaults()  # a command that opens the store itself is quiet


def tree(folder: Path) -> dict[str, bytes | None]:
    """All but the lock files, which say who was here last."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
        if path.name != "lock"
    }


def devices_named(folder: Path) -> dict[Path, tuple[DeviceEntry | None, tuple[DeviceEntry, ...]]]:
    """What the identity files below say of devices; each opening is an epoch, which they say too."""
    found = {}
    for path in folder.rglob("*.json"):
        if path.name in (DEVICE_FILE, STORE_FILE) and path.parent.name != "broken":
            identity = read_identity(path.parent)
            found[path] = identity.own, identity.devices
    return found


def invoke(words: Sequence[str]) -> int:
    """A command in this process. Returns its exit code."""
    with pytest.raises(SystemExit) as ended:
        COMMANDS[words[0]].main(list(words[1:]))
    assert isinstance(ended.value.code, int)
    return ended.value.code


BAD: tuple[tuple[str, Exit, str], ...] = (
    # mkfs.stratumfs
    ("mkfs.stratumfs", Exit.USAGE, "--hot"),
    ("mkfs.stratumfs --hot", Exit.USAGE, "no store is named"),
    ("mkfs.stratumfs --hot empty", Exit.USAGE, "needs 6 devices, and 0 are given"),
    ("mkfs.stratumfs --hot empty spare new", Exit.USAGE, "needs 6 devices, and 2 are given"),
    ("mkfs.stratumfs --hot empty spare -k 1 -m 1 new/deep", Exit.USAGE, "mkdir -p"),
    ("mkfs.stratumfs --hot empty empty -k 1 -m 1 new", Exit.DEVICE, "one folder"),
    ("mkfs.stratumfs --hot empty full -k 1 -m 1 new", Exit.DEVICE, "not empty"),
    ("mkfs.stratumfs --hot empty store/devices/0 -k 1 -m 1 new", Exit.DEVICE, "belongs to store"),
    ("mkfs.stratumfs --hot empty missing -k 1 -m 1 new", Exit.DEVICE, "make the folder or mount its disk"),
    ("mkfs.stratumfs --hot empty file -k 1 -m 1 new", Exit.DEVICE, "not a folder"),
    ("mkfs.stratumfs --hot empty spare -k 1 -m 1 store", Exit.DEVICE, "is a store already"),
    ("mkfs.stratumfs --hot empty spare -k 1 -m 1 full", Exit.DEVICE, "not empty"),
    ("mkfs.stratumfs --hot empty spare -k one -m 1 new", Exit.USAGE, "-k"),
    ("mkfs.stratumfs --hot empty spare -k 0 -m 2 new", Exit.USAGE, "k = 0"),
    ("mkfs.stratumfs --hot empty spare -k 1 -m -1 new", Exit.USAGE, "m = -1"),
    ("mkfs.stratumfs --warm empty new", Exit.USAGE, "--hot"),
    ("mkfs.stratumfs --hot empty spare -k 1 -m 1 --warm new", Exit.USAGE, "no store is named"),
    ("mkfs.stratumfs --hot empty -k 1 -m 0 --warm spare new", Exit.USAGE, "warm: k + m = 6 needs 6 devices, and 1"),
    ("mkfs.stratumfs --hot empty -k 1 -m 0 --warm spare --warm-k 0 new", Exit.USAGE, "warm.k = 0"),
    ("mkfs.stratumfs --hot empty -k 1 -m 0 --warm empty --warm-k 1 --warm-m 0 new", Exit.DEVICE, "one folder"),
    ("mkfs.stratumfs --hot empty -k 1 -m 0 --warm full --warm-k 1 --warm-m 0 new", Exit.DEVICE, "not empty"),
    ("mkfs.stratumfs --hot empty -k 1 -m 0 spare --warm device full", Exit.USAGE, "full"),
    # mount.stratumfs
    ("mount.stratumfs", Exit.USAGE, "STORE"),
    ("mount.stratumfs empty", Exit.USAGE, "typed at a terminal"),
    ("mount.stratumfs missing empty", Exit.MOUNT, "does not exist"),
    ("mount.stratumfs empty spare", Exit.MOUNT, "neither a store nor a device"),
    ("mount.stratumfs file empty", Exit.MOUNT, "is no directory"),
    ("mount.stratumfs broken empty", Exit.MOUNT, "is damaged"),
    ("mount.stratumfs store missing", Exit.USAGE, "mkdir -p"),
    ("mount.stratumfs store full", Exit.USAGE, "not empty"),
    ("mount.stratumfs store file", Exit.USAGE, "is no directory"),
    ("mount.stratumfs store /proc", Exit.USAGE, "already a mount point"),
    ("mount.stratumfs store empty spare", Exit.USAGE, "spare"),
    ("mount.stratumfs store empty -o nonsense", Exit.USAGE, "unknown mount option 'nonsense'"),
    ("mount.stratumfs store empty -o", Exit.USAGE, "-o"),
    ("mount.stratumfs store empty -o gateway=x", Exit.USAGE, "HOST:PORT"),
    ("mount.stratumfs store empty -o tls_cert=x", Exit.USAGE, "go together"),
    ("mount.stratumfs store empty -t ext4", Exit.USAGE, "'ext4'"),
    ("mount.stratumfs store empty -N /proc/self/missing", Exit.USAGE, "nsenter"),
    ("mount.stratumfs store empty --frobnicate", Exit.USAGE, "--frobnicate"),
    # stratumfs
    ("stratumfs frobnicate", Exit.USAGE, "frobnicate"),
    ("stratumfs status", Exit.NOT_FOUND, "does not exist"),
    ("stratumfs status missing", Exit.NOT_FOUND, "does not exist"),
    ("stratumfs status empty", Exit.NOT_FOUND, "neither a store"),
    ("stratumfs status store extra", Exit.USAGE, "extra"),
    ("stratumfs status --yaml store", Exit.USAGE, "--yaml"),
    ("stratumfs umount", Exit.USAGE, "MOUNTPOINT"),
    ("stratumfs umount empty", Exit.USAGE, "no mount point of stratumfs"),
    ("stratumfs umount missing", Exit.USAGE, "no mount point of stratumfs"),
    ("stratumfs umount /proc", Exit.USAGE, "no mount point of stratumfs"),
    ("stratumfs stop missing", Exit.NOT_FOUND, "does not exist"),
    ("stratumfs device list", Exit.USAGE, "STORE"),
    ("stratumfs device list missing", Exit.NOT_FOUND, "does not exist"),
    ("stratumfs device list empty", Exit.NOT_FOUND, "neither a store"),
    ("stratumfs device replace store hot:0", Exit.USAGE, "NEW"),
    ("stratumfs device replace missing hot:0 empty", Exit.NOT_FOUND, "does not exist"),
    ("stratumfs device replace store hot:0 empty --frobnicate", Exit.USAGE, "--frobnicate"),
    # stratum-gateway
    ("stratum-gateway", Exit.NOT_FOUND, "does not exist"),
    ("stratum-gateway missing", Exit.NOT_FOUND, "does not exist"),
    ("stratum-gateway --listen 9000 store", Exit.USAGE, "HOST:PORT"),
    ("stratum-gateway --listen 127.0.0.1:99999 store", Exit.USAGE, "HOST:PORT"),
    ("stratum-gateway --tls-cert file store", Exit.USAGE, "go together"),
    ("stratum-gateway --domain", Exit.USAGE, "--domain"),
    ("stratum-gateway --domain S3.Example store", Exit.USAGE, "'S3.Example' is no lowercase domain name"),
    ("stratum-gateway store extra", Exit.USAGE, "extra"),
    # stratum-tier
    ("stratum-tier", Exit.OK, ""),
    ("stratum-tier frobnicate", Exit.USAGE, "frobnicate"),
    ("stratum-tier explain", Exit.USAGE, "TARGET"),
    ("stratum-tier explain missing", Exit.NOT_FOUND, "No such file"),
    ("stratum-tier explain file", Exit.USAGE, "does not lie on a mount of stratumfs"),
    ("stratum-tier explain s3://", Exit.USAGE, "s3://BUCKET/KEY"),
    ("stratum-tier replay --policy missing", Exit.NOT_FOUND, "does not exist"),
    ("stratum-tier warm file", Exit.USAGE, "does not lie on a mount of stratumfs"),
    ("stratum-tier explain s3://bucket/\udce9", Exit.USAGE, "keys are UTF-8"),
    ("stratum-tier move", Exit.USAGE, "TARGET"),
    ("stratum-tier move s3://bucket", Exit.USAGE, "--to"),
    ("stratum-tier move missing --to warm", Exit.NOT_FOUND, "No such file"),
    ("stratum-tier move file --to warm", Exit.USAGE, "does not lie on a mount of stratumfs"),
    ("stratum-tier move s3:// --to warm", Exit.USAGE, "names no bucket"),
    ("stratum-tier move s3://bucket/\udce9 --to warm", Exit.USAGE, "keys are UTF-8"),
    ("stratum-tier move s3://bucket --to warm", Exit.NOT_FOUND, "does not exist"),
    ("stratum-tier move --store empty s3://bucket --to warm", Exit.NOT_FOUND, "neither a store"),
    ("mkfs.stratumfs --hot empty spare -k 1 -m 1 new\udce9", Exit.USAGE, "is not UTF-8"),
    ("mount.stratumfs store empty\udce9", Exit.USAGE, "mkdir -p"),
    ("stratum-tier explain s3://bucket/key", Exit.NOT_FOUND, "does not exist"),
    ("stratum-tier explain s3://bucket", Exit.NOT_FOUND, "does not exist"),
    ("stratum-tier explain --store missing s3://bucket/key", Exit.NOT_FOUND, "does not exist"),
)  # fmt: skip


@pytest.mark.parametrize(("line", "code", "words"), BAD, ids=[line for line, _, _ in BAD])
def test_bad_input_is_one_line_and_changes_nothing(
    place: Path, capfd: pytest.CaptureFixture[str], line: str, code: Exit, words: str
) -> None:
    before = tree(place)
    assert invoke(line.split()) == code
    said = capfd.readouterr()
    assert "Traceback" not in said.out + said.err
    assert tree(place) == before
    if code is not Exit.OK:
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert said.err.startswith(line.split()[0] + ": ")
        assert words in said.err


SPOILED: tuple[tuple[str, str, str], ...] = (
    ("stratumfs.toml", "[hot]\nk = 4\n", "missing required field `m`"),
    ("stratumfs.toml", "[hot]\nk = 4\nm = 2\nn = 6\n", "unknown field `n`"),
    ("stratumfs.toml", "[hot]\nk = 40\nm = 2\n", "k + m = 42, but the store has 6 devices"),
    ("stratumfs.toml", "[hot\n", "is no TOML"),
    ("identity.json", "{}", "is damaged"),
    ("identity.json", '{"format": 99}', "use a newer stratumfs"),
)


@pytest.mark.parametrize(("name", "text", "words"), SPOILED)
def test_a_spoiled_store_is_one_line_and_stays_as_it_is(
    place: Path, capfd: pytest.CaptureFixture[str], name: str, text: str, words: str
) -> None:
    (place / "store" / name).write_text(text)
    before = tree(place)
    assert invoke(["stratumfs", "status", "store"]) in (Exit.USAGE, Exit.DEVICE)
    said = capfd.readouterr()
    assert said.err.count("\n") == 1
    assert words in said.err
    assert tree(place) == before


REFUSED: tuple[tuple[str, str, Exit, str], ...] = (
    ("hot:9", "empty", Exit.NOT_FOUND, "names no device"),
    ("store/devices/9", "empty", Exit.NOT_FOUND, "names no device"),
    ("hot:0", "missing", Exit.DEVICE, "No such file"),
    ("hot:0", "file", Exit.DEVICE, "not a folder"),
    ("hot:0", "full", Exit.DEVICE, "not empty"),
    ("hot:0", "store", Exit.DEVICE, "lies in"),
    ("hot:0", "other", Exit.DEVICE, "belongs to store"),
    ("hot:0", "store/devices/1", Exit.DEVICE, "the place of device 1"),
    ("hot:0", "store/devices/1/quarantine", Exit.DEVICE, "lies in device"),
    ("hot:0", ".", Exit.DEVICE, "lies in"),
)


@pytest.mark.parametrize(("old", "new", "code", "words"), REFUSED)
def test_what_cannot_replace_a_device_is_refused_and_no_place_changes(
    place: Path, capfd: pytest.CaptureFixture[str], old: str, new: str, code: Exit, words: str
) -> None:
    (place / "store/devices/1/quarantine").mkdir()
    create.make_store(place / "other-store", [place / "other"], 1, 0, Credentials("root", "correct-horse"))
    before = devices_named(place)
    assert invoke(["stratumfs", "device", "replace", "store", old, new]) == code
    said = capfd.readouterr()
    assert said.err.count("\n") == 1
    assert words in said.err
    assert devices_named(place) == before


def test_a_device_is_replaced_by_an_empty_folder_and_asked_again_it_is_done(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for old, slot in (("hot:3", 3), ("hot:3", 3), ("store/devices/3", 3)):
        assert invoke(["stratumfs", "device", "replace", "store", old, "empty"]) == Exit.OK
        said = capfd.readouterr()
        assert f"{place / 'empty'} is device hot:{slot}, 0 shards; all data survives" in said.out
        assert "shares its disk" in said.err
    assert invoke(["stratumfs", "device", "list", "store"]) == Exit.OK
    assert str(place / "empty") in capfd.readouterr().out
    assert read_identity(place / "empty").own in read_identity(place / "store").devices
    store = read_identity(place / "store")
    places = {bytes(16).hex(), *(each.id.hex() for each in store.devices)}
    for folder in ("empty", *(f"store/devices/{slot}" for slot in (0, 1, 2, 4, 5))):
        found = read_identity(place / folder)
        assert found.devices == store.devices
        assert found.epoch_in_force == store.epoch_in_force
        assert set((found.epoch_in_force or {})["places"]) == places


def test_devices_in_each_others_places_are_named_and_not_used(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    devices = place / "store" / "devices"
    (devices / "0").rename(devices / "x")
    (devices / "1").rename(devices / "0")
    (devices / "x").rename(devices / "1")
    assert invoke(["stratumfs", "status", "store"]) == Exit.OK
    said = capfd.readouterr().out.replace("\n", " ")
    assert "READ-ONLY" not in said  # four are enough to write to
    assert "hot 0 is failed" in said
    assert "hot 1 is failed" in said
    assert "disks are mounted in each other's places" in said


def test_mkfs_says_how_many_devices_and_how_many_disks_may_be_lost(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert invoke(["mkfs.stratumfs", "--hot", "empty", "spare", "-k", "1", "-m", "1", "new"]) == Exit.OK
    said = capfd.readouterr()
    assert "all data survives the loss of any 1 device, of no disk" in said.out
    assert "2 devices share 1 disk" in said.err


def test_every_command_has_help_with_examples_and_a_version(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        assert invoke([name, "--help"]) == Exit.OK
        text = capfd.readouterr().out
        assert text.startswith(f"Usage: {name}")
        assert f"Examples:\n\n    {name} " in text
        assert invoke([name, "--version"]) == Exit.OK
        assert capfd.readouterr().out.startswith(f"{name} ")


def test_credentials_that_cannot_be_are_refused_and_never_shown(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATUM_SECRET_ACCESS_KEY", "hunter2")
    for line in ("mkfs.stratumfs --hot empty spare -k 1 -m 1 new", "stratum-gateway store"):
        assert invoke(line.split()) == Exit.USAGE
        said = capfd.readouterr()
        assert "STRATUM_ACCESS_KEY_ID" in said.err
        assert "hunter2" not in said.out + said.err


@pytest.mark.mount
@pytest.mark.slow
def test_a_mount_point_alone_typed_at_a_terminal_makes_the_embedded_store(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    master, terminal = pty.openpty()
    with os.fdopen(terminal) as stdin, os.fdopen(master):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert invoke(["mount.stratumfs", "empty"]) == Exit.OK
    try:
        said = capfd.readouterr()
        assert f"made a store in {place / 'default'}" in said.out
        assert "not from the disk's death" in said.err
        (place / "empty" / "bucket").mkdir()
        assert invoke(["stratumfs", "umount", "empty"]) == Exit.OK
        # Once it is there, no terminal is needed to mount it.
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        assert invoke(["mount.stratumfs", "empty"]) == Exit.OK
        assert os.listdir(place / "empty") == ["bucket"]
    finally:
        invoke(["stratumfs", "stop"])
