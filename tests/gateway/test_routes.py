"""The parser: which operation a request is, on which bucket and key, and what is no request at all."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import S3Error
from gateway.limits import REQUEST_HEADERS_MAX, REQUEST_TARGET_MAX
from gateway.operations import (
    BUCKET_DEFAULT,
    BUCKET_SUBRESOURCES,
    LISTED_BY_ID,
    OBJECT_DEFAULT,
    OBJECT_SUBRESOURCES,
    Operation,
)
from gateway.routes import parse
from tests.gateway.requests import IDS, request, scope

COPY = {"x-amz-copy-source": "/b/k"}


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", "/", "ListBuckets"),
        ("GET", "/?x-id=ListBuckets", "ListBuckets"),
        ("GET", "/?max-buckets=10&prefix=a", "ListBuckets"),
        ("GET", "/b", "ListObjects"),
        ("GET", "/b/", "ListObjects"),
        ("GET", "/b?prefix=a&delimiter=/&marker=m&max-keys=3&encoding-type=url", "ListObjects"),
        ("GET", "/b?list-type=2&start-after=a&fetch-owner=true&continuation-token=t", "ListObjectsV2"),
        ("GET", "/b?list-type=2&unheard-of=1", "ListObjectsV2"),
        ("GET", "/b?versions&key-marker=k&version-id-marker=v", "ListObjectVersions"),
        ("GET", "/b?uploads&max-uploads=1&upload-id-marker=u", "ListMultipartUploads"),
        ("GET", "/b?location", "GetBucketLocation"),
        ("GET", "/b?location=", "GetBucketLocation"),
        ("GET", "/b?versioning", "GetBucketVersioning"),
        ("PUT", "/b?versioning", "PutBucketVersioning"),
        ("GET", "/b?metrics", "ListBucketMetricsConfigurations"),
        ("GET", "/b?metrics&id=1", "GetBucketMetricsConfiguration"),
        ("PUT", "/b", "CreateBucket"),
        ("HEAD", "/b", "HeadBucket"),
        ("DELETE", "/b", "DeleteBucket"),
        ("POST", "/b", "PostObject"),
        ("POST", "/b?delete", "DeleteObjects"),
        ("OPTIONS", "/b/k", "PreflightRequest"),
        ("GET", "/b/k", "GetObject"),
        ("GET", "/b/k?versionId=null&partNumber=2&response-content-type=a/b", "GetObject"),
        ("GET", "/b/k?X-Amz-Algorithm=a&X-Amz-Signature=b&X-Amz-Expires=1", "GetObject"),
        ("GET", "/b/k?attributes", "GetObjectAttributes"),
        ("GET", "/b/k?tagging", "GetObjectTagging"),
        ("GET", "/b/k?uploadId=u&max-parts=1&part-number-marker=3", "ListParts"),
        ("HEAD", "/b/k?partNumber=1", "HeadObject"),
        ("PUT", "/b/k", "PutObject"),
        ("PUT", "/b/k?x-id=PutObject", "PutObject"),
        ("PUT", "/b/k?partNumber=1&uploadId=u", "UploadPart"),
        ("PUT", "/b/k?acl", "PutObjectAcl"),
        ("PUT", "/b/k?renameObject", "RenameObject"),
        ("DELETE", "/b/k", "DeleteObject"),
        ("DELETE", "/b/k?uploadId=u", "AbortMultipartUpload"),
        ("POST", "/b/k?uploads", "CreateMultipartUpload"),
        ("POST", "/b/k?uploadId=u", "CompleteMultipartUpload"),
        ("POST", "/b/k?restore&versionId=1", "RestoreObject"),
        ("POST", "/b/k?select&select-type=2", "SelectObjectContent"),
    ],
)
def test_method_and_query_pick_the_operation(method: str, target: str, operation: str) -> None:
    assert request(method, target).operation == operation


def test_a_copy_source_makes_a_put_a_copy() -> None:
    assert request("PUT", "/b/k", COPY).operation is Operation.COPY_OBJECT
    assert request("PUT", "/b/k?partNumber=1&uploadId=u", COPY).operation is Operation.UPLOAD_PART_COPY


def test_every_operation_can_be_reached() -> None:
    reached = {Operation.LIST_BUCKETS, Operation.LIST_OBJECTS_V2, Operation.COPY_OBJECT, Operation.UPLOAD_PART_COPY}
    reached |= set(LISTED_BY_ID.values())
    for path, default, table in (
        ("/b", BUCKET_DEFAULT, BUCKET_SUBRESOURCES),
        ("/b/k", OBJECT_DEFAULT, OBJECT_SUBRESOURCES),
    ):
        reached |= {request(method, path).operation for method in default}
        for name, methods in table.items():
            extra = "&partNumber=1" if name == "uploadId" else ""
            for method, operation in methods.items():
                assert request(method, f"{path}?{name}={extra}").operation is operation
                reached.add(operation)
    # Of Object Lambda: it is sent to a host of its own.
    assert set(Operation) - reached == {Operation.WRITE_GET_OBJECT_RESPONSE}


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("PATCH", "/b/k", "MethodNotAllowed"),
        ("POST", "/b/k", "MethodNotAllowed"),
        ("PUT", "/", "MethodNotAllowed"),
        ("DELETE", "/b?location", "MethodNotAllowed"),
        ("PUT", "/b/k?attributes", "MethodNotAllowed"),
        ("PUT", "/b/k?brand-new", "NotImplemented"),
        ("PUT", "/b/k?brand-new=1", "NotImplemented"),
        ("DELETE", "/b/k?brand-new", "NotImplemented"),
        ("POST", "/b?brand-new", "NotImplemented"),
        ("GET", "/b?brand-new", "NotImplemented"),
        ("GET", "/?brand-new", "NotImplemented"),
        ("PUT", "/b?tagging&acl", "InvalidArgument"),
        ("PUT", "/b/k?uploadId=u", "InvalidArgument"),
        ("PUT", "/b/k?partNumber=1", "InvalidArgument"),
        ("GET", "/b?list-type=3", "InvalidArgument"),
        ("GET", "//k", "InvalidBucketName"),
        ("GET", "/b%00", "InvalidBucketName"),
        ("GET", "/b%2Fc", "InvalidBucketName"),
        ("GET", "/%ff", "InvalidBucketName"),
        ("GET", "/b/%ff", "InvalidURI"),
        ("GET", "/b/%c0%af", "InvalidURI"),
        ("GET", "/b/%ed%a0%80", "InvalidURI"),
        ("GET", "/b/a%00b", "InvalidArgument"),
        ("GET", "/b/a%zz", "InvalidURI"),
        ("GET", "/b/a%", "InvalidURI"),
        ("GET", "/b?prefix=%4", "InvalidURI"),
        ("GET", "/b?prefix=%ff", "InvalidURI"),
        ("GET", "/b/a#b", "InvalidURI"),
        ("GET", "/b/a b", "InvalidURI"),
        ("GET", "/b/\x7f", "InvalidURI"),
        ("GET", "http://other/b/k", "InvalidURI"),
        ("OPTIONS", "*", "InvalidURI"),
        ("GET", "/b/" + "a" * REQUEST_TARGET_MAX, "InvalidURI"),
    ],
)
def test_what_is_no_request_is_refused(method: str, target: str, code: str) -> None:
    with pytest.raises(S3Error) as caught:
        request(method, target)
    assert caught.value.code == code


def test_a_method_that_is_not_allowed_is_told_which_are() -> None:
    with pytest.raises(S3Error) as caught:
        request("DELETE", "/b?versioning")
    assert caught.value.status == 405
    assert caught.value.headers["allow"] == "GET, PUT"


@pytest.mark.parametrize(
    ("headers", "version", "code"),
    [
        ([], "1.1", "BadRequest"),
        ([("host", "a"), ("host", "a")], "1.1", "BadRequest"),
        ([("host", "a"), ("authorization", "x"), ("authorization", "x")], "1.1", "BadRequest"),
        ([("host", "a"), ("content-length", "1"), ("content-length", "1")], "1.1", "BadRequest"),
        ([("host", "a"), ("content-length", "1"), ("transfer-encoding", "chunked")], "1.1", "BadRequest"),
        ([("host", "a"), ("transfer-encoding", "gzip, chunked")], "1.1", "NotImplemented"),
        ([("host", "a"), ("transfer-encoding", "chunked")], "1.0", "BadRequest"),
        ([("host", "a")] + [("x", "y")] * REQUEST_HEADERS_MAX, "1.1", "RequestHeaderSectionTooLarge"),
    ],
)
def test_headers_that_two_readers_read_differently_are_refused(
    headers: list[tuple[str, str]], version: str, code: str
) -> None:
    with pytest.raises(S3Error) as caught:
        parse(scope("PUT", "/b/k", headers, version), IDS)
    assert caught.value.code == code


_keys = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)


@given(key=_keys, safe=st.sampled_from(["", "/", "/~+=:@!$&'()*,;"]))
def test_any_key_is_decoded_exactly_once(key: str, safe: str) -> None:
    found = request("GET", f"/bucket/{quote(key, safe=safe)}")
    assert (found.bucket, found.key) == ("bucket", key.encode())


@pytest.mark.parametrize("key", ["/", "//a", "../x", ".", "a//b/", "%41"])
def test_segments_of_a_key_have_no_meaning(key: str) -> None:
    assert request("GET", f"/bucket/{quote(key)}").key == key.encode()


@pytest.mark.parametrize(
    ("host", "target", "bucket", "key"),
    [
        ("b.s3.test", "/k", "b", b"k"),
        ("b.s3.test:9000", "/k", "b", b"k"),
        ("B.S3.TEST", "/k", "b", b"k"),
        ("a.b.s3.test", "/", "a.b", None),
        ("b.s3.test", "//k", "b", b"/k"),
        ("s3.test", "/b/k", "b", b"k"),
        ("s3.test:9000", "/b/k", "b", b"k"),
        ("other.test", "/b/k", "b", b"k"),
        ("nots3.test", "/b/k", "b", b"k"),
        ("[::1]:9000", "/b/k", "b", b"k"),
        ("[::1]", "/b/k", "b", b"k"),
    ],
)
def test_a_bucket_stands_in_the_path_or_in_the_host(host: str, target: str, bucket: str, key: bytes | None) -> None:
    found = request("GET", target, {"host": host}, domains=("s3.test",))
    assert (found.bucket, found.key) == (bucket, key)


def test_a_query_is_decoded_and_keeps_its_pairs() -> None:
    found = request("GET", "/b?prefix=a+b%2Bc&prefix=2&delimiter=")
    assert found.query["prefix"] == "a b+c"
    assert found.query.pairs == (("prefix", "a b+c"), ("prefix", "2"), ("delimiter", ""))
    assert dict(found.query) == {"prefix": "a b+c", "delimiter": ""}


def test_headers_are_joined_trimmed_and_decoded() -> None:
    raw: Any = scope("PUT", "/b/k")
    raw["headers"] += [
        (b"X-Amz-Meta-A", b" 1 "),
        (b"x-amz-meta-a", b"2\t"),
        (b"x-amz-meta-u", "ü".encode()),
        (b"x-amz-meta-l", b"\xfc"),
        (b"content-encoding", b"aws-chunked"),
    ]
    found = parse(raw, IDS)
    assert found.headers["x-amz-meta-a"] == "1,2"
    assert found.headers["x-amz-meta-u"] == found.headers["x-amz-meta-l"] == "ü"
    assert "content-encoding" not in found.headers


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("deflate, gzip", "deflate, gzip"),
        ("deflate, gzip,aws-chunked", "deflate, gzip"),
        ("aws-chunked, deflate,gzip", "deflate,gzip"),
        ("deflate, aws-chunked, gzip", "deflate, gzip"),
        ("aws-chunked, aws-chunked,", None),
    ],
)
def test_of_the_encodings_the_objects_own_are_kept_as_they_were_spelled(sent: str, kept: str | None) -> None:
    found = request("PUT", "/b/k", {"content-encoding": sent})
    assert found.headers.get("content-encoding") == kept
