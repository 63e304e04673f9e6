"""The owner's life as an administrator sees it: real commands, real processes, the real kernel."""

import errno
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from stratumfs.owner.client import connect
from stratumfs.owner.lock import Locks
from stratumfs.owner.mounts import mount_at
from tests.doors import BIN, COMMAND_S, TEST_S, CommandFailed, Doors, opened_doors, run
from tools.measure.processes import free_port

pytestmark = [pytest.mark.mount, pytest.mark.slow]


@contextmanager
def gateway(doors: Doors, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A gateway in the foreground, as systemd runs it, and its address; interrupted at the end."""
    address = f"127.0.0.1:{free_port()}"
    words = [BIN / "stratum-gateway", "--listen", address, "--log", doors.log, *options, doors.store]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert f"served at {address}" in line, line + (process.stderr.read() if process.stderr else "")
            yield process, address
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.wait(COMMAND_S)


def made(folder: Path) -> Iterator[Doors]:
    doors = Doors(folder)
    try:
        with doors.within(TEST_S):
            doors.make()
            yield doors
    finally:
        doors.destroy()


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Doors]:
    """A store with no door open."""
    yield from made(tmp_path)


def mount(doors: Doors) -> None:
    run([BIN / "mount.stratumfs", doors.store, doors.mount, "--log", doors.log])


def doors_open(doors: Doors) -> list[str]:
    return sorted(door["kind"] for door in doors.status()["doors"])


def test_status_of_an_empty_store_without_an_owner_says_what_it_will_survive(tmp_path: Path) -> None:
    closed = Doors(tmp_path)
    for path in closed.devices:
        path.mkdir()
    run([BIN / "mkfs.stratumfs", "--hot", *closed.devices, closed.store])
    found = closed.status()
    assert (found["devices_survived"], found["disks_survived"]) == (2, 0)
    assert found["owner"] is None
    assert found["doors"] == []
    assert found["repairs"] == []
    assert [device["state"] for device in found["devices"]] == ["online"] * 6
    assert set(found["space"]) >= {"raw_total", "usable_total", "used", "inline", "unfinished_uploads"}
    assert closed.pid is None


def test_the_owner_ends_with_its_last_door_and_each_command_closes_its_own(closed: Doors) -> None:
    with gateway(closed) as (process, _):
        mount(closed)
        assert doors_open(closed) == ["gateway", "mount"]
        process.send_signal(signal.SIGTERM)
        assert process.wait(COMMAND_S) == 0
        assert doors_open(closed) == ["mount"]
        (closed.mount / "bucket").mkdir()
    run([BIN / "stratumfs", "umount", closed.mount])
    assert closed.pid is None
    assert not (closed.store / "control").exists()
    assert mount_at(closed.mount) is None


def test_mount_unmount_and_mount_again_in_one_owners_life(closed: Doors) -> None:
    with gateway(closed):
        owner = closed.pid
        for number in range(3):
            mount(closed)
            (closed.mount / f"bucket{number}").mkdir()
            (closed.mount / f"bucket{number}" / "file").write_text("x" * number)
            run(["umount", closed.mount] if number % 2 else [BIN / "stratumfs", "umount", closed.mount])
        mount(closed)
        assert closed.pid == owner
        assert sorted(os.listdir(closed.mount)) == ["bucket0", "bucket1", "bucket2"]
        run([BIN / "stratumfs", "umount", closed.mount])


def test_many_commands_at_once_end_in_one_owner(closed: Doors) -> None:
    ports = [free_port() for _ in range(3)]
    failures: list[BaseException] = []

    def start(*words: object) -> None:
        try:
            run([str(word) for word in words])
        except BaseException as error:
            failures.append(error)

    commands = [(BIN / "stratum-gateway", "--daemon", "--listen", f"127.0.0.1:{port}", closed.store) for port in ports]
    threads = [threading.Thread(target=start, args=words) for words in commands]
    threads.append(threading.Thread(target=mount, args=(closed,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert doors_open(closed) == ["gateway"] * 3 + ["mount"]
    closed.stop()
    assert closed.pid is None


def test_a_second_mount_of_a_store_is_refused_with_advice(closed: Doors, tmp_path: Path) -> None:
    mount(closed)
    (tmp_path / "second").mkdir()
    with pytest.raises(CommandFailed, match="mount --bind"):
        run([BIN / "mount.stratumfs", closed.store, tmp_path / "second"])
    with pytest.raises(CommandFailed, match="already the mount point"):
        mount(closed)
    run([BIN / "stratumfs", "umount", closed.mount])


def test_umount_waits_for_those_who_use_the_mount_and_says_so(closed: Doors) -> None:
    mount(closed)
    (closed.mount / "bucket").mkdir()
    words = [BIN / "stratumfs", "umount", closed.mount]
    with (closed.mount / "bucket" / "open").open("w") as stream:
        stream.write("x")
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as asking:
            assert asking.stderr is not None
            assert "is in use (1 files are open)" in asking.stderr.readline()
            asking.send_signal(signal.SIGINT)
            asking.wait(COMMAND_S)
        assert asking.returncode == 8
        assert mount_at(closed.mount) is not None
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as asking:
            assert asking.stderr is not None
            asking.stderr.readline()
            stream.close()
            assert asking.wait(COMMAND_S) == 0
    assert mount_at(closed.mount) is None
    mount(closed)
    assert (closed.mount / "bucket" / "open").read_text() == "x"
    run([BIN / "stratumfs", "umount", closed.mount])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_owner_in_order(closed: Doors, number: signal.Signals) -> None:
    mount(closed)
    (closed.mount / "bucket").mkdir()
    with (closed.mount / "bucket" / "open").open("w") as stream:
        stream.write("written and not closed")
        stream.flush()
        pid = closed.pid
        assert pid is not None
        watch = os.pidfd_open(pid)
        signal.pidfd_send_signal(watch, number)
    run(["timeout", "60", "tail", f"--pid={pid}", "-f", "/dev/null"])
    os.close(watch)
    assert mount_at(closed.mount) is None
    assert not (closed.store / "control").exists()
    assert "owner_ended" in closed.log.read_text()
    mount(closed)
    assert (closed.mount / "bucket" / "open").read_text() == "written and not closed"
    run([BIN / "stratumfs", "umount", closed.mount])


def test_after_kill_9_the_next_mount_takes_the_dead_one_away_and_seals_what_was_open(closed: Doors) -> None:
    mount(closed)
    (closed.mount / "bucket").mkdir()
    content = os.urandom(3_000_000)
    (closed.mount / "bucket" / "file").write_bytes(content)
    assert closed.status()["volumes"]["open"] == 1
    closed.kill()
    with pytest.raises(OSError, match="not connected"):
        os.statvfs(closed.mount)
    with pytest.raises(CommandFailed, match=r"the owner of .* is gone: `umount -l"):
        run([BIN / "stratumfs", "umount", closed.mount])
    with gateway(closed):  # systemd may have been quicker
        with pytest.raises(CommandFailed, match="what a killed owner left: `umount -l"):
            run([BIN / "stratumfs", "umount", closed.mount])
        mount(closed)
        assert (closed.mount / "bucket" / "file").read_bytes() == content
        counts = closed.status()["volumes"]
        assert (counts["open"], counts["sealed"]) == (0, 1)
        run([BIN / "stratumfs", "umount", closed.mount])


def test_a_store_is_named_by_any_of_its_devices(closed: Doors) -> None:
    run([BIN / "mount.stratumfs", closed.devices[4], closed.mount, "--log", closed.log])
    assert mount_at(closed.mount) is not None
    run([BIN / "stratumfs", "stop", closed.devices[1]])
    assert mount_at(closed.mount) is None


def test_with_devices_missing_both_doors_go_on_and_below_1_plus_m_they_refuse_changes_by_name(tmp_path: Path) -> None:
    with opened_doors(tmp_path) as doors:
        _lose_devices_and_get_them_back(doors)


def _lose_devices_and_get_them_back(doors: Doors) -> None:
    client = doors.client()
    client.create_bucket(Bucket="bucket")
    content = os.urandom(5_000_000)
    client.put_object(Bucket="bucket", Key="big", Body=content)
    client.put_object(Bucket="bucket", Key="small", Body=b"small")
    _pull(doors, 2, 4)
    found = doors.status()
    assert (found["devices_survived"], found["read_only"]) == (0, None)
    assert [device["state"] for device in found["devices"]].count("failed") == 2
    assert (doors.mount / "bucket" / "big").read_bytes() == content
    assert client.get_object(Bucket="bucket", Key="big")["Body"].read() == content
    (doors.mount / "bucket" / "narrow").write_bytes(content)
    inodes = doors.status()["inodes"]
    client.delete_object(Bucket="bucket", Key="big")
    while doors.status()["inodes"] == inodes:
        pass  # a store that is read-only gets rid of nothing
    _pull(doors, 0, 1)
    while (found := doors.status())["devices_survived"] != 0:
        pass  # all that is there is 2+2
    assert str(doors.devices[2]) in found["read_only"]
    assert (doors.mount / "bucket" / "narrow").read_bytes() == content
    assert client.get_object(Bucket="bucket", Key="narrow")["Body"].read() == content
    for change in (
        lambda: (doors.mount / "bucket" / "new").write_text("x"),
        lambda: (doors.mount / "bucket" / "small").unlink(),
        lambda: (doors.mount / "other").mkdir(),
        lambda: (doors.mount / "bucket" / "small").rename(doors.mount / "bucket" / "moved"),
    ):
        with pytest.raises(OSError) as refused:
            change()
        assert refused.value.errno == errno.EROFS
    for call in (
        lambda: client.put_object(Bucket="bucket", Key="new", Body=b"x"),
        lambda: client.delete_object(Bucket="bucket", Key="small"),
        lambda: client.create_bucket(Bucket="other"),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        assert str(doors.devices[2]) in caught.value.response["Error"]["Message"]
    doors.stop()
    for slot in (0, 1, 2, 4):
        (doors.folder / f"pulled-{slot}").rename(doors.devices[slot])
    doors.start()
    found = doors.status()
    assert (found["read_only"], {device["state"] for device in found["devices"]}) == (None, {"online"})
    client.put_object(Bucket="bucket", Key="new", Body=b"x")


def test_a_gateway_is_ready_as_long_as_it_can_read(closed: Doors) -> None:
    for lost, status, words in ((2, 200, "ready"), (3, 503, "not ready: 3 devices are there, to read takes 4")):
        for device in closed.devices[:lost]:
            shutil.rmtree(device, ignore_errors=True)
        with gateway(closed) as (_, address), closing(HTTPConnection(address, timeout=COMMAND_S)) as connection:
            connection.request("GET", "/stratum/health/ready")
            answer = connection.getresponse()
            assert answer.status == status
            assert answer.read().decode().startswith(words)


def _pull(doors: Doors, *slots: int) -> None:
    doors.stop()
    for slot in slots:
        doors.devices[slot].rename(doors.folder / f"pulled-{slot}")
    doors.start()


def test_explain_names_tier_volumes_and_devices_and_what_is_missing(doors: Doors) -> None:
    client = doors.client()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="a/big", Body=os.urandom(3_000_000))
    client.put_object(Bucket="bucket", Key="small", Body=b"small")
    command = [BIN / "stratum-tier", "explain", "--json"]
    by_path = json.loads(run([*command, doors.mount / "bucket" / "a" / "big"]))
    by_key = json.loads(run([*command, "--store", doors.store, "s3://bucket/a/big"]))
    assert by_path == by_key
    assert (by_key["tier"], by_key["size"], by_key["inline_bytes"]) == ("hot", 3_000_000, 0)
    assert sum(volume["bytes"] for volume in by_key["volumes"]) == 3_000_000
    devices = {shard["device"] for shard in by_key["volumes"][0]["shards"]}
    assert devices == {str(path) for path in doors.devices}
    assert by_key["devices_survived"] == 2
    path = doors.mount / "bucket" / "a" / "big"
    assert os.getxattr(path, "user.stratum.tier") == b"hot"
    assert json.loads(os.getxattr(path, "user.stratum.explain")) == by_key
    assert os.listxattr(path) == []
    small = json.loads(run([*command, doors.mount / "bucket" / "small"]))
    assert (small["inline_bytes"], small["volumes"]) == (5, [])
    for path in doors.devices[:2]:
        shutil.rmtree(path / "volumes")
    hurt = json.loads(run([*command, doors.mount / "bucket" / "a" / "big"]))
    assert [shard["state"] for shard in hurt["volumes"][0]["shards"]].count("missing") == 2
    assert (hurt["devices_survived"], hurt["disks_survived"]) == (0, 0)
    text = run([BIN / "stratum-tier", "explain", doors.mount / "bucket" / "a" / "big"])
    assert "4 present, 2 missing" in text
    assert doors.status()["missing_shards"] == 2  # and with this look the repair begins


def test_foreground_mounts_until_interrupted(closed: Doors) -> None:
    words = [BIN / "mount.stratumfs", "-f", "-v", closed.store, closed.mount]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert mount_at(closed.mount) is not None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=COMMAND_S)
    assert process.returncode == 0
    assert "door_closed" in errors
    assert mount_at(closed.mount) is None


def test_credentials_of_the_environment_win_over_the_stores_file(closed: Doors) -> None:
    os.environ.update(STRATUM_ACCESS_KEY_ID="fromenv", STRATUM_SECRET_ACCESS_KEY="a-secret-of-mine")
    try:
        with gateway(closed) as (_, address):
            closed.port = int(address.rpartition(":")[2])
            with pytest.raises(ClientError, match="InvalidAccessKeyId"):
                closed.client().list_buckets()
            (closed.store / "credentials").write_text(
                "[default]\naws_access_key_id = fromenv\naws_secret_access_key = a-secret-of-mine\n"
            )
            assert closed.client().list_buckets()["Buckets"] == []
    finally:
        del os.environ["STRATUM_ACCESS_KEY_ID"], os.environ["STRATUM_SECRET_ACCESS_KEY"]


def test_a_mount_waits_for_a_command_that_has_the_store_open_and_says_so(closed: Doors) -> None:
    locks = Locks()
    locks.take(closed.devices[3])
    words = [BIN / "mount.stratumfs", closed.store, closed.mount, "--log", closed.log]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as asking:
        assert asking.stderr is not None
        said = asking.stderr.readline()
        assert f"{closed.devices[3]} is in use by another owner (process {os.getpid()}): waiting" in said
        locks.release()
        assert asking.wait(COMMAND_S) == 0
    assert mount_at(closed.mount) is not None
    run([BIN / "stratumfs", "umount", closed.mount])


def test_nobody_listens_where_no_owner_lives(closed: Doors) -> None:
    assert connect(closed.store) is None
    assert "no open doors" in run([BIN / "stratumfs", "stop", closed.store])
