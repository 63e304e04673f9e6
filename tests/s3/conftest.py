"""One store and gateway for all tests of this folder; a bucket of its own for each."""

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from tests.s3.door import Gateway, gateway

_numbers = count(1)


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="package")
def s3(served: Gateway) -> Any:
    return served.client()


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"bucket-{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    return name
