"""Every write path, with calls that fail: the caller is told, what was promised stays, and the store says why.

Here a call of some kinds each; every single call in ``tools/rehearse crash``.
"""

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

KINDS = 3
"""Of calls, that fail in a path, with each error: others with the one than with the other."""
TRANSACTION = {"write WAL", "commit WAL", "sync WAL", "write copy", "sync copy"}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC], ids=["EIO", "ENOSPC"])
@pytest.mark.parametrize("name", PATHS)
async def test_failure_of_a_call(
    name: str, code: int, root: Path, base: tuple[Image, Tree], outline: Callable[[str], Awaitable[Outline]]
) -> None:
    run = await outline(name)
    rng = random.Random(f"{name} {code} {SEED}")
    kinds = 1 if set(run.calls) == TRANSACTION else KINDS  # a transaction of one path fails like that of any other
    for at in run.calls_of_kinds(kinds, rng):
        for_good = rng.random() < 0.5
        failed = await fail(PATHS[name], root, *base, at, code, for_good=for_good, seed=SEED)
        wrong = failed.wrong or await wrong_here(root, failed.expected, tables_missing=2)
        about = f"{name}, seed {SEED}: {errno.errorcode[code]} of {failed.step} (call {at}, for good: {for_good})"
        assert not wrong, "\n".join([about, f"{failed.error!r}", *wrong])
