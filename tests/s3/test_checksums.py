"""Additional checksums: verified, kept, said again; of objects, of parts, of wholes."""

import os
from typing import Any

import pytest
from awscrt import checksums as crt

from gateway import checksums
from gateway.checksums import Algorithm
from tests.s3.errors import refusal
from tests.s3.test_multipart import FIVE, Upload

pytestmark = pytest.mark.client
ALGORITHMS = [algorithm.value for algorithm in Algorithm]
DATA = os.urandom(700_000)


def digest(algorithm: str, data: bytes) -> str:
    hasher = checksums.hasher(Algorithm(algorithm))
    hasher.update(data)
    return checksums.encode(hasher.digest())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_checksum_is_kept_and_said_to_those_who_ask(s3: Any, bucket: str, algorithm: str) -> None:
    name = f"Checksum{algorithm}"
    put = s3.put_object(Bucket=bucket, Key="k", Body=DATA, ChecksumAlgorithm=algorithm)
    assert put[name] == digest(algorithm, DATA)
    assert put["ChecksumType"] == "FULL_OBJECT"
    assert name not in s3.head_object(Bucket=bucket, Key="k")
    asked = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert asked["Body"].read() == DATA  # the client verifies it
    assert (asked[name], asked["ChecksumType"]) == (put[name], "FULL_OBJECT")
    part = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED", Range="bytes=1-9")
    assert name not in part
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"][0]
    assert listed["ChecksumAlgorithm"] == [algorithm]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_wrong_checksum_is_refused_and_nothing_is_stored(s3: Any, bucket: str, algorithm: str) -> None:
    wrong = {f"Checksum{algorithm}": digest(algorithm, b"other")}
    assert refusal(s3.put_object, Bucket=bucket, Key="k", Body=DATA, **wrong) == (400, "BadDigest")
    short = {f"Checksum{algorithm}": "AAAA"}
    assert refusal(s3.put_object, Bucket=bucket, Key="k", Body=DATA, **short) == (400, "InvalidRequest")
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    upload = Upload(s3, bucket, ChecksumAlgorithm=algorithm)
    said = {**upload.where, "PartNumber": 1, "Body": DATA, **wrong}
    assert refusal(s3.upload_part, **said) == (400, "BadDigest")
    assert "Parts" not in s3.list_parts(**upload.where)


def test_who_names_none_gets_one_as_s3_does(served: Any, bucket: str) -> None:
    s3 = served.client(request_checksum_calculation="when_required")
    put = s3.put_object(Bucket=bucket, Key="k", Body=DATA)
    assert put["ChecksumCRC64NVME"] == checksums.encode(crt.crc64nvme(DATA).to_bytes(8, "big"))


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [(name, "COMPOSITE") for name in ALGORITHMS if name != "CRC64NVME"]
    + [(name, "FULL_OBJECT") for name in ("CRC32", "CRC32C", "CRC64NVME")],
)
def test_a_whole_has_the_checksum_that_its_upload_was_to_have(s3: Any, bucket: str, algorithm: str, kind: str) -> None:
    name = f"Checksum{algorithm}"
    pieces = [os.urandom(FIVE), b"second"]
    upload = Upload(s3, bucket, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    assert (upload.created["ChecksumAlgorithm"], upload.created["ChecksumType"]) == (algorithm, kind)
    for number, piece in enumerate(pieces, 1):
        sent = upload.send(number, piece, ChecksumAlgorithm=algorithm)
        assert sent[name] == digest(algorithm, piece)
        upload.parts[number][name] = sent[name]
    if kind == "FULL_OBJECT":
        expected = digest(algorithm, b"".join(pieces))
    else:
        expected = checksums.composite(Algorithm(algorithm), [digest(algorithm, piece) for piece in pieces]).value
    wrong = digest(algorithm, b"wrong") + ("" if kind == "FULL_OBJECT" else "-2")
    assert refusal(upload.complete, **{name: wrong}) == (400, "BadDigest")
    result = upload.complete(**{name: expected}, ChecksumType=kind)
    assert (result[name], result["ChecksumType"]) == (expected, kind)
    got = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got["Body"].read() == b"".join(pieces)
    assert (got[name], got["ChecksumType"]) == (expected, kind)


def test_parts_and_upload_must_agree(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket, ChecksumAlgorithm="SHA256")
    said = {**upload.where, "PartNumber": 1, "Body": b"x"}
    assert refusal(s3.upload_part, **said, ChecksumAlgorithm="CRC32") == (400, "InvalidRequest")
    upload.send(1, b"x", ChecksumAlgorithm="SHA256")
    upload.parts[1]["ChecksumSHA256"] = digest("SHA256", b"y")
    assert refusal(upload.complete) == (400, "InvalidPart")
    upload.parts[1]["ChecksumSHA256"] = digest("SHA256", b"x")
    crc = digest("CRC32", b"x")
    assert refusal(upload.complete, ChecksumCRC32=crc) == (400, "InvalidRequest")
    assert upload.complete()["ChecksumType"] == "COMPOSITE"


@pytest.mark.parametrize(
    "said",
    [
        {"ChecksumAlgorithm": "SHA256", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "COMPOSITE"},
        {"ChecksumAlgorithm": "MD4"},
        {"ChecksumAlgorithm": "CRC32", "ChecksumType": "PARTIAL"},
    ],
)
def test_kinds_that_do_not_exist_are_refused(s3: Any, bucket: str, said: dict[str, str]) -> None:
    assert refusal(s3.create_multipart_upload, Bucket=bucket, Key="k", **said) == (400, "InvalidRequest")
