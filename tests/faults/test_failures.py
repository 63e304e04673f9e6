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
from tests.faults.fail import ERRORS, IN_PART, fail
from tests.faults.paths import PATHS
from tests.faults.record import Outline
from tests.faults.tree import Tree

KINDS = {"EIO": 3, "ENOSPC": 1, "EDQUOT": 1, "short": 1}
"""Of calls, that fail in a path, with each error: others with the one than with the other."""
TRANSACTION = {"write WAL", "commit WAL", "sync WAL", "write copy", "sync copy"}

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("how", ["fails", "is full"])
@pytest.mark.parametrize("name", PATHS)
async def test_failure_of_a_call(
    name: str, how: str, root: Path, base: tuple[Image, Tree], outline: Callable[[str], Awaitable[Outline]]
) -> None:
    run = await outline(name)
    rng = random.Random(f"{name} {how} {SEED}")
    for error in ["EIO"] if how == "fails" else ["ENOSPC", "EDQUOT", "short"]:
        code = ERRORS[error]
        # A transaction of one path fails like that of any other.
        kinds = 1 if set(run.calls) == TRANSACTION else KINDS[error]
        for at in (run.writing if code == IN_PART else run).calls_of_kinds(kinds, rng):
            for_good = rng.random() < 0.5
            failed = await fail(PATHS[name], root, *base, at, code, for_good=for_good, seed=SEED)
            wrong = failed.wrong or await wrong_here(root, failed.expected, tables_missing=2)
            about = f"{name}, seed {SEED}: {error} of {failed.step} (call {at}, for good: {for_good})"
            assert not wrong, "\n".join([about, f"{failed.error!r}", *wrong])


async def test_a_device_that_fails_while_it_joins_is_struck(
    root: Path, base: tuple[Image, Tree], outline: Callable[[str], Awaitable[Outline]]
) -> None:
    """Each sync of a device's folder, in turn: some are those of the one that is added, as a place of the catalog."""
    for at in (await outline("add")).calls["sync device folder"]:
        failed = await fail(PATHS["add"], root, *base, at, errno.EIO, for_good=False, seed=SEED)
        wrong = failed.wrong or await wrong_here(root, failed.expected, tables_missing=2)
        assert not wrong, "\n".join([f"call {at}, {failed.step} of {failed.path}", *wrong])
