"""Answers as botocore reads them, and escaping that no key breaks."""

from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import RestXMLParser
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from gateway import xml
from gateway.errors import S3Error
from gateway.request import RequestIds
from stratumfs.ids import ROOT_INODE, UploadId
from stratumfs.values import BucketInfo, Checksum, ListedObject, ObjectSpec, PartInfo, UploadInfo

TIME_NS = 1_255_369_850_123_456_789
IDS = RequestIds("ID", "HOST")
OWNER = xml.Owner("owner-id", "o & co")
NASTY = "a<b>&\"'\r\n\tü \U0001f600"
_MODEL = ServiceModel(Loader().load_service_model("s3", "service-2"))


def parsed(operation: str, body: bytes) -> dict[str, Any]:
    """*body* as botocore understands it."""
    shape = _MODEL.operation_model(operation).output_shape
    assert shape is not None
    found: dict[str, Any] = RestXMLParser().parse({"status_code": 200, "headers": {}, "body": body}, shape)
    found.pop("ResponseMetadata")
    return found


def listed(key: bytes, checksum: Checksum | None = None) -> ListedObject:
    return ListedObject(key, 5, "e" * 32, TIME_NS, "STANDARD", checksum)


def page(**changes: Any) -> xml.Page:
    values: dict[str, Any] = {
        "bucket": "b", "prefix": b"p", "delimiter": b"/", "limit": 10, "truncated": True, "url": False,
    }  # fmt: skip
    return xml.Page(**(values | changes))


def upload(key: bytes = b"k") -> UploadInfo:
    return UploadInfo(UploadId(bytes(16)), key, TIME_NS, ObjectSpec(), "CRC32", True)


def test_times_are_whole_seconds_in_utc() -> None:
    assert xml.timestamp(TIME_NS) == "2009-10-12T17:50:50.000Z"
    assert xml.timestamp(0) == "1970-01-01T00:00:00.000Z"


@given(st.text(st.characters(codec="utf-8")))
def test_escaped_text_holds_no_markup(text: str) -> None:
    escaped = xml.escape(text)
    assert not set('<>"\0\r\n') & set(escaped)
    assert escaped.isascii() or not text.isascii()


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")))
def test_what_xml_can_hold_comes_back(text: str) -> None:
    document = xml.error(S3Error("NoSuchKey", text or None, Odd=text), "/b", IDS)
    root = etree.fromstring(document)
    assert (root.findtext("Odd") or "") == text


def test_an_error_says_what_and_where() -> None:
    document = xml.error(S3Error("NoSuchKey"), "/b/k%20", IDS, "b", b"k ")
    assert {child.tag: child.text for child in etree.fromstring(document)} == {
        "Code": "NoSuchKey",
        "Message": "The specified key does not exist.",
        "BucketName": "b",
        "Key": "k ",
        "Resource": "/b/k%20",
        "RequestId": "ID",
        "HostId": "HOST",
    }


def test_buckets() -> None:
    found = parsed("ListBuckets", xml.list_buckets([BucketInfo("b", ROOT_INODE, TIME_NS)], OWNER, "r", "x", "t"))
    assert found["Owner"] == {"ID": "owner-id", "DisplayName": "o & co"}
    assert [(bucket["Name"], bucket["BucketRegion"]) for bucket in found["Buckets"]] == [("b", "r")]
    assert (found["Prefix"], found["ContinuationToken"]) == ("x", "t")


def test_location_and_versioning() -> None:
    assert etree.fromstring(xml.location("us-east-1")).text is None
    assert etree.fromstring(xml.location("eu-west-1")).text == "eu-west-1"
    assert parsed("GetBucketVersioning", xml.versioning(None)) == {}
    assert parsed("GetBucketVersioning", xml.versioning("Enabled")) == {"Status": "Enabled"}


@pytest.mark.parametrize("url", [False, True])
def test_a_listing(url: bool) -> None:
    key = NASTY.encode()
    objects = [listed(key, Checksum("CRC32", "AAAAAA==-2", True)), listed(b"z")]
    body = xml.list_objects_v2(page(url=url), objects, [b"dir+ /"], OWNER, b"after", "token", "next")
    found = parsed("ListObjectsV2", body)
    assert (found["Name"], found["KeyCount"], found["MaxKeys"], found["IsTruncated"]) == ("b", 3, 10, True)
    assert (found["ContinuationToken"], found["NextContinuationToken"], found["StartAfter"]) == (
        "token",
        "next",
        "after",
    )
    first = found["Contents"][0]
    assert (first["Size"], first["ETag"], first["StorageClass"]) == (5, '"' + "e" * 32 + '"', "STANDARD")
    assert (first["ChecksumAlgorithm"], first["ChecksumType"]) == (["CRC32"], "COMPOSITE")
    assert first["Owner"]["DisplayName"] == "o & co"
    if url:
        assert found["EncodingType"] == "url"
        assert first["Key"].isascii()
        assert found["CommonPrefixes"] == [{"Prefix": "dir%2B%20/"}]
    else:
        assert first["Key"] == NASTY
        assert found["CommonPrefixes"] == [{"Prefix": "dir+ /"}]


