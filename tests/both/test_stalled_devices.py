"""Readers that hang on devices which do not answer, and everybody else."""

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

import pytest

from tests.both.passthrough import devices
from tests.doors import opened_doors
from tests.model.s3 import Reader

READERS = 200
SIZE = 100_000
STALLED = 3
"""One more than may be lost: no read can go around them."""
ANSWERS_S = 20.0
"""For all that is asked while they hang: less than STRIKE_S, so that none of them is struck meanwhile."""
GO_ON_S = 60.0

T = TypeVar("T")


@pytest.mark.slow
@pytest.mark.mount
@pytest.mark.client
def test_readers_that_hang_on_stalled_devices_do_not_stop_a_stat(tmp_path: Path) -> None:
    with devices(tmp_path, STALLED) as found:
        places = [device.point for device in found] + [tmp_path / f"d{number}" for number in range(STALLED, 6)]
        with opened_doors(tmp_path, places) as doors, ThreadPoolExecutor(READERS + 1) as threads:
            bucket = doors.mount / "bucket"
            bucket.mkdir()
            data = os.urandom(SIZE)
            for number in range(READERS):
                (bucket / f"large-{number}").write_bytes(data)
                (bucket / f"small-{number}").write_bytes(b"small")
            doors.restart()  # which forgets what the owner and the kernel have read
            reader = Reader(doors)
            files = [(bucket / f"large-{number}").open("rb", buffering=0) for number in range(READERS)]
            for device in found:
                device.stall()
            try:
                waiting = [threads.submit(file.read) for file in files]
                assert wait(waiting, timeout=1.0).done == set()
                deadline = time.monotonic() + ANSWERS_S
                for number in range(READERS):
                    _soon(threads.submit(os.stat, bucket / f"small-{number}"), deadline)
                _soon(threads.submit(os.statvfs, bucket), deadline)
                assert len(_soon(threads.submit(os.listdir, bucket), deadline)) == 2 * READERS
                assert _soon(threads.submit((bucket / "small-0").read_bytes), deadline) == b"small"
                assert _soon(threads.submit(reader.get, "bucket", b"small-1"), deadline).data == b"small"
                assert _soon(threads.submit(reader.get, "bucket", b"large-1", "HEAD"), deadline).status == 200
                assert wait(waiting, timeout=0.1).done == set(), "they were to hang all the time"
                for device in found:
                    device.go_on()
                assert all(future.result(GO_ON_S) == data for future in waiting)
            finally:
                for device in found:
                    device.go_on()
                reader.close()
                for file in files:
                    file.close()


def _soon(answer: "Future[T]", deadline: float) -> T:
    return answer.result(max(0.0, deadline - time.monotonic()))
