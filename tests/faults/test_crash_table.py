"""The crash table of stratumfs-durability(7) names a test for each write path; that its rows are the steps of the path
is asserted where these are stopped at."""

from pathlib import Path

from tests.faults import test_failures, test_kills, test_stops
from tests.faults.paths import PATHS
from tests.faults.table import PAGE, matrix, rows

TESTS = {
    "test_stop_at_each_step": test_stops,
    "test_kill_at_a_step": test_kills,
    "test_failure_of_a_call": test_failures,
}


def test_each_row_names_a_test_that_exists() -> None:
    assert sorted(rows()) == sorted(PATHS)
    text = PAGE.read_text("utf-8")
    for name, module in TESTS.items():
        assert f"{name}[path] in {Path(str(module.__file__)).name}" in text
        marks = {mark.args[0]: mark.args[1] for mark in getattr(module, name).pytestmark if mark.name == "parametrize"}
        assert set(marks["name"]) == set(PATHS)


def test_no_row_is_there_twice() -> None:
    assert all(len(steps) == len(set(steps)) for steps in rows().values())


def test_the_matrix_has_states_of_every_path() -> None:
    tried = matrix()
    assert all(sum(tried.get(path, ())) > 0 for path in PATHS), set(PATHS) - set(tried)
