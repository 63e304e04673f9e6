from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import checksums
from gateway.checksums import Algorithm
from gateway.completion import whole_checksum
from stratumfs.ids import UploadId
from stratumfs.values import Checksum, ObjectSpec, PartInfo, UploadInfo


def upload(algorithm: str | None, *, composite: bool = False) -> UploadInfo:
    return UploadInfo(UploadId(bytes(16)), b"k", 0, ObjectSpec(), algorithm, composite)


def digest(algorithm: Algorithm, data: bytes) -> str:
    hasher = checksums.hasher(algorithm)
    hasher.update(data)
    return checksums.encode(hasher.digest())


def part(number: int, data: bytes, algorithm: Algorithm | None) -> PartInfo:
    checksum = Checksum(algorithm.value, digest(algorithm, data)) if algorithm else None
    return PartInfo(number, len(data), "etag", 0, checksum)


CRCS = [algorithm for algorithm in Algorithm if algorithm.is_crc]


@given(st.sampled_from(CRCS), st.lists(st.binary(), min_size=1, max_size=5), st.booleans())
def test_a_crc_of_the_whole_comes_from_those_of_its_parts(
    algorithm: Algorithm, pieces: list[bytes], named: bool
) -> None:
    parts = [part(number, piece, algorithm) for number, piece in enumerate(pieces, 1)]
    found = whole_checksum(upload(algorithm.value if named else None), parts)
    assert found == Checksum(algorithm.value, digest(algorithm, b"".join(pieces)))


def test_a_composite_checksum_says_how_many_parts_it_is_of() -> None:
    parts = [part(number, b"x", Algorithm.SHA256) for number in (1, 2)]
    found = whole_checksum(upload("SHA256", composite=True), parts)
    assert found is not None
    assert found.composite
    assert found.value.endswith("-2")


@pytest.mark.parametrize(
    ("asked", "of_parts"),
    [
        (None, [Algorithm.CRC32, Algorithm.CRC32C]),
        (None, [Algorithm.CRC32, None]),
        (None, [Algorithm.SHA1, Algorithm.SHA1]),
        ("CRC32", [Algorithm.CRC32C]),
        ("CRC32", [None]),
        (None, [None]),
    ],
)
def test_where_the_parts_do_not_fit_there_is_none(asked: str | None, of_parts: list[Any]) -> None:
    parts = [part(number, b"x", algorithm) for number, algorithm in enumerate(of_parts, 1)]
    assert whole_checksum(upload(asked), parts) is None