def test_a_listing_of_version_1() -> None:
    found = parsed("ListObjects", xml.list_objects(page(), [listed(b"k")], [], OWNER, b"m", b"next"))
    assert (found["Marker"], found["NextMarker"], found["Prefix"], found["Delimiter"]) == ("m", "next", "p", "/")
    assert "KeyCount" not in found
    assert "NextMarker" not in parsed("ListObjects", xml.list_objects(page(), [], [], OWNER, b"", None))


def test_a_listing_of_versions() -> None:
    found = parsed("ListObjectVersions", xml.list_versions(page(), [listed(b"k")], [b"d/"], OWNER, b"m", "v", b"n"))
    [version] = found["Versions"]
    assert (version["Key"], version["VersionId"], version["IsLatest"]) == ("k", "null", True)
    assert (found["KeyMarker"], found["VersionIdMarker"]) == ("m", "v")
    assert (found["NextKeyMarker"], found["NextVersionIdMarker"]) == ("n", "null")


def test_copies() -> None:
    checksum = Checksum("CRC64NVME", "x" * 11 + "=")
    found = parsed("CopyObject", xml.copy_object("e", TIME_NS, checksum))["CopyObjectResult"]
    assert (found["ETag"], found["ChecksumCRC64NVME"], found["ChecksumType"]) == ('"e"', checksum.value, "FULL_OBJECT")
    found = parsed("UploadPartCopy", xml.copy_part("e", TIME_NS, None))["CopyPartResult"]
    assert found["ETag"] == '"e"'


def test_deletions() -> None:
    body = xml.delete_result([b"a&b"], [(b"c", S3Error("AccessDenied"))])
    found = parsed("DeleteObjects", body)
    assert found["Deleted"] == [{"Key": "a&b"}]
    assert found["Errors"] == [{"Key": "c", "Code": "AccessDenied", "Message": "Access Denied"}]


def test_an_upload_from_begin_to_end() -> None:
    found = parsed("CreateMultipartUpload", xml.create_upload("b", NASTY.encode(), "u"))
    assert (found["Bucket"], found["Key"], found["UploadId"]) == ("b", NASTY, "u")
    body = xml.complete_upload("http://s3.test/b/k", "b", b"k", "e-2", Checksum("CRC32", "AAAAAA==-2", True))
    found = parsed("CompleteMultipartUpload", body)
    assert (found["Location"], found["ETag"], found["ChecksumType"]) == ("http://s3.test/b/k", '"e-2"', "COMPOSITE")


def test_a_key_that_only_repeats_the_requests_keeps_no_document_from_being_read() -> None:
    key = "a\x01b\ufffe&".encode()
    legible = "a\ufffdb\ufffd&"
    assert parsed("CreateMultipartUpload", xml.create_upload("b", key, "u"))["Key"] == legible
    assert parsed("CompleteMultipartUpload", xml.complete_upload("l", "b", key, "e-1", None))["Key"] == legible
    assert parsed("ListParts", xml.list_parts("b", upload(key), "u", [], OWNER, 0, 1, False))["Key"] == legible
    found = parsed("ListParts", xml.list_parts("b", upload(key), "u", [], OWNER, 0, 1, False, url=True))
    assert found["Key"] == "a%01b%EF%BF%BE%26"


def test_parts() -> None:
    parts = [PartInfo(number, 5, "e", TIME_NS, Checksum("CRC32", "AAAAAA==")) for number in (2, 7)]
    found = parsed("ListParts", xml.list_parts("b", upload(), "u", parts, OWNER, 1, 2, True))
    assert [part["PartNumber"] for part in found["Parts"]] == [2, 7]
    assert (found["PartNumberMarker"], found["NextPartNumberMarker"], found["IsTruncated"]) == (1, 7, True)
    assert (found["ChecksumAlgorithm"], found["ChecksumType"]) == ("CRC32", "COMPOSITE")
    assert found["Parts"][0]["ChecksumCRC32"] == "AAAAAA=="


def test_uploads() -> None:
    body = xml.list_uploads(page(), [("u", upload(b"k"))], [b"d/"], OWNER, b"m", "um", b"n", "un")
    found = parsed("ListMultipartUploads", body)
    [row] = found["Uploads"]
    assert (row["Key"], row["UploadId"], row["Initiator"]["ID"]) == ("k", "u", "owner-id")
    assert (found["Bucket"], found["MaxUploads"], found["KeyMarker"], found["UploadIdMarker"]) == ("b", 10, "m", "um")
    assert (found["NextKeyMarker"], found["NextUploadIdMarker"]) == ("n", "un")
    assert found["CommonPrefixes"] == [{"Prefix": "d/"}]
