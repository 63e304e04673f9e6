"""What one door has acknowledged the other shows at once, also while the directory is busy."""

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.doors import Doors
from tests.model.s3 import Reader

REPLACEMENTS = 100
NAMES = 40

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


@contextmanager
def churn(folder: Path, threads: int = 3) -> Iterator[None]:
    """Create, list, stat, rename and unlink names in *folder* beside the block."""
    stop, errors = threading.Event(), list[BaseException]()

    def work(number: int) -> None:
        try:
            for turn in range(10**9):
                if stop.is_set():
                    return
                path = folder / f"churn-{number}-{turn % 5}"
                path.write_bytes(b"")
                path.rename(folder / f"churned-{number}")
                os.listdir(folder)
                os.path.lexists(folder / f"stable-{turn % NAMES}")
                (folder / f"churned-{number}").unlink()
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in running:
            thread.join()
    assert not errors, errors


def test_what_s3_has_replaced_is_seen_through_a_busy_mount(shared_doors: Doors) -> None:
    bucket = shared_doors.mount / "from-s3"
    bucket.mkdir()
    s3, rng = shared_doors.client(), random.Random(1)
    with churn(bucket):
        for number in range(1, REPLACEMENTS + 1):
            name = f"stable-{rng.randrange(NAMES)}"
            data = f"{number} ".encode().ljust(number, b".")
            if rng.random() < 0.2:
                s3.delete_object(Bucket=bucket.name, Key=name)
                assert not os.path.lexists(bucket / name), f"{name} was deleted"
                assert name not in os.listdir(bucket)
                continue
            s3.put_object(Bucket=bucket.name, Key=name, Body=data)
            assert os.stat(bucket / name).st_size == len(data)
            assert (bucket / name).read_bytes() == data
            assert name in os.listdir(bucket)


def test_directories_that_s3_makes_and_removes_are_seen_through_a_busy_mount(shared_doors: Doors) -> None:
    bucket = shared_doors.mount / "from-s3-deep"
    bucket.mkdir()
    s3, rng = shared_doors.client(), random.Random(2)
    with churn(bucket):
        for _ in range(REPLACEMENTS // 3):
            name = f"stable-{rng.randrange(5)}"
            links = os.stat(bucket).st_nlink
            s3.put_object(Bucket=bucket.name, Key=f"{name}/below/it", Body=b"x")
            assert os.stat(bucket).st_nlink == links + 1
            assert os.listdir(bucket / name / "below") == ["it"]
            s3.put_object(Bucket=bucket.name, Key=name, Body=b"beside")
            assert (bucket / f"_-_o{name}").read_bytes() == b"beside"
            s3.delete_object(Bucket=bucket.name, Key=f"{name}/below/it")
            assert (bucket / name).read_bytes() == b"beside"
            assert not os.path.lexists(bucket / f"_-_o{name}")
            s3.delete_object(Bucket=bucket.name, Key=name)
            assert not os.path.lexists(bucket / name)


def test_what_the_mount_has_done_is_seen_through_s3(shared_doors: Doors) -> None:
    bucket = shared_doors.mount / "from-mount"
    bucket.mkdir()
    reader, rng = Reader(shared_doors), random.Random(3)
    with churn(bucket):
        for number in range(1, REPLACEMENTS + 1):
            name = f"stable-{rng.randrange(NAMES)}"
            data = f"{number} ".encode().ljust(number, b".")
            (bucket / name).write_bytes(data)
            assert reader.get(bucket.name, name.encode()).data == data
            if rng.random() < 0.3:
                (bucket / name).rename(bucket / "stable-renamed")
                assert reader.get(bucket.name, name.encode()).status == 404
                assert reader.get(bucket.name, b"stable-renamed").data == data
                keys, _ = reader.list(bucket.name, b"stable-")
                assert name.encode() not in keys
                assert keys[b"stable-renamed"].size == len(data)
    reader.close()
