"""CopyObject."""

import os
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest

from tests.s3.door import Gateway
from tests.s3.errors import refusal

pytestmark = pytest.mark.client
DATA = os.urandom(1_500_000)
KEY = "a b/ü+%41?x=1"


@pytest.fixture
def source(s3: Any, bucket: str) -> Any:
    """HEAD of an object of DATA under KEY."""
    s3.put_object(
        Bucket=bucket,
        Key=KEY,
        Body=DATA,
        ContentType="a/b",
        Metadata={"m": "1"},
        CacheControl="no-cache",
        StorageClass="STANDARD_IA",
        WebsiteRedirectLocation="/r",
        ChecksumAlgorithm="SHA256",
    )
    return s3.head_object(Bucket=bucket, Key=KEY, ChecksumMode="ENABLED")


def literally(served: Gateway, value: str) -> Any:
    """A client that sends *value* as the copy source; boto3 would encode it once more."""
    s3 = served.client()

    def replace(request: Any, **_: Any) -> None:
        request.headers.replace_header("x-amz-copy-source", value)

    s3.meta.events.register_first("before-sign.s3.CopyObject", replace)
    return s3


def test_a_copy_has_the_bytes_and_what_was_said_of_them(s3: Any, bucket: str, source: Any) -> None:
    s3.create_bucket(Bucket=f"{bucket}-other")
    result = s3.copy_object(Bucket=f"{bucket}-other", Key="to", CopySource={"Bucket": bucket, "Key": KEY})
    got = s3.get_object(Bucket=f"{bucket}-other", Key="to", ChecksumMode="ENABLED")
    assert got["Body"].read() == DATA
    assert got["ETag"] == result["CopyObjectResult"]["ETag"] == source["ETag"]
    assert got["ChecksumSHA256"] == result["CopyObjectResult"]["ChecksumSHA256"] == source["ChecksumSHA256"]
    assert (got["ContentType"], got["CacheControl"], got["Metadata"]) == ("a/b", "no-cache", {"m": "1"})
    # S3 wants these to be said anew
    assert "StorageClass" not in got
    assert "WebsiteRedirectLocation" not in got
    s3.delete_object(Bucket=bucket, Key=KEY)
    assert s3.get_object(Bucket=f"{bucket}-other", Key="to")["Body"].read() == DATA


def test_a_copy_may_replace_what_is_said(s3: Any, bucket: str, source: Any) -> None:
    where = {"Bucket": bucket, "Key": KEY, "CopySource": {"Bucket": bucket, "Key": KEY}}
    s3.copy_object(**where, MetadataDirective="REPLACE", Metadata={"n": "2"}, StorageClass="ONEZONE_IA")
    got = s3.get_object(Bucket=bucket, Key=KEY, ChecksumMode="ENABLED")
    assert got["Body"].read() == DATA
    assert (got["ContentType"], got["Metadata"], got["StorageClass"]) == (
        "binary/octet-stream",
        {"n": "2"},
        "ONEZONE_IA",
    )
    assert "CacheControl" not in got
    assert got["ChecksumSHA256"] == source["ChecksumSHA256"]


def test_a_copy_may_have_another_checksum(s3: Any, bucket: str, source: Any) -> None:
    where = {"Bucket": bucket, "Key": "to", "CopySource": {"Bucket": bucket, "Key": KEY}}
    copied = s3.copy_object(**where, ChecksumAlgorithm="CRC32C")["CopyObjectResult"]["ChecksumCRC32C"]
    put = s3.put_object(Bucket=bucket, Key="same", Body=DATA, ChecksumAlgorithm="CRC32C")["ChecksumCRC32C"]
    head = s3.head_object(Bucket=bucket, Key="to", ChecksumMode="ENABLED")
    assert copied == put == head["ChecksumCRC32C"]
    assert "ChecksumSHA256" not in head


