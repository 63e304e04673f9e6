"""Where stores come and go by the thousand."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MEMORY = Path("/dev/shm")
_ROOM_MIN = 4 << 30
"""Free in memory, for several workers: a container may have 64 MB there."""


@contextmanager
def fast_place() -> Iterator[Path]:
    """A folder in memory if that can be, for what is tested is the order of calls, not a disk; gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir=_MEMORY if _has_room(_MEMORY) else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def memory() -> Iterator[Path]:
    """`fast_place` for all tests of a worker."""
    with fast_place() as folder:
        yield folder


@pytest.fixture
def tmp_path(memory: Path) -> Iterator[Path]:
    """As pytest's, but in memory, and gone behind the test."""
    folder = Path(tempfile.mkdtemp(dir=memory))
    yield folder
    shutil.rmtree(folder)


def _has_room(folder: Path) -> bool:
    if not os.access(folder, os.W_OK):
        return False
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize >= _ROOM_MIN
