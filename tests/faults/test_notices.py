"""The stops notice what they are there for: a store that breaks a promise is caught."""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from stratumfs.catalog import extents, tree
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.membership import Membership
from stratumfs.devices import identity
from stratumfs.owner import create
from stratumfs.shards.local import LocalOpenShard, LocalShards
from tests.faults.check import wrong_after
from tests.faults.disk import Image
from tests.faults.paths import PATHS
from tests.faults.record import record, stops
from tests.faults.tree import Tree

Lie = Callable[[], AbstractContextManager[Any]]

pytestmark = pytest.mark.slow


def _nothing(*args: object, **kwargs: object) -> None:
    pass


async def _nothing_awaited(*args: object, **kwargs: object) -> None:
    pass


async def _nobody_asked(*args: object) -> dict[object, Exception]:
    """A round that no member is asked to hold."""
    return {}


_LIES: list[tuple[str, Lie]] = [
    ("put-stripes", lambda: patch.object(LocalOpenShard, "datasync", _nothing)),
    ("put-inline", lambda: patch.object(Membership, "_ask", _nobody_asked)),
    ("volume-open", lambda: patch.object(LocalShards, "sync_folder", _nothing)),
    ("mkfs", lambda: patch.object(create, "sync_folder", _nothing)),
    ("mkfs", lambda: patch.object(identity, "sync_folder", _nothing)),
    ("volume-free", lambda: patch.object(Catalog, "sync", _nothing_awaited)),
    ("rename", lambda: patch.object(Catalog, "settle", _nothing_awaited)),
    ("seen-by-s3", lambda: patch.object(Catalog, "read_settled", _read_at_once)),
    ("checkpoint", lambda: patch.object(Membership, "_ask", _nobody_asked)),
    ("delete", lambda: patch.object(extents, "delete_row", _delete_uncounted)),
    ("unlink-open", lambda: patch.object(tree, "orphan", _nothing)),
]


async def _read_at_once(catalog: Catalog, fn: Any, *args: Any, **_: Any) -> Any:
    return await catalog.read(fn, *args)


def _delete_uncounted(tx: Any, ident: int, volume: bytes | None, length: int) -> None:
    tx.run("delete from extent where id = ?", (ident,))


@pytest.mark.parametrize(("name", "lie"), _LIES, ids=[f"{name}-{number}" for number, (name, _) in enumerate(_LIES)])
async def test_a_lie_is_noticed(name: str, lie: Lie, root: Path, base: tuple[Image, Tree]) -> None:
    with lie():
        recorded = await record(PATHS[name], root, *base)
    rng = random.Random(1)
    for stop in reversed(list(stops(recorded, recorded.moments, rng))):
        if await wrong_after(stop.image, root, stop.expected):
            return
    pytest.fail("nothing was wrong")
