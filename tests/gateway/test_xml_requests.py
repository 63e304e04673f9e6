"""Requests in XML: read as clients write them, refused as attackers do."""

from collections.abc import Callable
from typing import Any

import pytest

from gateway import xml_requests
from gateway.errors import S3Error
from gateway.xml import NAMESPACE
from gateway.xml_requests import ToDelete
from stratumfs.limits import DELETE_MAX, PARTS_MAX
from stratumfs.values import Checksum, CompletedPart

PARSERS: list[Callable[[bytes], Any]] = [
    xml_requests.parse_create_bucket,
    xml_requests.parse_versioning,
    xml_requests.parse_delete,
    xml_requests.parse_restore,
    xml_requests.parse_complete,
]


def refused(parse: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(S3Error, match="MalformedXML"):
        parse(body)


def test_the_days_of_a_restore() -> None:
    parse = xml_requests.parse_restore
    parameters = "<GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters>"
    days = f"<RestoreRequest{{}}><Days>{{}}</Days>{parameters}</RestoreRequest>"
    assert parse(days.format(f' xmlns="{NAMESPACE}"', 3).encode()) == 3
    for wrong in ("", "0", "-1", "x", "36501", "9" * 30):
        refused(parse, days.format("", wrong).encode())
    refused(parse, b"<RestoreRequest/>")
    with pytest.raises(S3Error, match="NotImplemented"):
        parse(b"<RestoreRequest><Days>1</Days><Type>SELECT</Type></RestoreRequest>")


def test_the_region_of_a_new_bucket() -> None:
    parse = xml_requests.parse_create_bucket
    assert parse(b"") is None
    assert parse(b"<CreateBucketConfiguration/>") is None
    assert (
        parse(
            f'<CreateBucketConfiguration xmlns="{NAMESPACE}"><LocationConstraint>eu-west-1</LocationConstraint>'
            "</CreateBucketConfiguration>".encode()
        )
        == "eu-west-1"
    )


def test_versioning() -> None:
    parse = xml_requests.parse_versioning
    assert parse(b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>") == "Enabled"
    assert parse(b"<VersioningConfiguration/>") is None
    refused(parse, b"<VersioningConfiguration><Status>On</Status></VersioningConfiguration>")


@pytest.mark.parametrize("namespace", ["", f' xmlns="{NAMESPACE}"'])
def test_deletions(namespace: str) -> None:
    body = (
        f"<Delete{namespace}><Object><Key> a&amp;b&#13;</Key></Object>"
        "<Object><Key>c</Key><VersionId>null</VersionId><ETag>&quot;e&quot;</ETag></Object><Quiet>true</Quiet></Delete>"
    )
    entries, quiet = xml_requests.parse_delete(body.encode())
    assert entries == [ToDelete(b" a&b\r"), ToDelete(b"c", "null", '"e"')]
    assert quiet


def test_a_completion() -> None:
    body = (
        b"<CompleteMultipartUpload><Part><ETag>&quot;e1&quot;</ETag><PartNumber>1</PartNumber></Part>"
        b"<!-- comment --><Part><PartNumber>3</PartNumber><ETag>e3</ETag><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part>"
        b"</CompleteMultipartUpload>"
    )
    assert xml_requests.parse_complete(body) == [
        CompletedPart(1, "e1"),
        CompletedPart(3, "e3", Checksum("CRC32", "AAAAAA==")),
    ]


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "body",
    [
        b"<Delete>",
        b"nonsense",
        b"<Other/>",
        b'<Delete xmlns="http://other/"/>',
        b"\xff\xfe",
        b"<Delete>\0</Delete>",
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><Delete><Object><Key>&e;</Key></Object></Delete>',
        b'<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><Delete><Object><Key>k</Key></Object></Delete>',
        b"<Delete>" + b"<a>" * 300 + b"</a>" * 300 + b"</Delete>",
    ],
)
def test_what_is_not_the_document_is_refused(parse: Callable[[bytes], Any], body: bytes) -> None:
    refused(parse, body)


def test_entities_that_multiply_are_refused() -> None:
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    body = f'<!DOCTYPE x [<!ENTITY e0 "lol">{entities}]><Delete><Object><Key>&e9;</Key></Object></Delete>'
    refused(xml_requests.parse_delete, body.encode())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<Object/>",
        b"<Object><Key></Key></Object>",
        b"<Object><Key>a</Key><Key>b</Key></Object>",
        b"<Object><Key>a</Key></Object>" * (DELETE_MAX + 1),
    ],
)
def test_deletions_of_nothing_or_too_much_are_refused(content: bytes) -> None:
    refused(xml_requests.parse_delete, b"<Delete>" + content + b"</Delete>")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<Part/>",
        b"<Part><PartNumber>1</PartNumber></Part>",
        b"<Part><ETag>e</ETag></Part>",
        b"<Part><PartNumber>one</PartNumber><ETag>e</ETag></Part>",
        b"<Part><PartNumber>-1</PartNumber><ETag>e</ETag></Part>",
        b"<Other/>",
        b"<Part><PartNumber>1</PartNumber><ETag>e</ETag><ChecksumCRC32>a</ChecksumCRC32><ChecksumSHA1>b</ChecksumSHA1></Part>",
        b"<Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>" * (PARTS_MAX + 1),
    ],
)
def test_completions_that_list_no_parts_are_refused(content: bytes) -> None:
    refused(xml_requests.parse_complete, b"<CompleteMultipartUpload>" + content + b"</CompleteMultipartUpload>")
