"""Conditional and partial reads."""

from datetime import timedelta
from typing import Any

import pytest

from tests.s3.errors import refusal

pytestmark = pytest.mark.client
DATA = bytes(range(256)) * 9000  # more than two stripes


@pytest.fixture
def found(s3: Any, bucket: str) -> Any:
    """HEAD of an object with DATA under ``k``."""
    s3.put_object(Bucket=bucket, Key="k", Body=DATA, CacheControl="max-age=9")
    return s3.head_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=1048570-1048580", 1048570, 1048581),
        ("bytes=2304000-", 2304000, None),
        ("bytes=2000000-99999999", 2000000, None),
        ("bytes=-5", len(DATA) - 5, None),
        ("bytes=-99999999", 0, None),
    ],
)
def test_a_range_is_206_and_just_these_bytes(
    s3: Any, bucket: str, found: Any, wanted: str, start: int, stop: int | None
) -> None:
    stop = len(DATA) if stop is None else stop
    if start == stop:
        assert refusal(s3.get_object, Bucket=bucket, Key="k", Range=wanted) == (416, "InvalidRange")
        return
    got = s3.get_object(Bucket=bucket, Key="k", Range=wanted)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert got["ContentRange"] == f"bytes {start}-{stop - 1}/{len(DATA)}"
    assert got["ContentLength"] == stop - start
    assert got["Body"].read() == DATA[start:stop]
    head = s3.head_object(Bucket=bucket, Key="k", Range=wanted)
    assert head["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert head["ContentLength"] == stop - start


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "bytes=9-3", "pages=1-2", "bytes=x"])
def test_what_is_no_single_range_gets_everything(s3: Any, bucket: str, found: Any, wanted: str) -> None:
    got = s3.get_object(Bucket=bucket, Key="k", Range=wanted)
    assert got["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert got["Body"].read() == DATA


def test_a_range_of_nothing_is_416(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="empty")
    assert refusal(s3.get_object, Bucket=bucket, Key="empty", Range="bytes=0-") == (416, "InvalidRange")
    assert refusal(s3.head_object, Bucket=bucket, Key="empty", Range="bytes=0-5") == (416, "416")


def test_if_range_sends_all_of_another_version(s3: Any, bucket: str, found: Any) -> None:
    def add(condition: str) -> Any:
        def handler(params: Any, **_: Any) -> None:
            params["headers"]["If-Range"] = condition

        s3.meta.events.register("before-call.s3.GetObject", handler, unique_id="if-range")
        try:
            return s3.get_object(Bucket=bucket, Key="k", Range="bytes=5-9")
        finally:
            s3.meta.events.unregister("before-call.s3.GetObject", unique_id="if-range")

    assert add(found["ETag"])["Body"].read() == DATA[5:10]
    assert add('"another"')["Body"].read() == DATA


def test_conditions_decide_between_200_304_and_412(s3: Any, bucket: str, found: Any) -> None:
    etag, modified = found["ETag"], found["LastModified"]
    before, after = modified - timedelta(seconds=1), modified + timedelta(seconds=1)
    for call in (s3.get_object, s3.head_object):

        def status(call: Any = call, **conditions: Any) -> int:
            try:
                response = call(Bucket=bucket, Key="k", **conditions)
            except s3.exceptions.ClientError as error:
                response = error.response
                if response["ResponseMetadata"]["HTTPStatusCode"] == 304:
                    headers = response["ResponseMetadata"]["HTTPHeaders"]
                    assert headers["etag"] == etag
                    assert headers["cache-control"] == "max-age=9"
                    assert "content-length" not in headers
            found: int = response["ResponseMetadata"]["HTTPStatusCode"]
            return found

        assert status(IfMatch=etag) == 200
        assert status(IfMatch='"x"') == 412
        assert status(IfNoneMatch=etag) == 304
        assert status(IfNoneMatch='"x"') == 200
        assert status(IfModifiedSince=before) == 200
        assert status(IfModifiedSince=modified) == 304
        assert status(IfUnmodifiedSince=after) == 200
        assert status(IfUnmodifiedSince=before) == 412
        assert status(IfMatch=etag, IfUnmodifiedSince=before) == 200
        assert status(IfNoneMatch='"x"', IfModifiedSince=after) == 200
        assert status(IfNoneMatch=etag, IfModifiedSince=before) == 304
        assert status(IfMatch='"x"', IfNoneMatch=etag) == 412


def test_a_condition_on_nothing_is_404(s3: Any, bucket: str) -> None:
    assert refusal(s3.get_object, Bucket=bucket, Key="k", IfMatch='"x"') == (404, "NoSuchKey")


def test_a_part_number_of_an_object_in_one_piece(s3: Any, bucket: str, found: Any) -> None:
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=1)
    assert got["Body"].read() == DATA
    assert "PartsCount" not in got
    assert refusal(s3.get_object, Bucket=bucket, Key="k", PartNumber=2) == (416, "InvalidPartNumber")
    assert refusal(s3.get_object, Bucket=bucket, Key="k", PartNumber=0) == (400, "InvalidArgument")
    both = {"PartNumber": 1, "Range": "bytes=0-1"}
    assert refusal(s3.get_object, Bucket=bucket, Key="k", **both) == (400, "InvalidRequest")
