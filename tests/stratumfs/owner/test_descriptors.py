"""How the process's descriptors are shared."""

import resource
import subprocess
import sys

import pytest

from stratumfs.limits import CONNECTIONS_MAX, CONNECTIONS_MIN, DEVICE_DESCRIPTORS, OWNER_DESCRIPTORS
from stratumfs.owner.descriptors import connections_within

RAISED = """
import resource
from stratumfs.owner.descriptors import raise_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 200))
raise_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_the_limit_is_raised_as_far_as_it_may_be() -> None:
    done = subprocess.run([sys.executable, "-c", RAISED], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["200", "200"]


@pytest.mark.parametrize(
    ("limit", "devices", "connections"),
    [
        (resource.RLIM_INFINITY, 6, CONNECTIONS_MAX),
        (1 << 20, 6, CONNECTIONS_MAX),
        (OWNER_DESCRIPTORS + 6 * DEVICE_DESCRIPTORS + 500, 6, 500),
        (1024, 60, CONNECTIONS_MIN),
    ],
)
def test_connections_get_what_devices_and_catalog_leave(limit: int, devices: int, connections: int) -> None:
    assert connections_within(limit, devices) == connections
