"""A place for stores, and the store that all paths begin with."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import structlog
import trio

from tests.faults.base import make_base
from tests.faults.disk import Image
from tests.faults.paths import PATHS
from tests.faults.place import fast_place
from tests.faults.record import Outline, record
from tests.faults.tree import Tree

SEED = 1
"""Of the bytes that paths write."""


@pytest.fixture(scope="session")
def root() -> Iterator[Path]:
    """Where each store is written."""
    with fast_place() as folder:
        yield folder / "root"


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
