"""Calls on buckets."""

from typing import Any

import pytest

from tests.s3.door import Gateway
from tests.s3.errors import refusal

pytestmark = pytest.mark.client


def test_a_bucket_is_made_listed_and_removed(s3: Any) -> None:
    assert s3.create_bucket(Bucket="made-here")["Location"] == "/made-here"
    listed = s3.list_buckets()
    assert "made-here" in [item["Name"] for item in listed["Buckets"]]
    assert listed["Owner"]["ID"]
    head = s3.head_bucket(Bucket="made-here")
    assert head["BucketRegion"] == "us-east-1"
    assert refusal(s3.create_bucket, Bucket="made-here") == (409, "BucketAlreadyOwnedByYou")
    s3.delete_bucket(Bucket="made-here")
    assert refusal(s3.head_bucket, Bucket="made-here") == (404, "404")
    assert refusal(s3.delete_bucket, Bucket="made-here") == (404, "NoSuchBucket")


def test_a_bucket_that_holds_something_stays(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="a/b")
    assert refusal(s3.delete_bucket, Bucket=bucket) == (409, "BucketNotEmpty")
    s3.delete_object(Bucket=bucket, Key="a/b")
    s3.delete_bucket(Bucket=bucket)


def test_an_administrator_may_delete_a_bucket_with_all_that_is_in_it(served: Gateway, bucket: str) -> None:
    s3 = served.client()
    for key in ("a", "a/", "a/b/c", "d//e"):
        s3.put_object(Bucket=bucket, Key=key)
    s3.create_multipart_upload(Bucket=bucket, Key="unfinished")

    def force(request: Any, **_: Any) -> None:
        request.headers["x-amz-stratum-force-delete"] = "true"

    s3.meta.events.register_first("before-sign.s3.DeleteBucket", force)
    s3.delete_bucket(Bucket=bucket)
    assert refusal(s3.head_bucket, Bucket=bucket) == (404, "404")
    assert refusal(s3.delete_bucket, Bucket=bucket) == (404, "NoSuchBucket")


@pytest.mark.parametrize("name", ["UPPER", "under_score", "ab", "x" * 64, "-dash", "dot..dot", "192.168.5.4"])
def test_names_that_s3_refuses_are_refused(s3: Any, name: str) -> None:
    assert refusal(s3.create_bucket, Bucket=name) == (400, "InvalidBucketName")


def test_buckets_come_in_pages(s3: Any) -> None:
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        s3.create_bucket(Bucket=name)
    pages = list(s3.get_paginator("list_buckets").paginate(Prefix="page-", PaginationConfig={"PageSize": 2}))
    assert [[item["Name"] for item in page["Buckets"]] for page in pages] == [names[:2], names[2:4], names[4:]]
    assert s3.list_buckets(Prefix="page-", BucketRegion="eu-west-1")["Buckets"] == []


def test_a_bucket_is_in_the_region_of_the_gateway(s3: Any, bucket: str) -> None:
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    here = {"LocationConstraint": "us-east-1"}
    elsewhere = {"LocationConstraint": "eu-west-1"}
    s3.create_bucket(Bucket="located-here", CreateBucketConfiguration=here)
    made = refusal(s3.create_bucket, Bucket="elsewhere", CreateBucketConfiguration=elsewhere)
    assert made == (400, "InvalidLocationConstraint")
    assert refusal(s3.head_bucket, Bucket="elsewhere") == (404, "404")


@pytest.mark.parametrize(
    ("said", "status", "code"),
    [
        ({"ACL": "public-read"}, 400, "InvalidBucketAclWithObjectOwnership"),
        ({"GrantFullControl": "id=1"}, 400, "InvalidBucketAclWithObjectOwnership"),
        ({"ObjectLockEnabledForBucket": True}, 501, "NotImplemented"),
        ({"ObjectOwnership": "ObjectWriter"}, 501, "NotImplemented"),
        ({"CreateBucketConfiguration": {"Tags": [{"Key": "a", "Value": "b"}]}}, 501, "NotImplemented"),
    ],
)
def test_a_bucket_cannot_be_made_with_what_it_would_not_have(
    s3: Any, said: dict[str, Any], status: int, code: str
) -> None:
    assert refusal(s3.create_bucket, Bucket="not-made", **said) == (status, code)
    assert refusal(s3.head_bucket, Bucket="not-made") == (404, "404")


def test_a_bucket_was_never_versioned_and_cannot_be(s3: Any, bucket: str) -> None:
    for status in ("Enabled", "Suspended"):
        asked = {"Bucket": bucket, "VersioningConfiguration": {"Status": status}}
        assert refusal(s3.put_bucket_versioning, **asked) == (501, "NotImplemented")
    versioning = s3.get_bucket_versioning(Bucket=bucket)
    assert "Status" not in versioning
    assert refusal(s3.get_bucket_versioning, Bucket="no-such-bucket") == (404, "NoSuchBucket")
