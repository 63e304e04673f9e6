"""Large bodies that clients are slow with: they are few at once, and keep out nothing else."""

import http.client
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from gateway.service import StoreService
from gateway.turns import Turns
from tests.s3.door import Gateway

pytestmark = pytest.mark.client
LARGE = os.urandom(1 << 20) * 24
"""More than the kernel takes for a client that takes nothing."""
SMALL = b"x" * 60_000
WAIT_S = 60


@pytest.fixture
def service(served: Gateway) -> Iterator[StoreService]:
    """With two turns of each kind."""
    service = served.door._service
    assert isinstance(service, StoreService)
    before = service.uploads, service.downloads
    service.uploads, service.downloads = Turns(2), Turns(2)
    yield service
    service.uploads, service.downloads = before


def wait_in_line(turns: Turns) -> None:
    """Until somebody waits for one."""
    late = time.monotonic() + WAIT_S
    while not turns.waiting:
        assert time.monotonic() < late, "nobody waits for a turn"
        time.sleep(0.01)


def test_downloads_that_stand_still_let_others_wait_and_small_ones_through(
    s3: Any, bucket: str, service: StoreService
) -> None:
    s3.put_object(Bucket=bucket, Key="large", Body=LARGE)
    s3.put_object(Bucket=bucket, Key="small", Body=SMALL)
    first, second = (s3.get_object(Bucket=bucket, Key="large")["Body"] for _ in range(2))
    with ThreadPoolExecutor(1) as beside:
        third = beside.submit(lambda: s3.get_object(Bucket=bucket, Key="large")["Body"].read())
        wait_in_line(service.downloads)
        assert s3.get_object(Bucket=bucket, Key="small")["Body"].read() == SMALL
        assert s3.get_object(Bucket=bucket, Key="large", Range="bytes=5-9")["Body"].read() == LARGE[5:10]
        s3.put_object(Bucket=bucket, Key="another", Body=LARGE)  # uploads have turns of their own
        assert not third.done()
        assert first.read() == LARGE
        assert third.result(WAIT_S) == LARGE
    second.close()


def test_uploads_that_stand_still_let_others_wait_and_small_ones_through(
    s3: Any, bucket: str, service: StoreService
) -> None:
    slow = [begin_upload(s3, bucket, f"slow-{number}") for number in range(2)]
    with ThreadPoolExecutor(1) as beside:
        third = beside.submit(s3.put_object, Bucket=bucket, Key="third", Body=LARGE)
        wait_in_line(service.uploads)
        s3.put_object(Bucket=bucket, Key="small", Body=SMALL)
        assert s3.get_object(Bucket=bucket, Key="small")["Body"].read() == SMALL
        assert not third.done()
        for connection in slow:
            connection.send(LARGE[-5:])
            assert connection.getresponse().status == 200
            connection.close()
        third.result(WAIT_S)
    for key in ("slow-0", "slow-1", "third"):
        assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == LARGE


def test_regression_copies_that_read_their_source_take_turns_too(s3: Any, bucket: str, service: StoreService) -> None:
    """Each holds stripes of it, and boto3 asks for checksums of parts unless it is told not to."""
    s3.put_object(Bucket=bucket, Key="large", Body=LARGE)
    source = {"Bucket": bucket, "Key": "large"}
    slow = [begin_upload(s3, bucket, f"slow-{number}") for number in range(2)]
    held = [s3.get_object(Bucket=bucket, Key="large")["Body"] for _ in range(2)]
    upload = s3.create_multipart_upload(Bucket=bucket, Key="parts", ChecksumAlgorithm="CRC32")["UploadId"]
    s3.copy_object(Bucket=bucket, Key="shares", CopySource=source)
    with ThreadPoolExecutor(2) as beside:
        copy = beside.submit(s3.copy_object, Bucket=bucket, Key="c", CopySource=source, ChecksumAlgorithm="SHA256")
        part = beside.submit(
            s3.upload_part_copy, Bucket=bucket, Key="parts", UploadId=upload, PartNumber=1, CopySource=source
        )
        wait_in_line(service.downloads)
        wait_in_line(service.uploads)
        for body, connection in zip(held, slow, strict=True):
            assert body.read() == LARGE
            connection.send(LARGE[-5:])
            assert connection.getresponse().status == 200
            connection.close()
        assert "ChecksumSHA256" in copy.result(WAIT_S)["CopyObjectResult"]
        assert "ChecksumCRC32" in part.result(WAIT_S)["CopyPartResult"]


def begin_upload(s3: Any, bucket: str, key: str) -> http.client.HTTPConnection:
    """All but the last five bytes."""
    url = urlsplit(s3.generate_presigned_url("put_object", {"Bucket": bucket, "Key": key}))
    connection = http.client.HTTPConnection(url.netloc, timeout=WAIT_S)
    connection.putrequest("PUT", f"{url.path}?{url.query}")
    connection.putheader("content-length", str(len(LARGE)))
    connection.endheaders(LARGE[:-5])
    return connection
