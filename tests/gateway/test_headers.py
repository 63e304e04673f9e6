from typing import Any

import pytest

from gateway.errors import S3Error
from gateway.headers import (
    checksum_headers,
    not_modified_headers,
    object_headers,
    object_spec,
    response_overrides,
    storage_class,
)
from stratumfs.ids import InodeNo
from stratumfs.values import Checksum, ObjectInfo, ObjectSpec

MODIFIED_NS = 1_445_412_480_999_999_999


def info(**said: Any) -> ObjectInfo:
    return ObjectInfo(InodeNo(7), 11, "abc", MODIFIED_NS, ObjectSpec(**said))


def test_what_a_write_says_is_what_a_read_answers() -> None:
    said = {
        "content-type": "text/plain",
        "cache-control": "no-cache",
        "content-disposition": "inline",
        "content-encoding": "gzip",
        "content-language": "de",
        "expires": "never",
        "x-amz-website-redirect-location": "/x",
        "x-amz-meta-colour": "grün",
        "x-amz-meta-empty": "",
        "x-amz-storage-class": "ONEZONE_IA",
    }
    unsaid = {"host": "h", "x-amz-date": "d", "x-amz-acl": "private", "range": "bytes=0-1"}
    spec = object_spec(said | unsaid)
    answer = object_headers(ObjectInfo(InodeNo(7), 11, "abc", MODIFIED_NS, spec))
    assert answer == said | {
        "accept-ranges": "bytes",
        "etag": '"abc"',
        "last-modified": "Wed, 21 Oct 2015 07:28:00 GMT",
    }


def test_who_says_nothing_gets_defaults_and_the_standard_class_goes_without_saying() -> None:
    answer = object_headers(info())
    assert answer["content-type"] == "binary/octet-stream"
    assert "x-amz-storage-class" not in answer
    assert object_spec({}) == ObjectSpec()
    assert object_spec({"content-type": "", "expires": ""}) == ObjectSpec()


def test_what_no_header_can_carry_is_left_out_and_counted() -> None:
    """The mount sets the same metadata as extended attributes, where any byte goes."""
    answer = object_headers(
        info(
            content_type="a/b\r\nset-cookie: x=1",
            headers={"cache-control": "a\nb"},
            metadata={"fine": "1", "bad name": "2", "bad": "a\r\nb", "": "3", "huge": "x" * 9000},
        )
    )
    assert answer["content-type"] == "binary/octet-stream"
    assert "cache-control" not in answer
    assert {name: value for name, value in answer.items() if name.startswith("x-amz-")} == {
        "x-amz-meta-fine": "1",
        "x-amz-missing-meta": "4",
    }


def test_user_metadata_has_a_bound_in_bytes() -> None:
    assert object_spec({"x-amz-meta-m": "ü" * 1023 + "x"}).metadata["m"]
    with pytest.raises(S3Error) as caught:
        object_spec({"x-amz-meta-m": "ü" * 1024})
    assert caught.value.code == "MetadataTooLarge"


@pytest.mark.parametrize(
    ("asked", "tier", "shown"),
    [
        ("STANDARD", "", "STANDARD"),
        ("GLACIER_IR", "", "GLACIER_IR"),
        ("STANDARD", "cold", "GLACIER_IR"),
        ("STANDARD_IA", "cold", "GLACIER_IR"),
        ("GLACIER_IR", "hot", "STANDARD"),
        ("REDUCED_REDUNDANCY", "hot", "REDUCED_REDUNDANCY"),
        ("INTELLIGENT_TIERING", "cold", "INTELLIGENT_TIERING"),
    ],
)
def test_a_class_is_where_the_bytes_are(asked: str, tier: str, shown: str) -> None:
    found = info(storage_class=asked)._replace(tier=tier)
    assert object_headers(found).get("x-amz-storage-class", "STANDARD") == shown


@pytest.mark.parametrize("name", ["GLACIER", "DEEP_ARCHIVE", "standard", "", "OUTPOSTS"])
def test_a_storage_class_that_would_be_a_lie_is_refused(name: str) -> None:
    with pytest.raises(S3Error) as caught:
        storage_class({"x-amz-storage-class": name})
    assert caught.value.code == "InvalidStorageClass"


def test_overrides_replace_and_cannot_break_out_of_their_header() -> None:
    overrides = response_overrides({"response-content-type": "a/b", "response-expires": "later", "prefix": "x"})
    assert overrides == {"content-type": "a/b", "expires": "later"}
    assert object_headers(info(content_type="c/d"), overrides)["content-type"] == "a/b"
    with pytest.raises(S3Error):
        response_overrides({"response-content-type": "a/b\nx: y"})


def test_a_304_repeats_what_caches_need() -> None:
    answer = not_modified_headers(info(headers={"cache-control": "no-cache", "content-language": "de"}))
    assert answer == {
        "etag": '"abc"',
        "last-modified": "Wed, 21 Oct 2015 07:28:00 GMT",
        "cache-control": "no-cache",
    }


def test_a_checksum_says_of_what_it_is() -> None:
    assert checksum_headers(None) == {}
    assert checksum_headers(Checksum("CRC32", "AAAAAA==")) == {
        "x-amz-checksum-crc32": "AAAAAA==",
        "x-amz-checksum-type": "FULL_OBJECT",
    }
    assert checksum_headers(Checksum("SHA1", "x-2", True))["x-amz-checksum-type"] == "COMPOSITE"
