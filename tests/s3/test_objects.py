"""Objects: what goes in comes out, with all that was said of it."""

import hashlib
import os
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.s3.door import Gateway, gateway
from tests.s3.errors import refusal

pytestmark = pytest.mark.client
MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 16 << 10, (16 << 10) + 1, MIB, 3 * MIB + 7])
def test_an_object_comes_back_byte_for_byte(s3: Any, bucket: str, size: int) -> None:
    data = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=data)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == data
    assert put["ETag"] == got["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert got["ContentLength"] == size
    assert got["AcceptRanges"] == "bytes"
    assert got["ContentType"] == "binary/octet-stream"
    assert "VersionId" not in got
    assert "StorageClass" not in got


def test_headers_and_metadata_are_stored_and_said_again(s3: Any, bucket: str) -> None:
    said = {
        "ContentType": "text/x-test",
        "CacheControl": "max-age=7",
        "ContentDisposition": 'attachment; filename="a b.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de",
        "WebsiteRedirectLocation": "/elsewhere",
        "Metadata": {"colour": "green", "empty": "", "long": "x" * 1500},
        "StorageClass": "STANDARD_IA",
    }
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **said, Expires="2031-05-06T07:08:09Z")
    got = s3.get_object(Bucket=bucket, Key="k")
    head = s3.head_object(Bucket=bucket, Key="k")
    for name, value in said.items():
        assert got[name] == head[name] == value, name
    assert got["ExpiresString"] == head["ExpiresString"] == "Tue, 06 May 2031 07:08:09 GMT"
    assert head["ContentLength"] == 1
    assert head["LastModified"] == got["LastModified"]
    assert s3.list_objects_v2(Bucket=bucket)["Contents"][0]["StorageClass"] == "STANDARD_IA"


def test_all_of_it_survives_a_restart(tmp_path: Any) -> None:
    data = os.urandom(2 * MIB)
    with gateway(tmp_path) as running:
        s3 = running.client()
        s3.create_bucket(Bucket="bucket")
        put = s3.put_object(
            Bucket="bucket", Key="ü/k", Body=data, Metadata={"a": "b"}, ContentType="t/t", ChecksumAlgorithm="SHA256"
        )
        before = s3.head_object(Bucket="bucket", Key="ü/k", ChecksumMode="ENABLED")
    with gateway(tmp_path) as running:
        s3 = running.client()
        after = s3.get_object(Bucket="bucket", Key="ü/k", ChecksumMode="ENABLED")
        assert after["Body"].read() == data
        for name in ("ETag", "LastModified", "Metadata", "ContentType", "ChecksumSHA256", "ChecksumType"):
            assert after[name] == before[name], name
        assert after["ChecksumSHA256"] == put["ChecksumSHA256"]


