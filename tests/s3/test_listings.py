"""Listings: keys in S3's order, prefixes rolled up, pages without gap or repetition."""

import os
import random
from typing import Any

import pytest

from tests.s3.errors import refusal

pytestmark = pytest.mark.client
KEYS = sorted(
    ["a", "a/", "a/b", "a/b/c", "a//x", "b", "b/1", "b/2", "ba", "c d+&%/e", "z\x01w", "ü/ö", "ü/ä"],
    key=lambda key: key.encode(),
)


@pytest.fixture(scope="module")
def full(s3: Any) -> str:
    """A bucket that holds KEYS."""
    name = f"listed-{os.urandom(8).hex()}"  # the door lasts longer than a module, which may come twice
    s3.create_bucket(Bucket=name)
    for key in random.Random(3).sample(KEYS, len(KEYS)):
        s3.put_object(Bucket=name, Key=key, Body=key.encode())
    return name


def rolled_up(prefix: str, delimiter: str) -> list[str]:
    """Keys and common prefixes as S3 defines them, in byte order."""
    found = []
    for key in KEYS:
        if key.startswith(prefix):
            head, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
            name = prefix + head + cut if cut else key
            if name not in found[-1:]:
                found.append(name)
    return found


def names(page: Any) -> list[str]:
    found = [item["Key"] for item in page.get("Contents", [])]
    found += [item["Prefix"] for item in page.get("CommonPrefixes", [])]
    return sorted(found, key=lambda key: key.encode())


@pytest.mark.parametrize("prefix", ["", "a", "a/", "b", "ü/", "nothing"])
@pytest.mark.parametrize("delimiter", ["", "/", "b", "//"])
@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
def test_pages_are_complete_and_in_order(
    s3: Any, full: str, prefix: str, delimiter: str, size: int, operation: str
) -> None:
    pages = s3.get_paginator(operation).paginate(
        Bucket=full, Prefix=prefix, Delimiter=delimiter, PaginationConfig={"PageSize": size}
    )
    found: list[str] = []
    for page in pages:
        assert len(names(page)) <= size
        found += names(page)
    assert found == rolled_up(prefix, delimiter)


@pytest.mark.parametrize("size", [1, 4, 1000])
def test_each_object_is_its_own_only_version(s3: Any, full: str, size: int) -> None:
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=full, PaginationConfig={"PageSize": size})
    versions = [version for page in pages for version in page.get("Versions", [])]
    assert [version["Key"] for version in versions] == KEYS
    assert all(version["VersionId"] == "null" and version["IsLatest"] for version in versions)
    rolled = s3.list_object_versions(Bucket=full, Delimiter="/")
    assert [item["Prefix"] for item in rolled["CommonPrefixes"]] == ["a/", "b/", "c d+&%/", "ü/"]
    assert "DeleteMarkers" not in rolled


def test_a_listing_says_what_head_says(s3: Any, full: str) -> None:
    listed = s3.list_objects_v2(Bucket=full, Prefix="b/1", FetchOwner=True)["Contents"][0]
    head = s3.head_object(Bucket=full, Key="b/1")
    assert listed["ETag"] == head["ETag"]
    assert listed["Size"] == head["ContentLength"]
    assert listed["LastModified"] == head["LastModified"]
    assert listed["StorageClass"] == "STANDARD"
    assert listed["Owner"]["ID"] == s3.list_buckets()["Owner"]["ID"]
    assert "Owner" not in s3.list_objects_v2(Bucket=full)["Contents"][0]


def test_start_after_and_marker_need_not_exist(s3: Any, full: str) -> None:
    after = [key for key in KEYS if key.encode() > b"az"]
    assert names(s3.list_objects_v2(Bucket=full, StartAfter="az")) == after
    assert names(s3.list_objects(Bucket=full, Marker="az")) == after
    both = s3.list_objects_v2(Bucket=full, MaxKeys=2)
    token = both["NextContinuationToken"]
    assert names(s3.list_objects_v2(Bucket=full, ContinuationToken=token, StartAfter="zzz")) == KEYS[2:]


def test_a_page_says_how_it_was_asked_for(s3: Any, full: str) -> None:
    page = s3.list_objects_v2(Bucket=full, Prefix="a", Delimiter="/", MaxKeys=5000, StartAfter="a")
    assert (page["Name"], page["Prefix"], page["Delimiter"], page["StartAfter"]) == (full, "a", "/", "a")
    assert page["MaxKeys"] == 1000
    assert page["KeyCount"] == len(names(page))
    assert not page["IsTruncated"]


def test_a_page_of_no_keys_is_empty_and_the_last(s3: Any, full: str) -> None:
    page = s3.list_objects_v2(Bucket=full, MaxKeys=0)
    assert (page["KeyCount"], page["IsTruncated"], page["MaxKeys"]) == (0, False, 0)


@pytest.mark.parametrize(
    ("operation", "said"),
    [
        ("list_objects_v2", {"ContinuationToken": "rubbish"}),
        ("list_objects_v2", {"ContinuationToken": "!"}),
        ("list_objects_v2", {"EncodingType": "base64"}),
        ("list_objects_v2", {"MaxKeys": -1}),
        ("list_objects", {"MaxKeys": -1}),
        ("list_object_versions", {"VersionIdMarker": "null"}),
    ],
)
def test_bad_arguments_are_named(s3: Any, full: str, operation: str, said: dict[str, Any]) -> None:
    assert refusal(getattr(s3, operation), Bucket=full, **said) == (400, "InvalidArgument")


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2", "list_object_versions"])
def test_a_bucket_that_is_not_there_has_no_listing(s3: Any, operation: str) -> None:
    for limit in (0, 10):
        assert refusal(getattr(s3, operation), Bucket="no-such", MaxKeys=limit) == (404, "NoSuchBucket")
