"""The disk of the catalog is full: both doors refuse what is new, and go on with all else."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.doors import opened_doors

SIZE_MIB, BALLAST_MIB = 96, 48
OBJECT = bytes(range(256)) * 60
"""Short enough to lie in the catalog."""

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


@contextmanager
def small_disk(point: Path) -> Iterator[None]:
    point.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "none", str(point)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(point)], check=True)


def test_a_full_disk_of_the_catalog_refuses_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path / "store"), opened_doors(tmp_path) as doors:
        ballast = doors.store / "ballast"
        ballast.write_bytes(bytes(BALLAST_MIB << 20))
        client = doors.client()
        client.create_bucket(Bucket="bucket")
        bucket = doors.mount / "bucket"
        promised, written, by_mount = 0, 0, 0
        by_s3: set[int] = set()
        deadline = time.monotonic() + 120
        while not by_mount:  # some room may come back between what S3 and what the mount refuses
            assert time.monotonic() < deadline, "it takes more than it has room for"
            try:
                client.put_object(Bucket="bucket", Key=f"key-{promised}", Body=OBJECT)
                promised += 1
                continue
            except ClientError as error:
                by_s3.add(error.response["ResponseMetadata"]["HTTPStatusCode"])
            try:
                (bucket / f"file-{written}").write_bytes(OBJECT)
                written += 1
            except OSError as error:
                by_mount = error.errno or -1
        assert by_s3 <= {503, 507}
        assert by_mount == errno.ENOSPC
        # What is there is read, listed and deleted, at both doors.
        assert client.get_object(Bucket="bucket", Key="key-0")["Body"].read() == OBJECT
        assert (bucket / f"key-{promised - 1}").read_bytes() == OBJECT
        client.delete_object(Bucket="bucket", Key="key-0")
        os.unlink(bucket / "key-1")
        assert not {"key-0", "key-1"} & set(os.listdir(bucket))
        assert doors.status()["read_only"] is None
        ballast.unlink()
        deadline = time.monotonic() + 120
        while True:
            try:
                client.put_object(Bucket="bucket", Key="later", Body=OBJECT)
                break
            except ClientError:
                assert time.monotonic() < deadline, "it does not take anything again"
        (bucket / "file").write_bytes(OBJECT)
        doors.kill()
        doors.start()
        assert (bucket / "file").read_bytes() == OBJECT
        for number in (2, promised - 1):
            assert (bucket / f"key-{number}").read_bytes() == OBJECT
        assert {path.name for path in bucket.iterdir()} >= {"later", "file", *(f"key-{n}" for n in range(2, promised))}
        doors.stop()
        assert doors.audit() == []
        assert doors.complaints() == []
