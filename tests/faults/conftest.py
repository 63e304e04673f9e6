"""A place for stores that come and go by the thousand, and the store that all begin with."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import trio

from tests.faults.base import make_base
from tests.faults.disk import Image
from tests.faults.tree import Tree

_MEMORY = Path("/dev/shm")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where each store is written, in memory if that can be: what is tested is the order of calls, not a disk."""
    above = _MEMORY if os.access(_MEMORY, os.W_OK) else tmp_path_factory.mktemp("faults")
    folder = Path(tempfile.mkdtemp(prefix="stratumfs-faults-", dir=above))
    yield folder / "root"
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def base(root: Path) -> tuple[Image, Tree]:
    return trio.run(make_base, root)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A thousand recoveries say nothing new."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()
