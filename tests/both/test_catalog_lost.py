"""The store folder and every copy of the catalog are lost, and the catalog is made again of its image."""

import errno
import os
import shutil
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.doors import BIN, Doors, run
from tests.model.s3 import Reader

pytestmark = [pytest.mark.slow, pytest.mark.mount, pytest.mark.client]


def test_all_but_what_lay_in_the_catalog_alone_is_back_through_both_doors(doors: Doors) -> None:
    doors.expected += ["rows_damaged", "fail their checksum"]
    bucket = doors.mount / "bucket"
    (bucket / "deep").mkdir(parents=True)
    wanted = {f"deep/file-{number}": os.urandom(200_000 * number + 20_000) for number in range(4)}
    for name, data in wanted.items():
        (bucket / name).write_bytes(data)
    client = doors.client()
    for number in range(4):
        wanted[f"object-{number}"] = os.urandom(300_000 * number + 20_000)
        client.put_object(
            Bucket="bucket", Key=f"object-{number}", Body=wanted[f"object-{number}"], Metadata={"number": str(number)}
        )
    (bucket / "deep/link").symlink_to("file-1")
    (bucket / "short").write_bytes(b"in the catalog alone")
    etags = {key["Key"]: key["ETag"] for key in client.list_objects_v2(Bucket="bucket")["Contents"]}
    run([BIN / "stratumfs", "catalog", "image", doors.store])
    keys = doors.credentials
    doors.stop()

    shutil.rmtree(doors.store)
    for device in doors.devices:
        shutil.rmtree(device / "catalog", ignore_errors=True)
    done = _rebuild(doors.devices[3])
    assert "bucket/short: 20 bytes at 0" in done
    assert doors.credentials == keys
    doors.start()

    client = doors.client()
    assert {key["Key"]: key["ETag"] for key in client.list_objects_v2(Bucket="bucket")["Contents"]} == etags
    assert client.head_object(Bucket="bucket", Key="object-2")["Metadata"] == {"number": "2"}
    assert os.readlink(bucket / "deep/link") == "file-1"
    with closing(Reader(doors)) as reader:
        for name, data in wanted.items():
            assert (bucket / name).read_bytes() == data
            assert reader.get("bucket", name.encode()).data == data
    with pytest.raises(OSError) as by_mount:
        (bucket / "short").read_bytes()
    assert by_mount.value.errno == errno.EIO
    with pytest.raises(ClientError) as by_s3:
        client.get_object(Bucket="bucket", Key="short")
    assert by_s3.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    (bucket / "short").write_bytes(b"written again")
    assert client.get_object(Bucket="bucket", Key="short")["Body"].read() == b"written again"
    doors.stop()
    assert doors.audit() == []


def _rebuild(device: Path) -> str:
    """It says that something was lost."""
    command = [BIN / "fsck.stratumfs", "--rebuild-catalog", device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 + 4, done.stderr  # mended, and something is left
    return done.stdout
