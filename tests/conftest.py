"""Fixtures that tests of several folders share."""

import os
import signal
import sys

import hypothesis
import pytest

from tests.doors import doors, shared_doors, tiered
from tests.remotes import cold, service, service_keys

__all__ = ["cold", "doors", "service", "service_keys", "shared_doors", "tiered"]

# A shell ignores it in what runs in the background, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's business, and of what else runs on it.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")

# Some hundred processes start in a run: what they import is compiled once, also where images of containers forbid it.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let every worker begin with some of the longest tests, so that none is left for the end of the run.

    xdist (worksteal) gives each worker an equal run of consecutive tests, and who is through takes from the ends of the
    others'. The longest are those that are slow and drive whole stores or clients.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    first = [item for item in items if _is_long(item)]
    rest = [item for item in items if not _is_long(item)]
    ordered: list[pytest.Item] = []
    for worker in range(workers):
        size = (len(items) - len(ordered)) // (workers - worker)
        mine = first[worker::workers]
        ordered += mine + rest[: max(0, size - len(mine))]
        del rest[: max(0, size - len(mine))]
    items[:] = ordered + rest


def _is_long(item: pytest.Item) -> bool:
    marks = {mark.name for mark in item.iter_markers()}
    return "slow" in marks and not marks.isdisjoint({"mount", "client"})
