"""Multipart uploads."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.s3.errors import refusal

pytestmark = pytest.mark.client
MIB = 1 << 20
FIVE = 5 * MIB


class Upload:
    """An upload under way, with the parts that were sent."""

    def __init__(self, s3: Any, bucket: str, key: str = "k", **said: Any) -> None:
        self.s3 = s3
        self.where = {"Bucket": bucket, "Key": key}
        self.created = s3.create_multipart_upload(**self.where, **said)
        self.where["UploadId"] = self.created["UploadId"]
        self.parts: dict[int, dict[str, Any]] = {}

    def send(self, number: int, data: bytes, **said: Any) -> Any:
        answer = self.s3.upload_part(**self.where, PartNumber=number, Body=data, **said)
        self.parts[number] = {"PartNumber": number, "ETag": answer["ETag"]}
        return answer

    def listed(self) -> dict[str, Any]:
        return {"Parts": [self.parts[number] for number in sorted(self.parts)]}

    def complete(self, **said: Any) -> Any:
        return self.s3.complete_multipart_upload(**self.where, **{"MultipartUpload": self.listed(), **said})


def test_parts_become_one_object(s3: Any, bucket: str) -> None:
    pieces = {1: os.urandom(FIVE), 2: os.urandom(FIVE + 12345), 9: b"the end"}
    upload = Upload(s3, bucket, Metadata={"a": "b"}, ContentType="a/b", StorageClass="STANDARD_IA")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(upload.send, (9, 1, 2), (pieces[9], pieces[1], pieces[2])))
    assert refusal(s3.get_object, Bucket=bucket, Key="k") == (404, "NoSuchKey")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    result = upload.complete()
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == pieces[1] + pieces[2] + pieces[9]
    digests = b"".join(hashlib.md5(piece).digest() for _, piece in sorted(pieces.items()))
    assert got["ETag"] == result["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"'
    assert (got["Metadata"], got["ContentType"], got["StorageClass"]) == ({"a": "b"}, "a/b", "STANDARD_IA")
    assert result["Location"].endswith(f"/{bucket}/k")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_an_empty_last_part_is_read_as_nothing(s3: Any, bucket: str) -> None:
    first = os.urandom(FIVE)
    upload = Upload(s3, bucket)
    upload.send(1, first)
    upload.send(2, b"")
    upload.complete()
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert (got["Body"].read(), got["ContentLength"], got["PartsCount"]) == (b"", 0, 2)
    assert s3.head_object(Bucket=bucket, Key="k", PartNumber=2)["ContentLength"] == 0
    assert s3.get_object(Bucket=bucket, Key="k", PartNumber=1)["Body"].read() == first


def test_an_object_of_parts_can_be_read_by_part(s3: Any, bucket: str) -> None:
    first, second = os.urandom(FIVE), b"second"
    upload = Upload(s3, bucket)
    upload.send(1, first)
    upload.send(2, second)
    upload.complete()
    got = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert got["Body"].read() == second
    assert got["PartsCount"] == 2
    assert got["ContentRange"] == f"bytes {FIVE}-{FIVE + 5}/{FIVE + 6}"
    assert s3.head_object(Bucket=bucket, Key="k", PartNumber=1)["ContentLength"] == FIVE
    assert refusal(s3.get_object, Bucket=bucket, Key="k", PartNumber=3) == (416, "InvalidPartNumber")


def test_a_part_that_is_sent_again_replaces_the_first(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.send(1, b"old")
    stale = upload.listed()
    upload.send(1, b"new!")
    refused = {**upload.where, "MultipartUpload": stale}
    assert refusal(s3.complete_multipart_upload, **refused) == (400, "InvalidPart")
    upload.complete()
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new!"


def test_a_completion_that_is_repeated_gets_the_same_answer(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.send(1, b"x")
    assert upload.complete()["ETag"] == upload.complete()["ETag"]


def test_parts_that_are_not_listed_are_left_out(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.send(1, b"one")
    upload.send(2, b"two")
    del upload.parts[1]
    upload.complete()
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"two"


def test_bad_completions_are_refused_and_the_upload_goes_on(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    for number in (1, 2):
        upload.send(number, b"small")
    one, two = upload.parts[1], upload.parts[2]
    for parts, code in (
        ([two, one], "InvalidPartOrder"),
        ([one, one], "InvalidPartOrder"),
        ([one, two], "EntityTooSmall"),
        ([one, {**two, "PartNumber": 3}], "InvalidPart"),
        ([{**one, "ETag": '"0123"'}], "InvalidPart"),
        ([], "MalformedXML"),
    ):
        said = {**upload.where, "MultipartUpload": {"Parts": parts}}
        assert refusal(s3.complete_multipart_upload, **said) == (400, code), code
    said = {**upload.where, "MultipartUpload": {"Parts": [one]}, "MpuObjectSize": 6}
    assert refusal(s3.complete_multipart_upload, **said) == (400, "InvalidRequest")
    said["MpuObjectSize"] = 5
    s3.complete_multipart_upload(**said)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"small"


def test_an_abort_leaves_nothing(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.send(1, os.urandom(MIB))
    s3.abort_multipart_upload(**upload.where)
    assert refusal(s3.abort_multipart_upload, **upload.where) == (404, "NoSuchUpload")
    assert refusal(s3.list_parts, **upload.where) == (404, "NoSuchUpload")
    assert refusal(s3.upload_part, **upload.where, PartNumber=1, Body=b"x") == (404, "NoSuchUpload")
    assert refusal(upload.complete) == (404, "NoSuchUpload")
    s3.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize("ident", ["nonsense", "0" * 32, "Ä" * 32])
def test_an_upload_that_never_was(s3: Any, bucket: str, ident: str) -> None:
    where = {"Bucket": bucket, "Key": "k", "UploadId": ident}
    assert refusal(s3.list_parts, **where) == (404, "NoSuchUpload")
    assert refusal(s3.upload_part, **where, PartNumber=1) == (404, "NoSuchUpload")


def test_an_upload_belongs_to_its_key(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    other = {**upload.where, "Key": "other"}
    assert refusal(s3.upload_part, **other, PartNumber=1) == (404, "NoSuchUpload")
    assert refusal(s3.abort_multipart_upload, **other) == (404, "NoSuchUpload")


@pytest.mark.parametrize("key", ["\x01\n", "a\ufffe/\uffff"])
def test_a_key_that_xml_cannot_hold_can_be_uploaded_in_parts(s3: Any, bucket: str, key: str) -> None:
    upload = Upload(s3, bucket, key)
    upload.send(1, b"bytes")
    assert [part["Size"] for part in s3.list_parts(**upload.where)["Parts"]] == [5]
    upload.complete()
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == b"bytes"


@pytest.mark.parametrize("number", [0, 10_001, -1])
def test_part_numbers_have_bounds(s3: Any, bucket: str, number: int) -> None:
    upload = Upload(s3, bucket)
    said = {**upload.where, "PartNumber": number, "Body": b"x"}
    assert refusal(s3.upload_part, **said) == (400, "InvalidArgument")


def test_parts_are_listed_in_pages(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket, ChecksumAlgorithm="CRC32", StorageClass="ONEZONE_IA")
    for number in (3, 1, 10_000, 2, 7):
        upload.send(number, b"%d" % number)
    pages = list(s3.get_paginator("list_parts").paginate(**upload.where, PaginationConfig={"PageSize": 2}))
    assert [[part["PartNumber"] for part in page["Parts"]] for page in pages] == [[1, 2], [3, 7], [10_000]]
    page = pages[0]
    assert (page["ChecksumAlgorithm"], page["StorageClass"]) == ("CRC32", "ONEZONE_IA")
    assert page["Parts"][0]["ETag"] == f'"{hashlib.md5(b"1").hexdigest()}"'
    assert page["Parts"][0]["Size"] == 1
    assert page["Parts"][0]["ChecksumCRC32"]
    assert page["Owner"]["ID"] == page["Initiator"]["ID"]
    none = s3.list_parts(**upload.where, MaxParts=0)
    assert ("Parts" not in none, none["IsTruncated"]) == (True, False)


def test_uploads_are_listed_in_pages(s3: Any, bucket: str) -> None:
    keys = ["a", "a", "b/1", "b/2", "c&d"]
    made = sorted((key, Upload(s3, bucket, key).where["UploadId"]) for key in keys)
    for size in (1, 2, 1000):
        pages = s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": size})
        found = [(each["Key"], each["UploadId"]) for page in pages for each in page.get("Uploads", [])]
        assert found == made
    rolled = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/", Prefix="")
    assert [each["Prefix"] for each in rolled["CommonPrefixes"]] == ["b/"]
    assert [each["Key"] for each in rolled["Uploads"]] == ["a", "a", "c&d"]
    behind = s3.list_multipart_uploads(Bucket=bucket, KeyMarker="a")
    assert [each["Key"] for each in behind["Uploads"]] == ["b/1", "b/2", "c&d"]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket, MaxUploads=0)
    bad = {"Bucket": bucket, "KeyMarker": "a", "UploadIdMarker": "x"}
    assert refusal(s3.list_multipart_uploads, **bad) == (400, "InvalidArgument")


@pytest.mark.parametrize("checksum", [{}, {"ChecksumAlgorithm": "CRC64NVME"}])
def test_parts_can_be_copied_from_objects(s3: Any, bucket: str, checksum: dict[str, str]) -> None:
    data = os.urandom(FIVE + MIB)
    s3.put_object(Bucket=bucket, Key="source", Body=data)
    source = {"Bucket": bucket, "Key": "source"}
    upload = Upload(s3, bucket, **checksum)
    for number, wanted in ((1, {}), (2, {"CopySourceRange": "bytes=7-99"})):
        copied = s3.upload_part_copy(**upload.where, PartNumber=number, CopySource=source, **wanted)
        result = copied["CopyPartResult"]
        upload.parts[number] = {"PartNumber": number, "ETag": result["ETag"]}
        assert ("ChecksumCRC64NVME" in result) == bool(checksum)
    upload.complete()
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == data + data[7:100]
    put = s3.put_object(Bucket=bucket, Key="same", Body=data + data[7:100], ChecksumAlgorithm="CRC64NVME")
    if checksum:
        assert got["ChecksumCRC64NVME"] == put["ChecksumCRC64NVME"]


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"CopySourceRange": "bytes=0-99"}, 416, "InvalidRange"),
        ({"CopySourceRange": "0-2"}, 400, "InvalidArgument"),
        ({"CopySourceRange": "bytes=0-"}, 400, "InvalidArgument"),
        ({"CopySourceIfMatch": '"x"'}, 412, "PreconditionFailed"),
        ({"CopySource": {"Bucket": "no-such-bucket", "Key": "k"}}, 404, "NoSuchBucket"),
        ({"PartNumber": 10_001}, 400, "InvalidArgument"),
    ],
)
def test_a_bad_copy_of_a_part_is_refused(s3: Any, bucket: str, said: dict[str, Any], status: int, code: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=b"12345")
    upload = Upload(s3, bucket)
    asked = {**upload.where, "PartNumber": 1, "CopySource": {"Bucket": bucket, "Key": "source"}, **said}
    assert refusal(s3.upload_part_copy, **asked) == (status, code)
    assert "Parts" not in s3.list_parts(**upload.where)


def test_an_upload_is_refused_before_its_first_byte(s3: Any, bucket: str) -> None:
    where = {"Bucket": bucket, "Key": "k"}
    for said, status, code in (
        ({"StorageClass": "GLACIER"}, 400, "InvalidStorageClass"),
        ({"ServerSideEncryption": "AES256"}, 501, "NotImplemented"),
        ({"Metadata": {"m": "x" * 3000}}, 400, "MetadataTooLarge"),
        ({"Key": "x" * 1025}, 400, "KeyTooLongError"),
        ({"Tagging": "a=b"}, 501, "NotImplemented"),
        ({"Bucket": "no-such-bucket"}, 404, "NoSuchBucket"),
    ):
        assert refusal(s3.create_multipart_upload, **{**where, **said}) == (status, code), said
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
