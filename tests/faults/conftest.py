"""A place for stores that come and go by the thousand, and the store that all begin with."""

import logging
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import structlog
import trio

from tests.faults.base import make_base
from tests.faults.disk import Image
from tests.faults.paths import PATHS
from tests.faults.record import Outline, record
from tests.faults.tree import Tree

SEED = 1
"""Of the bytes that paths write."""
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
    """Of 2+1: half the calls of 4+2, and the same order."""
    return trio.run(make_base, root, 2, 1)


@pytest.fixture(scope="session")
def wide_base(root: Path) -> tuple[Image, Tree]:
    """Of 4+2."""
    return trio.run(make_base, root, 4, 2)


@pytest.fixture(scope="session")
def outline(root: Path, base: tuple[Image, Tree]) -> Callable[[str], Awaitable[Outline]]:
    """The outline of a path by its name; each is run once for all tests that want it."""
    known: dict[str, Outline] = {}

    async def find(name: str) -> Outline:
        if name not in known:
            known[name] = (await record(PATHS[name], root, *base, SEED)).outline()
        return known[name]

    return find


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """A thousand recoveries say nothing new."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()
