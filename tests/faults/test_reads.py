"""The n-th call that reads fails, or gives less than it should: of shards and copies, and of SQLite.

Whoever reads gets the right bytes, or an error where the catalog was lost under it; and the next one the right bytes.
"""

import errno
import os
import random
from pathlib import Path

import pytest

from stratumfs.errors import CatalogCorrupt, StoreError
from tests.faults.calls import Shortened, Step, watched
from tests.faults.check import wrong_here
from tests.faults.conftest import SEED
from tests.faults.disk import Image, write_image
from tests.faults.look import look
from tests.faults.run import opened
from tests.faults.story import Expected
from tests.faults.tree import Tree

TRIED = 6
"""Calls that fail here in each way; all in ``tools/rehearse faults``."""

pytestmark = pytest.mark.slow


class _Failer:
    """A `Watch` that makes the *number*-th read fail, or be short, and counts them."""

    def __init__(self, number: int, *, short: bool) -> None:
        self.count, self.failed = 0, ""
        self._number, self._short = number, short

    def before(self, step: Step, path: Path) -> None:
        if step.verb != "read":
            return
        self.count += 1
        if self.count - 1 == self._number:
            self.failed = str(step)
            if self._short:
                raise Shortened
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def synced(self, path: Path) -> None:
        pass


async def read_all(root: Path, base: tuple[Image, Tree], number: int, *, short: bool) -> tuple[int, list[str]]:
    """Everything that is there, by both doors' calls, in a store that was just opened.

    Returns how many calls read, and what is wrong.
    """
    image, tree = base
    write_image(image, root)
    watch = _Failer(number, short=short)
    with watched(root, watch, reads=True):
        async with opened(root) as store:
            wrong = list[str]()
            try:
                wrong += tree.differences(await look(store))
            except (CatalogCorrupt, StoreError) as error:
                wrong += [f"the reader got {error!r}"] if short or "shard" in watch.failed else []
            wrong += tree.differences(await look(store))
            wrong += [f"taken for damaged: {store.damaged}"] if short and store.damaged else []
    wrong = wrong or await wrong_here(root, Expected([("", [tree])]), tables_missing=2)
    return watch.count, [f"{'short' if short else 'failed'} {watch.failed} (call {number}):", *wrong] if wrong else []


@pytest.mark.parametrize("how", ["fails", "is short"])
async def test_a_read_that_fails_gives_no_wrong_byte(how: str, root: Path, base: tuple[Image, Tree]) -> None:
    short = how == "is short"
    count, wrong = await read_all(root, base, -1, short=short)
    assert not wrong, "\n".join(wrong)
    for number in random.Random(f"{how} {SEED}").sample(range(count), min(TRIED, count)):
        _, wrong = await read_all(root, base, number, short=short)
        assert not wrong, "\n".join(wrong)
