"""Differences between the doors and the reference that were found once."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.doors import Doors

pytestmark = [pytest.mark.mount, pytest.mark.client, pytest.mark.slow]


@pytest.fixture
def bucket(shared_doors: Doors, request: pytest.FixtureRequest) -> Path:
    name = f"bucket-{abs(hash(request.node.name)):x}"
    path = shared_doors.mount / name
    path.mkdir()
    return path


@pytest.fixture
def s3(shared_doors: Doors) -> Any:
    return shared_doors.client()


def keys(s3: Any, bucket: Path) -> list[str]:
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket.name).get("Contents", ())]


def test_regression_a_name_with_two_readings_is_listed_once(bucket: Path, s3: Any) -> None:
    """A file of the very name that the mount gives to an object beside a directory."""
    (bucket / "_-_oa").write_bytes(b"file")
    s3.put_object(Bucket=bucket.name, Key="a", Body=b"object")
    s3.put_object(Bucket=bucket.name, Key="a/x", Body=b"")
    assert sorted(os.listdir(bucket)) == ["_-_oa", "a"]
    assert (bucket / "_-_oa").read_bytes() == b"object"
    (bucket / "_-_oa").unlink()
    assert sorted(os.listdir(bucket)) == ["_-_oa", "a"]
    assert (bucket / "_-_oa").read_bytes() == b"file"
    assert keys(s3, bucket) == ["_-_b_-_oa", "a/x"]