def test_a_copy_onto_itself_must_change_something(s3: Any, bucket: str, source: Any) -> None:
    where = {"Bucket": bucket, "Key": KEY, "CopySource": {"Bucket": bucket, "Key": KEY}}
    assert refusal(s3.copy_object, **where) == (400, "InvalidRequest")
    s3.copy_object(**where, StorageClass="STANDARD")
    assert "StorageClass" not in s3.head_object(Bucket=bucket, Key=KEY)


def test_conditions_on_the_source(s3: Any, bucket: str, source: Any) -> None:
    where = {"Bucket": bucket, "Key": "to", "CopySource": {"Bucket": bucket, "Key": KEY}}
    before = source["LastModified"] - timedelta(seconds=5)
    after = source["LastModified"] + timedelta(seconds=5)
    for failing in (
        {"CopySourceIfMatch": '"x"'},
        {"CopySourceIfNoneMatch": source["ETag"]},
        {"CopySourceIfModifiedSince": after},
        {"CopySourceIfUnmodifiedSince": before},
        {"CopySourceIfNoneMatch": source["ETag"], "CopySourceIfModifiedSince": before},
    ):
        assert refusal(s3.copy_object, **where, **failing) == (412, "PreconditionFailed"), failing
    assert refusal(s3.head_object, Bucket=bucket, Key="to") == (404, "404")
    for holding in (
        {"CopySourceIfMatch": source["ETag"], "CopySourceIfUnmodifiedSince": before},
        {"CopySourceIfNoneMatch": '"x"'},
        {"CopySourceIfModifiedSince": before},
    ):
        s3.copy_object(**where, **holding)


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ("{bucket}/missing", 404, "NoSuchKey"),
        ("no-such-bucket/k", 404, "NoSuchBucket"),
        ("{bucket}", 400, "InvalidArgument"),
        ("{bucket}/", 400, "InvalidArgument"),
        ("/", 400, "InvalidArgument"),
        ("{bucket}/%ff", 400, "InvalidArgument"),
        ("{bucket}/" + quote(KEY) + "?versionId=v1", 404, "NoSuchVersion"),
        ("{bucket}/" + quote(KEY) + "?other=1", 400, "InvalidArgument"),
    ],
)
def test_a_bad_source_is_refused(
    served: Gateway, bucket: str, source: Any, wanted: str, status: int, code: str
) -> None:
    s3 = literally(served, wanted.format(bucket=bucket))
    said = {"Bucket": bucket, "Key": "to", "CopySource": "replaced/below"}
    assert refusal(s3.copy_object, **said) == (status, code)


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"MetadataDirective": "MERGE"}, 400, "InvalidArgument"),
        ({"TaggingDirective": "REPLACE", "Tagging": "a=b"}, 501, "NotImplemented"),
        ({"CopySourceSSECustomerKey": "0" * 32, "CopySourceSSECustomerAlgorithm": "AES256"}, 501, "NotImplemented"),
        ({"ServerSideEncryption": "AES256"}, 501, "NotImplemented"),
        ({"StorageClass": "GLACIER"}, 400, "InvalidStorageClass"),
        ({"Key": "x" * 1025}, 400, "KeyTooLongError"),
        ({"Bucket": "no-such-bucket"}, 404, "NoSuchBucket"),
    ],
)
def test_a_bad_copy_is_refused(s3: Any, bucket: str, source: Any, said: dict[str, Any], status: int, code: str) -> None:
    asked = {"Bucket": bucket, "Key": "to", "CopySource": {"Bucket": bucket, "Key": KEY}, **said}
    assert refusal(s3.copy_object, **asked) == (status, code)
    assert refusal(s3.head_object, Bucket=bucket, Key="to") == (404, "404")


@pytest.mark.parametrize("form", ["/{bucket}/{key}", "{bucket}/{key}?versionId=null", "%2F{bucket}%2F{key}"])
def test_a_source_can_be_spelled_in_more_than_one_way(served: Gateway, bucket: str, source: Any, form: str) -> None:
    s3 = literally(served, form.format(bucket=bucket, key=quote(KEY)))
    s3.copy_object(Bucket=bucket, Key="to", CopySource="replaced/below")
    assert s3.get_object(Bucket=bucket, Key="to")["Body"].read() == DATA
