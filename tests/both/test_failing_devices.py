"""Devices that fail while both doors are written to: nobody is told, nothing is lost."""

import errno
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.both.passthrough import devices
from tests.doors import Doors, opened_doors

WRITERS = 3
"""At each door."""
SIZES = (5_000, 300_000, 2_500_000)
NOTICED_S, ONLINE_S = 90.0, 300.0


class Load:
    """Writers at both doors, until they are told to end. Each waits for what it wrote, and remembers it."""

    def __init__(self, doors: Doors) -> None:
        self.acknowledged: dict[str, bytes] = {}
        self._doors = doors
        self._bucket = doors.mount / "bucket"
        self._ending = threading.Event()
        self._moved = threading.Condition()

    def write(self, number: int) -> None:
        put = self._by_mount if number % 2 else self._by_s3()
        count = 0
        while not self._ending.is_set():
            name, data = f"{number}-{count}", os.urandom(SIZES[count % len(SIZES)])
            put(name, data)
            with self._moved:
                self.acknowledged[name] = data
                self._moved.notify_all()
            count += 1

    def wait_for_more(self, count: int) -> None:
        """Return when so many more writes are acknowledged."""
        with self._moved:
            upto = len(self.acknowledged) + count
            assert self._moved.wait_for(lambda: len(self.acknowledged) >= upto, 60), "writes do not go on"

    def end(self) -> None:
        self._ending.set()

    def _by_s3(self) -> Callable[[str, bytes], object]:
        client = self._doors.client()
        return lambda name, data: client.put_object(Bucket="bucket", Key=name, Body=data)

    def _by_mount(self, name: str, data: bytes) -> None:
        with (self._bucket / name).open("wb", buffering=0) as file:
            file.write(data)
            os.fsync(file.fileno())


@pytest.mark.slow
@pytest.mark.mount
@pytest.mark.client
def test_devices_that_fail_or_are_full_under_load_are_noticed_by_nobody_but_status(tmp_path: Path) -> None:
    with devices(tmp_path, 3) as found:
        dead, erring, full = found
        places = [device.point for device in found] + [tmp_path / f"d{number}" for number in range(3, 6)]
        with opened_doors(tmp_path, places) as doors:
            doors.expected += ["device_struck", "device_state", "damaged and was read around", "writes_wait"]
            doors.expected += ["device_not_used", "shard_not_removed", "sealed_without_a_table"]
            (doors.mount / "bucket").mkdir()
            load = Load(doors)
            with ThreadPoolExecutor(2 * WRITERS) as threads:
                writers = [threads.submit(load.write, number) for number in range(2 * WRITERS)]
                try:
                    load.wait_for_more(10)
                    full.fail(errno.ENOSPC)
                    load.wait_for_more(10)
                    full.fail(0)
                    erring.fail(errno.EIO)
                    load.wait_for_more(10)
                    dead.stall()
                    dead.close()  # every call of it ends with an error
                    load.wait_for_more(10)
                    deadline = time.monotonic() + NOTICED_S
                    while not {*_states(doors)[:2]} <= {"failed", "read_only"}:
                        assert time.monotonic() < deadline, _states(doors)
                        load.wait_for_more(1)
                finally:
                    load.end()
                for writer in writers:
                    writer.result()
            states = _states(doors)
            erring.fail(0)
            _compare(doors, load.acknowledged)
            assert states[0] in ("failed", "read_only")
            assert states[1] in ("failed", "read_only")
            assert states[3:] == ["online"] * 3
            doors.restart()
            assert doors.status()["read_only"] is None
            deadline = time.monotonic() + ONLINE_S
            while _states(doors)[1] != "online":  # it answers again, and is caught up
                assert time.monotonic() < deadline
            _compare(doors, load.acknowledged)
            (doors.mount / "bucket" / "later").write_bytes(b"x" * 100_000)


def _states(doors: Doors) -> list[str]:
    return [device["state"] for device in doors.status()["devices"]]


def _compare(doors: Doors, acknowledged: dict[str, bytes]) -> None:
    client = doors.client()
    assert len(os.listdir(doors.mount / "bucket")) >= len(acknowledged)
    for name, data in acknowledged.items():
        if int(name.partition("-")[0]) % 2:
            assert client.get_object(Bucket="bucket", Key=name)["Body"].read() == data
        else:
            assert (doors.mount / "bucket" / name).read_bytes() == data
