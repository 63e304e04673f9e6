"""A cold tier whose service is dead, stalled, or lies: what is hot goes on unharmed; what is cold fails clearly, in
time, and never with wrong bytes."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.doors import BIN, Doors, run
from tests.faults.proxy import Proxy, Rule, proxy
from tests.faults.wrongs import KINDS
from tests.remotes import opened_cold
from tools.measure.endpoint import Endpoint

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]

READERS = 200
FILES = 20
SIZE = 300_000
DEADLINE_S = 5
"""Of a read of the cold tier, for its turn and for its answer."""
BOUND_S = 2 * DEADLINE_S + 60
"""In which each reader has its error; the half minute and more is for what else goes on here meanwhile."""
COLD = {f"cold{number}": os.urandom(SIZE) for number in range(FILES)}
HOT = os.urandom(2_000_000)


@pytest.fixture
def between(service: Endpoint) -> Iterator[Proxy]:
    with proxy(service) as made:
        yield made


@pytest.fixture
def cut(tmp_path: Path, between: Proxy, service_keys: Path) -> Iterator[Doors]:
    """COLD in the cold tier, which nothing has been read from; HOT in the hot one."""
    with opened_cold(tmp_path, between.url, service_keys, f"deadline_s = {DEADLINE_S}\n") as found:
        (found.mount / "bucket").mkdir()
        (found.mount / "hot").mkdir()
        for name, data in COLD.items():
            (found.mount / "bucket" / name).write_bytes(data)
        (found.mount / "hot" / "file").write_bytes(HOT)
        run([BIN / "stratum-tier", "move", found.mount / "bucket", "--to", "cold"])
        found.restart()
        yield found


def test_a_service_that_fails_harms_nobody_but_who_reads_what_is_there(cut: Doors, between: Proxy) -> None:
    for kind in ("stalled before the head", "reset at once"):
        cut.restart()  # what was read is remembered by the kernel, and by the owner
        between.hit.clear()
        between.rules = [Rule(KINDS[kind], "GET", count=None)]
        with _readers(cut) as (readers, took):
            between.wait_until_hit("GET", 1)
            _use_what_is_hot(cut)
        assert {_kind(each) for each in readers} == {"failed"}, kind
        assert len(took) == READERS
        assert max(took) < BOUND_S, kind
        between.rules = []
        _check_cold(cut)
    # The encryption of the tier sees what a client of S3 cannot see.
    for kind in ("a bit flipped", "the bytes of another", "another range", "shortened"):
        cut.restart()
        between.rules = [Rule(KINDS[kind], "GET", count=None)]
        with pytest.raises(OSError, match="Input/output"):
            (cut.mount / "bucket" / "cold0").read_bytes()
        between.rules = []
    _check_cold(cut)


@contextmanager
def _readers(doors: Doors) -> Iterator[tuple[list[Future[bytes]], list[float]]]:
    """Half through each door, and the seconds that each takes; all have ended behind it."""
    names, took = list(COLD), list[float]()
    with closing(doors.client(max_pool_connections=READERS)) as client, ThreadPoolExecutor(READERS) as pool:

        def by_mount(name: str) -> bytes:
            return (doors.mount / "bucket" / name).read_bytes()

        def by_s3(name: str) -> bytes:
            return bytes(client.get_object(Bucket="bucket", Key=name)["Body"].read())

        tasks: list[Callable[[str], bytes]] = [by_mount, by_s3]

        def read(number: int) -> bytes:
            began = time.monotonic()
            try:
                return tasks[number % 2](names[number % len(names)])
            finally:
                took.append(time.monotonic() - began)

        yield [pool.submit(read, number) for number in range(READERS)], took


def _kind(reader: Future[bytes]) -> str:
    error = reader.exception()
    if isinstance(error, (OSError, ClientError, BotoCoreError)):
        return "failed"
    return "read" if error is None else repr(error)


def _use_what_is_hot(doors: Doors) -> None:
    with closing(doors.client()) as client:
        for number in range(5):
            assert os.stat(doors.mount / "bucket" / "cold0").st_size == SIZE
            assert (doors.mount / "hot" / "file").read_bytes() == HOT
            (doors.mount / "hot" / f"written{number}").write_bytes(HOT)
            assert client.get_object(Bucket="hot", Key="file")["Body"].read() == HOT
            client.put_object(Bucket="hot", Key=f"put{number}", Body=HOT)
            assert client.head_object(Bucket="bucket", Key="cold0")["ContentLength"] == SIZE


def _check_cold(doors: Doors) -> None:
    """After the service has come back, it is asked again when it has rested."""
    while _fails(doors.mount / "bucket" / "cold0"):
        doors.status()
    with closing(doors.client()) as client:
        for name, data in COLD.items():
            assert (doors.mount / "bucket" / name).read_bytes() == data
            assert client.get_object(Bucket="bucket", Key=name)["Body"].read() == data


def _fails(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return True
    return False
