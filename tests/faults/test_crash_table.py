"""The crash table of stratumfs-durability(7) has a row for each step of each write path, and each names a test."""

import re
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path

import pytest

from tests.faults import test_failures, test_kills, test_stops
from tests.faults.paths import PATHS
from tests.faults.record import END, Outline

PAGE = Path(__file__).parents[2] / "man" / "stratumfs-durability.7"
TESTS = {
    "test_stop_at_each_step": test_stops,
    "test_kill_at_a_step": test_kills,
    "test_failure_of_a_call": test_failures,
}


@cache
def rows() -> dict[str, list[str]]:
    """The steps of each table, by the path that its heading names as its test."""
    text = PAGE.read_text("utf-8")
    section = text[text.index(".SH CRASH TABLE") : text.index(".SH FAILING DEVICES")]
    found = {}
    for heading, table in re.findall(r"^Test: ([a-z0-9-]+)\.$.*?^\.TS$(.*?)^\.TE$", section, re.MULTILINE | re.DOTALL):
        assert heading not in found, f"{heading} has two tables"
        found[heading] = re.findall(r"^([a-z]+(?: [A-Za-z]+)+)@", table, re.MULTILINE)
    assert section.count(".TS\n") == len(found), "a table names no test"
    return found


def test_each_row_names_a_test_that_exists() -> None:
    assert sorted(rows()) == sorted(PATHS)
    text = PAGE.read_text("utf-8")
    for name, module in TESTS.items():
        assert f"{name}[path] in {Path(str(module.__file__)).name}" in text
        marks = {mark.args[0]: mark.args[1] for mark in getattr(module, name).pytestmark if mark.name == "parametrize"}
        assert set(marks["name"]) == set(PATHS)


@pytest.mark.slow
@pytest.mark.parametrize("name", PATHS)
async def test_each_step_has_a_row(name: str, outline: Callable[[str], Awaitable[Outline]]) -> None:
    met = {*(await outline(name)).calls, str(END)}
    assert len(rows()[name]) == len(set(rows()[name]))
    assert set(rows()[name]) == met
