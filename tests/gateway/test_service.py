"""What is served is what the manual says is served."""

from pathlib import Path

import pytest

from gateway.headers import STORAGE_CLASSES
from gateway.operations import Operation
from gateway.service import HANDLERS

PAGE = (Path(__file__).parents[2] / "man/stratumfs-s3.7").read_text().replace("\\-", "-")


def section(name: str) -> str:
    return PAGE.split(f".SH {name}\n", 1)[1].split("\n.SH ", 1)[0]


def test_the_manual_names_the_operations_that_are_implemented() -> None:
    named = {operation for operation in Operation if operation in section("OPERATIONS").split()}
    assert named == set(HANDLERS)


@pytest.mark.parametrize("name", sorted(STORAGE_CLASSES))
def test_the_manual_names_each_storage_class(name: str) -> None:
    assert name in section("OBJECTS")