@pytest.mark.parametrize(
    "key",
    ["a", "a/", "a//b", "a/../b", ".", "..", "/lead", "//", " blank ", "plus+&=?#%41", "ünï/ß", "x" * 1024, "\x01\n"],
)
def test_any_legal_key_can_be_used(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    assert s3.delete_object(Bucket=bucket, Key=key)["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_what_is_not_there_is_404(s3: Any, bucket: str) -> None:
    assert refusal(s3.get_object, Bucket=bucket, Key="k") == (404, "NoSuchKey")
    assert refusal(s3.head_object, Bucket=bucket, Key="k") == (404, "404")
    assert refusal(s3.get_object, Bucket="no-such-bucket", Key="k") == (404, "NoSuchBucket")
    assert refusal(s3.put_object, Bucket="no-such-bucket", Key="k") == (404, "NoSuchBucket")
    assert refusal(s3.delete_object, Bucket="no-such-bucket", Key="k") == (404, "NoSuchBucket")
    s3.put_object(Bucket=bucket, Key="a/b")
    assert refusal(s3.get_object, Bucket=bucket, Key="a/") == (404, "NoSuchKey")


def test_an_overwrite_is_another_object_and_a_later_one(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", Metadata={"old": "1"}, ContentType="a/b")
    first = s3.head_object(Bucket=bucket, Key="k")
    s3.put_object(Bucket=bucket, Key="k", Body=b"22")
    second = s3.head_object(Bucket=bucket, Key="k")
    assert second["Metadata"] == {}
    assert second["ContentType"] == "binary/octet-stream"
    assert second["ContentLength"] == 2
    assert second["LastModified"] >= first["LastModified"]


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"Key": "x" * 1025}, 400, "KeyTooLongError"),
        ({"Metadata": {"m": "x" * 2048}}, 400, "MetadataTooLarge"),
        ({"StorageClass": "GLACIER"}, 400, "InvalidStorageClass"),
        ({"StorageClass": "DEEP_ARCHIVE"}, 400, "InvalidStorageClass"),
        ({"StorageClass": "NONSENSE"}, 400, "InvalidStorageClass"),
        ({"ContentMD5": "rL0Y20zC+Fzt72VPzMSk2A=="}, 400, "BadDigest"),
        ({"ContentMD5": "bm9uZQ=="}, 400, "InvalidDigest"),
        ({"ServerSideEncryption": "AES256"}, 501, "NotImplemented"),
        ({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "k"}, 501, "NotImplemented"),
        ({"SSECustomerKey": "0" * 32, "SSECustomerAlgorithm": "AES256"}, 501, "NotImplemented"),
        ({"BucketKeyEnabled": True}, 501, "NotImplemented"),
        ({"Tagging": "a=b"}, 501, "NotImplemented"),
        ({"ACL": "public-read"}, 400, "AccessControlListNotSupported"),
        ({"GrantRead": "id=1"}, 400, "AccessControlListNotSupported"),
        ({"ObjectLockLegalHoldStatus": "ON"}, 400, "InvalidRequest"),
        ({"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": "2031-01-01"}, 400, "InvalidRequest"),
        ({"WebsiteRedirectLocation": "elsewhere"}, 400, "InvalidRedirectLocation"),
        ({"WriteOffsetBytes": 3}, 501, "NotImplemented"),
        ({"ExpectedBucketOwner": "111122223333"}, 403, "AccessDenied"),
    ],
)
def test_a_put_that_asks_for_what_cannot_be_is_refused_and_changes_nothing(
    s3: Any, bucket: str, said: dict[str, Any], status: int, code: str
) -> None:
    assert refusal(s3.put_object, **{"Bucket": bucket, "Key": "k", "Body": b"body", **said}) == (status, code)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_what_is_the_case_anyway_may_be_said(s3: Any, bucket: str) -> None:
    for acl in ("private", "bucket-owner-full-control"):
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", ACL=acl, StorageClass="STANDARD", Tagging="")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_a_right_content_md5_is_taken(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"body", ContentMD5="hBotaJrYa9FhFEdFPCLG/A==")
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == 4


def test_versions_there_are_none_but_null(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    got = s3.get_object(Bucket=bucket, Key="k", VersionId="null")
    assert got["Body"].read() == b"x"
    assert got["VersionId"] == "null"
    assert refusal(s3.get_object, Bucket=bucket, Key="k", VersionId="v1") == (404, "NoSuchVersion")
    assert refusal(s3.delete_object, Bucket=bucket, Key="k", VersionId="v1") == (404, "NoSuchVersion")
    assert s3.delete_object(Bucket=bucket, Key="k", VersionId="null")["VersionId"] == "null"
    assert refusal(s3.head_object, Bucket=bucket, Key="k", VersionId="null") == (404, "404")


def test_a_signed_get_may_say_other_headers(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="a/b")
    got = s3.get_object(
        Bucket=bucket,
        Key="k",
        ResponseContentType="text/x-other",
        ResponseContentDisposition="attachment; filename=x",
        ResponseCacheControl="no-store",
        ResponseContentEncoding="identity",
        ResponseContentLanguage="en",
        ResponseExpires="Tue, 06 May 2031 07:08:09 GMT",
    )
    assert got["ContentType"] == "text/x-other"
    assert got["ContentDisposition"] == "attachment; filename=x"
    assert (got["CacheControl"], got["ContentEncoding"], got["ContentLanguage"]) == ("no-store", "identity", "en")
    assert got["ExpiresString"] == "Tue, 06 May 2031 07:08:09 GMT"
    split = {"ResponseContentType": "a/b\r\nx-evil: 1"}
    assert refusal(s3.get_object, Bucket=bucket, Key="k", **split) == (400, "InvalidArgument")


def test_operations_that_are_not_implemented_say_so_by_name(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for call, arguments in (
        (s3.get_object_tagging, {"Key": "k"}),
        (s3.get_object_acl, {"Key": "k"}),
        (s3.get_object_attributes, {"Key": "k", "ObjectAttributes": ["ETag"]}),
        (s3.get_bucket_policy, {}),
        (s3.get_bucket_lifecycle_configuration, {}),
        (s3.put_bucket_tagging, {"Tagging": {"TagSet": []}}),
    ):
        assert refusal(call, Bucket=bucket, **arguments) == (501, "NotImplemented")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"


def test_nobody_writes_without_a_signature(served: Gateway, s3: Any, bucket: str) -> None:
    request = urllib.request.Request(f"{served.url}/{bucket}/k", b"x", method="PUT")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    with caught.value as answer:
        assert answer.code == 403
        assert b"<Code>AccessDenied</Code>" in answer.read()
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
