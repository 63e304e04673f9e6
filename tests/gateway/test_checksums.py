"""Checksums against known values and against each other."""

import base64
import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import checksums
from gateway.checksums import Algorithm
from gateway.errors import S3Error
from stratumfs.values import Checksum

CRCS = [Algorithm.CRC32, Algorithm.CRC32C, Algorithm.CRC64NVME]


def of(algorithm: Algorithm, data: bytes) -> str:
    found = checksums.hasher(algorithm)
    found.update(data)
    return checksums.encode(found.digest())


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        # The check values of the CRC catalogue, and FIPS 180.
        (Algorithm.CRC32, "cbf43926"),
        (Algorithm.CRC32C, "e3069283"),
        (Algorithm.CRC64NVME, "ae8b14860a799888"),
        (Algorithm.SHA1, hashlib.sha1(b"123456789").hexdigest()),
        (Algorithm.SHA256, hashlib.sha256(b"123456789").hexdigest()),
    ],
)
def test_check_values(algorithm: Algorithm, digest: str) -> None:
    assert base64.b64decode(of(algorithm, b"123456789")).hex() == digest
    assert len(digest) == 2 * algorithm.size


@pytest.mark.parametrize("algorithm", list(Algorithm))
@given(pieces=st.lists(st.binary(max_size=100), max_size=5))
def test_a_stream_has_the_checksum_of_the_whole(algorithm: Algorithm, pieces: list[bytes]) -> None:
    found = checksums.hasher(algorithm)
    for piece in pieces:
        found.update(memoryview(piece))
    assert checksums.encode(found.digest()) == of(algorithm, b"".join(pieces))


@pytest.mark.parametrize("algorithm", CRCS)
@given(parts=st.lists(st.binary(max_size=300), min_size=1, max_size=6))
def test_the_crc_of_a_whole_is_computed_from_its_parts(algorithm: Algorithm, parts: list[bytes]) -> None:
    combined = checksums.combined(algorithm, [(of(algorithm, part), len(part)) for part in parts])
    assert combined == Checksum(algorithm.value, of(algorithm, b"".join(parts)))


def test_a_hash_of_a_whole_cannot_be_computed_from_its_parts() -> None:
    with pytest.raises(S3Error, match="InvalidRequest"):
        checksums.combined(Algorithm.SHA256, [(of(Algorithm.SHA256, b"a"), 1)])


def test_a_composite_checksum_is_that_of_the_checksums() -> None:
    parts = [b"one", b"two"]
    found = checksums.composite(Algorithm.CRC32, [of(Algorithm.CRC32, part) for part in parts])
    raw = b"".join(zlib.crc32(part).to_bytes(4, "big") for part in parts)
    assert found == Checksum("CRC32", of(Algorithm.CRC32, raw) + "-2", True)


def test_a_declared_checksum_is_read() -> None:
    assert checksums.declared({"x-amz-checksum-crc32": "AAAAAA=="}) == Checksum("CRC32", "AAAAAA==")
    assert checksums.declared({"x-amz-checksum-crc32": "AAAAAA==-3"}) == Checksum("CRC32", "AAAAAA==-3", True)
    assert checksums.declared({"x-amz-checksum-mode": "ENABLED", "x-amz-checksum-type": "COMPOSITE"}) is None


@pytest.mark.parametrize("value", ["", "AAAA", "AAAAAA=", "!!!!AA==", "AAAAAA==-x", "AAAAAA==-", "AAAAAA==\n"])
def test_a_checksum_of_a_wrong_form_is_refused(value: str) -> None:
    with pytest.raises(S3Error, match="x-amz-checksum-crc32"):
        checksums.declared({"x-amz-checksum-crc32": value})


@pytest.mark.parametrize(
    ("kind", "algorithm", "full"),
    [
        (None, Algorithm.CRC64NVME, True),
        (None, Algorithm.CRC32, False),
        (None, Algorithm.SHA256, False),
        ("FULL_OBJECT", Algorithm.CRC32C, True),
        ("COMPOSITE", Algorithm.SHA1, False),
        ("COMPOSITE", Algorithm.CRC64NVME, None),
        ("FULL_OBJECT", Algorithm.SHA256, None),
        ("HALF", Algorithm.CRC32, None),
    ],
)
def test_the_type_of_an_upload_must_fit_its_algorithm(
    kind: str | None, algorithm: Algorithm, full: bool | None
) -> None:
    headers = {} if kind is None else {"x-amz-checksum-type": kind}
    if full is None:
        with pytest.raises(S3Error, match="InvalidRequest"):
            checksums.full_object(headers, algorithm)
    else:
        assert checksums.full_object(headers, algorithm) is full


def test_names_of_algorithms() -> None:
    assert checksums.algorithm_named("crc32c") is Algorithm.CRC32C
    with pytest.raises(S3Error, match="unsupported"):
        checksums.algorithm_named("MD5")


def test_content_md5_must_be_the_base64_of_16_bytes() -> None:
    assert checksums.content_md5({}) is None
    assert checksums.content_md5({"content-md5": base64.b64encode(bytes(16)).decode()}) == bytes(16)
    for wrong in ("", "AAAA", "!", base64.b64encode(bytes(17)).decode()):
        with pytest.raises(S3Error, match="InvalidDigest"):
            checksums.content_md5({"content-md5": wrong})
