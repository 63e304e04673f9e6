"""The store folder is lost, with the database of the catalog in it: the store goes on with a copy."""

import os
import shutil
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tests.both.passthrough import Device
from tests.doors import BIN, CommandFailed, Doors, opened_doors, run
from tests.model.s3 import Reader

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


def _fill(doors: Doors) -> dict[str, bytes]:
    """Something through each door."""
    (doors.mount / "bucket").mkdir()
    found = {f"file-{number}": os.urandom(number * 9000 + 1) for number in range(6)}
    for name, data in found.items():
        (doors.mount / "bucket" / name).write_bytes(data)
    client = doors.client()
    for number in range(6):
        found[f"object-{number}"] = os.urandom(number * 9000 + 1)
        client.put_object(Bucket="bucket", Key=f"object-{number}", Body=found[f"object-{number}"])
    return found


def _check(doors: Doors, wanted: dict[str, bytes]) -> None:
    """Each through the mount and through S3."""
    with closing(Reader(doors)) as reader:
        _check_by(doors, reader, wanted)


def _check_by(doors: Doors, reader: Reader, wanted: dict[str, bytes]) -> None:
    for name, data in wanted.items():
        assert (doors.mount / "bucket" / name).read_bytes() == data
        assert reader.get("bucket", name.encode()).data == data


def test_a_store_whose_folder_is_gone_is_opened_by_any_of_its_devices(doors: Doors) -> None:
    wanted = _fill(doors)
    keys = doors.credentials
    doors.stop()
    shutil.rmtree(doors.store)
    words = f"gateway=127.0.0.1:{doors.port}"
    run([BIN / "mount.stratumfs", doors.devices[4], doors.mount, "-o", words, "--log", doors.log])
    assert doors.credentials == keys
    _check(doors, wanted)
    (doors.mount / "bucket" / "later").write_bytes(b"written afterwards")
    doors.restart()
    _check(doors, wanted | {"later": b"written afterwards"})


def test_without_a_place_for_the_store_folder_a_device_stands_in_for_it(doors: Doors) -> None:
    wanted = _fill(doors)
    doors.stop()
    lost = doors.store
    shutil.rmtree(lost)
    lost.write_bytes(b"in the way")
    words = f"gateway=127.0.0.1:{doors.port}"
    run([BIN / "mount.stratumfs", doors.devices[4], doors.mount, "-o", words, "--log", doors.log])
    doors.store = Path(
        run([BIN / "stratumfs", "status", "--json", doors.devices[2]]).split('"store": "')[1].split('"')[0]
    )
    _check(doors, wanted)
    (doors.mount / "bucket" / "later").write_bytes(b"written afterwards")
    doors.stop()
    lost.unlink()
    doors.store = lost
    run([BIN / "mount.stratumfs", doors.devices[1], doors.mount, "-o", words, "--log", doors.log])
    _check(doors, wanted | {"later": b"written afterwards"})


def test_a_store_folder_that_comes_back_does_not_bring_back_a_device_that_was_replaced(doors: Doors) -> None:
    doors.expected.append("device_struck")
    wanted = _fill(doors)
    doors.stop()
    away = doors.store.rename(doors.store.with_name("away"))
    words = f"gateway=127.0.0.1:{doors.port}"
    mount = [BIN / "mount.stratumfs", doors.devices[4], doors.mount, "-o", words, "--log", doors.log]
    run(mount)
    spare = doors.store.with_name("spare")
    spare.mkdir()
    run([BIN / "stratumfs", "device", "replace", doors.store, doors.devices[1], spare])
    _check(doors, wanted)
    doors.stop()
    shutil.rmtree(doors.store)
    away.rename(doors.store)
    run(mount)
    listed = run([BIN / "stratumfs", "device", "list", doors.store])
    assert str(spare) in listed
    assert str(doors.devices[1]) not in listed
    _check(doors, wanted)


def test_the_store_folder_dies_under_load_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    device = Device(tmp_path / "behind", tmp_path / "disk")
    (tmp_path / "disk" / "store").mkdir()
    (tmp_path / "store").symlink_to(tmp_path / "disk" / "store")
    try:
        with opened_doors(tmp_path) as doors, closing(Reader(doors)) as reader:
            doors.expected += ["the catalog", "a place", "identity"]
            wanted = _fill(doors)
            busy = _Busy(doors)
            pid = doors.pid
            assert pid is not None
            busy.wait_for(5)
            device.die()
            busy.wait_for(20)
            wanted |= busy.stop()
            _check_by(doors, reader, wanted)
            with pytest.raises(CommandFailed, match="is lost"):
                run([BIN / "stratumfs", "umount", doors.mount])
            device.close()  # as long as it is there, dead, no store folder can be made anew in it
            run(
                [BIN / "stratumfs", "stop", doors.devices[5]]
            )  # the owner looks every few seconds where it is looked for
            subprocess.run(["tail", f"--pid={pid}", "-f", "/dev/null"], timeout=60, check=True)
            words = f"gateway=127.0.0.1:{doors.port}"
            run([BIN / "mount.stratumfs", doors.devices[0], doors.mount, "-o", words, "--log", doors.log])
            _check(doors, wanted)
    finally:
        device.close()


class _Busy:
    """Two writers, one at each door; ``stop`` returns what was acknowledged. Any error is raised there."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._done: dict[str, bytes] = {}
        self._errors: list[Exception] = []
        self._ended = threading.Event()
        self._changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._run, args=(put,)) for put in (self._put_file, self._object_putter())
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, more: int) -> None:
        """Return when so many more writes were acknowledged."""
        wanted = len(self._done) + more
        with self._changed:
            assert self._changed.wait_for(lambda: len(self._done) >= wanted or self._errors, 60), "nothing is written"

    def stop(self) -> dict[str, bytes]:
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
        if self._errors:
            raise self._errors[0]
        return self._done

    def _run(self, put) -> None:  # type: ignore[no-untyped-def]
        number = 0
        while not self._ended.is_set():
            number += 1
            data = os.urandom(number * 997 % 40_000 + 1)
            try:
                name = put(number, data)
            except Exception as error:
                self._errors.append(error)
                self._ended.set()
                return
            with self._changed:
                self._done[name] = data
                self._changed.notify_all()

    def _put_file(self, number: int, data: bytes) -> str:
        (self._doors.mount / "bucket" / f"busy-file-{number}").write_bytes(data)
        return f"busy-file-{number}"

    def _object_putter(self):  # type: ignore[no-untyped-def]
        client = self._doors.client()

        def put(number: int, data: bytes) -> str:
            client.put_object(Bucket="bucket", Key=f"busy-object-{number}", Body=data)
            return f"busy-object-{number}"

        return put
