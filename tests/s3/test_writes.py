"""Conditional writes: decided in the transaction, so one of many wins."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.s3.door import Gateway
from tests.s3.errors import refusal

pytestmark = pytest.mark.client


def test_if_none_match_star_creates_and_never_replaces(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")
    again = {"Bucket": bucket, "Key": "k", "Body": b"2", "IfNoneMatch": "*"}
    assert refusal(s3.put_object, **again) == (412, "PreconditionFailed")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"


def test_if_match_replaces_what_the_writer_knows(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=etag)
    stale = {"Bucket": bucket, "Key": "k", "Body": b"3", "IfMatch": etag}
    assert refusal(s3.put_object, **stale) == (412, "PreconditionFailed")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"
    missing = {"Bucket": bucket, "Key": "missing", "Body": b"3", "IfMatch": etag}
    assert refusal(s3.put_object, **missing) == (404, "NoSuchKey")


def test_a_delete_may_have_a_condition(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["ETag"]
    assert refusal(s3.delete_object, Bucket=bucket, Key="k", IfMatch='"x"') == (412, "PreconditionFailed")
    assert refusal(s3.delete_object, Bucket=bucket, Key="k", IfMatchSize=1) == (501, "NotImplemented")
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
    assert refusal(s3.head_object, Bucket=bucket, Key="k") == (404, "404")


def test_a_copy_and_a_completion_may_have_conditions_too(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    s3.put_object(Bucket=bucket, Key="target", Body=b"2")
    copy = {"Bucket": bucket, "Key": "target", "CopySource": f"{bucket}/k", "IfNoneMatch": "*"}
    assert refusal(s3.copy_object, **copy) == (412, "PreconditionFailed")
    upload = s3.create_multipart_upload(Bucket=bucket, Key="target")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="target", UploadId=upload, PartNumber=1, Body=b"3")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    complete = {"Bucket": bucket, "Key": "target", "UploadId": upload, "MultipartUpload": parts}
    assert refusal(s3.complete_multipart_upload, **complete, IfNoneMatch="*") == (412, "PreconditionFailed")
    assert s3.get_object(Bucket=bucket, Key="target")["Body"].read() == b"2"
    etag = s3.head_object(Bucket=bucket, Key="target")["ETag"]
    s3.complete_multipart_upload(**complete, IfMatch=etag)
    assert s3.get_object(Bucket=bucket, Key="target")["Body"].read() == b"3"


def test_of_racing_writers_one_wins(served: Gateway, s3: Any, bucket: str) -> None:
    def write(number: int) -> int | None:
        try:
            s3.put_object(Bucket=bucket, Key="race", Body=b"%d" % number * 40_000, IfNoneMatch="*")
        except s3.exceptions.ClientError as error:
            return None if _lost(error) else -1
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [number for number in pool.map(write, range(16)) if number is not None]
    assert len(winners) == 1
    assert s3.get_object(Bucket=bucket, Key="race")["Body"].read() == b"%d" % winners[0] * 40_000


def test_a_counter_behind_if_match_loses_no_step(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="counter", Body=b"0")

    def step(_: int) -> None:
        while True:
            got = s3.get_object(Bucket=bucket, Key="counter")
            value = int(got["Body"].read()) + 1
            try:
                s3.put_object(Bucket=bucket, Key="counter", Body=b"%d" % value, IfMatch=got["ETag"])
            except s3.exceptions.ClientError as error:
                if not _lost(error):
                    raise
            else:
                return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(step, range(24)))
    assert s3.get_object(Bucket=bucket, Key="counter")["Body"].read() == b"24"


def _lost(error: Any) -> bool:
    """Whether the error says that another one was faster."""
    code: str = error.response["Error"]["Code"]
    return code == "PreconditionFailed"
