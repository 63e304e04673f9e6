"""Every write path, with calls that fail: the caller is told, what was promised stays, and the store says why."""

import errno
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.faults.check import wrong_here
from tests.faults.conftest import SEED
from tests.faults.disk import Image
from tests.faults.fail import fail
from tests.faults.paths import PATHS
from tests.faults.record import Outline
from tests.faults.tree import Tree

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("name", PATHS)
async def test_failure_at_each_kind_of_step(
    name: str, code: int, root: Path, base: tuple[Image, Tree], outline: Callable[[str], Awaitable[Outline]]
) -> None:
    run = await outline(name)
    rng = random.Random(f"{name} {code} {SEED}")
    calls = run.one_of_each(rng)
    if set(run.calls) == {"write WAL", "commit WAL", "sync WAL"}:
        calls = [rng.choice(calls)]  # a transaction of one path fails like that of any other
    for at in calls:
        for_good = rng.random() < 0.5
        failed = await fail(PATHS[name], root, *base, at, code, for_good=for_good, seed=SEED)
        wrong = failed.wrong or await wrong_here(root, failed.expected, tables_missing=2)
        about = f"{name}, seed {SEED}: {errno.errorcode[code]} of {failed.step} (call {at}, for good: {for_good})"
        assert not wrong, "\n".join([about, f"{failed.error!r}", *wrong])
