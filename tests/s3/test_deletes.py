"""DeleteObject and DeleteObjects."""

from typing import Any

import pytest

from tests.s3.door import Gateway
from tests.s3.errors import refusal

pytestmark = pytest.mark.client


def keys(s3: Any, bucket: str) -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_to_delete_nothing_is_204(s3: Any, bucket: str) -> None:
    answer = s3.delete_object(Bucket=bucket, Key="nothing")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert "VersionId" not in answer


def test_many_are_deleted_at_once_and_named(s3: Any, bucket: str) -> None:
    made = [f"d/{number} <&>\"'" for number in range(60)]
    for key in made:
        s3.put_object(Bucket=bucket, Key=key)
    wanted = [{"Key": key} for key in [*made, "missing"]]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": wanted})
    assert [item["Key"] for item in answer["Deleted"]] == [*made, "missing"]
    assert "Errors" not in answer
    assert keys(s3, bucket) == []


def test_quietly_only_errors_are_named(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="a")["ETag"]
    s3.put_object(Bucket=bucket, Key="b")
    s3.put_object(Bucket=bucket, Key="c")
    wanted = [
        {"Key": "a", "ETag": etag},
        {"Key": "b", "ETag": '"another"'},
        {"Key": "c", "VersionId": "v1"},
        {"Key": "c", "Size": 0},
    ]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": wanted, "Quiet": True})
    assert "Deleted" not in answer
    assert sorted((item["Key"], item["Code"]) for item in answer["Errors"]) == [
        ("b", "PreconditionFailed"),
        ("c", "NoSuchVersion"),
        ("c", "NotImplemented"),
    ]
    assert keys(s3, bucket) == ["b", "c"]


def test_the_null_version_is_the_object(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k")
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", "VersionId": "null"}]})
    assert keys(s3, bucket) == []


def test_more_than_a_thousand_are_refused(s3: Any, bucket: str) -> None:
    wanted = {"Objects": [{"Key": str(number)} for number in range(1001)]}
    assert refusal(s3.delete_objects, Bucket=bucket, Delete=wanted) == (400, "MalformedXML")
    assert refusal(s3.delete_objects, Bucket=bucket, Delete={"Objects": []}) == (400, "MalformedXML")
    missing = {"Objects": [{"Key": "k"}]}
    assert refusal(s3.delete_objects, Bucket="no-such", Delete=missing) == (404, "NoSuchBucket")


def test_a_body_without_a_digest_is_refused(served: Gateway, bucket: str) -> None:
    s3 = served.client()

    def strip(request: Any, **_: Any) -> None:
        for name in [name for name in request.headers if name.lower().startswith(("x-amz-checksum", "content-md5"))]:
            del request.headers[name]

    s3.meta.events.register_first("before-sign.s3.DeleteObjects", strip)
    wanted = {"Objects": [{"Key": "k"}]}
    assert refusal(s3.delete_objects, Bucket=bucket, Delete=wanted) == (400, "InvalidRequest")
