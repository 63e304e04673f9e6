"""Lets one call of a write path fail, and says what is wrong with what the store makes of it."""

import errno
import os
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyfuse3

from stratumfs.errors import CatalogCorrupt, DeviceError, StoreError, StoreReadOnly, StratumError
from stratumfs.store.store import Store
from tests.faults.acts import delete, find, mkdir, put
from tests.faults.base import STRIPED
from tests.faults.calls import WRITING, Shortened, Step
from tests.faults.disk import Image
from tests.faults.look import look
from tests.faults.paths.mends import scrub
from tests.faults.paths.repairs import PATHS as REPAIRS
from tests.faults.run import WritePath, play
from tests.faults.story import Expected, Story, after_kill, after_power_cut
from tests.faults.tree import FILE, Tree

IN_PART = 0
"""In place of an error: the call does half of its work."""
ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC, "EDQUOT": errno.EDQUOT, "short": IN_PART}
_FULL = (errno.ENOSPC, errno.EDQUOT, IN_PART)
_SQLITE = ("WAL", "database", "journal")
"""What SQLite writes by itself. It knows one way to be full, ENOSPC."""
_UNSURE = ("sync WAL", "sync database")
"""Calls after whose failure nobody knows what is stored, and nobody can write it elsewhere."""
NEEDED = (
    "rename",
    "write",
    "write contents of",
    "sync",
    "create",
    "allocate",
    "cut",
    "make",
    "link",
    "commit",
    "restart",
)
"""What a device must be able to do, or is struck. A removal that fails is tried again later."""


_EITHER = ("base", "catalog folder", "database", "WAL")
"""Of a device: what a copy or a new database of the catalog is made of, or folded into. Another place is asked then."""
_FOLDED = "rename copy"
"""Done by a fold, whose failure is for the members' own task, which does not run in these paths, to strike for."""


MENDING = (*REPAIRS.values(), scrub)
"""What they do for a shard may fail, and is done another time."""


@dataclass(slots=True)
class Failed:
    """What came of a run in which a call failed.

    step, path  the call
    error       what the caller got; None: it was not told
    expected    what a power cut behind it may leave
    wrong       what was wrong with the store while it was still open, a line each
    """

    expected: Expected
    step: Step | None = None
    path: Path = field(default_factory=Path)
    error: Exception | None = None
    wrong: list[str] = field(default_factory=list)


class Failer:
    """A `StepWatch` that makes the *number*-th call fail with *code*, one of ERRORS; of IN_PART the *number*-th of
    those that write. *for_good*: and every later one below the same folder, as a disk that died does.

    failed   the call that did
    dead     the folder that goes on failing
    """

    def __init__(self, number: int, code: int, *, for_good: bool) -> None:
        self.code = code
        self.failed: tuple[Step, Path] | None = None
        self.dead: Path | None = None
        self.stories: Sequence[Story] = ()
        self._left, self._for_good = number, for_good
        self._counting = False

    def begin(self, root: Path, stories: Sequence[Story]) -> None:
        self.stories = stories
        self._root = root
        self._counting = True

    def end(self) -> None:
        self._counting = False

    def before(self, step: Step, path: Path) -> None:
        if self.dead is not None and path.is_relative_to(self.dead) and self._concerns(step):
            self._fail()
        if not self._counting:
            return
        if self.code == IN_PART and step.verb not in WRITING:
            return
        self._left -= 1
        if self._left == -1:
            self.failed = step, path
            below = path.relative_to(self._root).parts
            if self._for_good and below:  # the folder above is no disk
                self.dead = self._root / below[0]
            self._fail()

    def synced(self, path: Path) -> None:
        pass

    def full(self, step: Step) -> bool:
        """Whether it is for want of room that *step* fails, as whoever made it sees it."""
        return self.code in _FULL and not (self.code == errno.EDQUOT and step.what in _SQLITE)

    def _fail(self) -> None:
        if self.code == IN_PART:
            raise Shortened
        raise OSError(self.code, os.strerror(self.code))

    def _concerns(self, step: Step) -> bool:
        """A full disk still syncs, cuts and removes, and only what writes can do a part of it."""
        if self.code == IN_PART:
            return step.verb in WRITING
        return self.code not in _FULL or step.verb not in ("sync", "cut", "remove")


async def fail(
    path: WritePath, root: Path, image: Image, tree: Tree, number: int, code: int, *, for_good: bool, seed: int = 0
) -> Failed:
    """Run *path*, its *number*-th call failing."""
    failer = Failer(number, code, for_good=for_good)
    errors: list[Exception] = []
    wrong: list[str] = []

    async def look_at_end(store: Store, error: Exception | None) -> None:
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if error is not None:
            errors.append(error)
        if failer.failed is None:
            return
        try:
            wrong.extend(await _wrong_while_open(store, failer, error, repairs=path in MENDING))
        except Exception:
            wrong.extend(traceback.format_exc().splitlines())

    try:
        await play(path, root, image, tree, failer, seed, look_at_end)
    except Exception as error:
        errors.append(error)
    expected = after_power_cut(failer.stories, [story.progress for story in failer.stories])
    found = Failed(expected, error=errors[0] if errors else None, wrong=wrong)
    if failer.failed is not None:
        found.step, found.path = failer.failed
    return found


async def _wrong_while_open(
    store: Store, failer: Failer, error: Exception | None, *, repairs: bool = False
) -> list[str]:
    assert failer.failed is not None
    step, path = failer.failed
    wrong = []
    if not isinstance(error, DeviceError | StoreError | CatalogCorrupt | pyfuse3.FUSEError | None):
        wrong.append(f"the caller got {type(error).__name__}: {error}")
    expected = after_kill(failer.stories, [story.progress for story in failer.stories])
    if store.catalog.failure is None:
        wrong += [f"while open: {line}" for line in expected.differences(await look(store))]
    else:  # S3 answers nothing that may not be durable: the mount reads on
        for _, allowed in expected.parts:
            wrong += await _wrong_bytes(store, allowed)
    if repairs and store.read_only is None:  # which begin with a struck or damaged device, and may leave it so
        return wrong + await _wrong_when_used(store, failer)
    needed = step.verb in NEEDED and (not failer.full(step) or str(step) in _UNSURE)
    device = next((each for each in store.devices.values() if path.is_relative_to(each.label)), None)
    if (needed and _struck(store) > store.code.m) or _with_room(store, None) < 1 + store.code.m:
        return wrong + await _wrong_unless_read_only(store, path)
    if store.read_only is not None:
        return [*wrong, f"read-only without need: {store.read_only}"]
    if len(store.fleet.taking(store.tier)) <= store.code.m:
        return wrong  # some are struck, others full: nothing fits
    if device is not None:
        wrong += [f"the caller got {error!r} for a device that others make up for"] if error is not None else []
        struck, died = bool(device.struck), failer.dead is not None and failer.code not in (errno.ENOSPC, IN_PART)
        # Of a disk that died the next call says so; a removal is tried again, but not while shards are moved aside.
        either = step.what in _EITHER or str(step) == _FOLDED or (struck and (died or step.verb == "remove"))
        wrong += [f"{device.label} is struck: {struck}"] if struck != needed and not either else []
    return wrong + await _wrong_when_used(store, failer)


def _struck(store: Store) -> int:
    """Devices of the tier that takes new data."""
    return sum(device.struck is not None for device in store.devices.values() if device.tier == store.tier)


def _with_room(store: Store, full: Path | None) -> int:
    """Those of them that take writes, without the one that lies at *full*. Fewer than 1 + m are too few."""
    up = [Path(each.label) for each in store.devices.values() if each.tier == store.tier and each.struck is None]
    return sum(full is None or not path.is_relative_to(full) for path in up)


async def _wrong_bytes(store: Store, allowed: Sequence[Tree]) -> list[str]:
    """Files that are the same in all trees have their bytes."""
    wrong = []
    for path, node in allowed[0].nodes.items():
        same = all(path in tree.nodes and tree.nodes[path].data == node.data for tree in allowed)
        if not same or node.kind != FILE:
            continue
        if await store.reader.read(await find(store, path), 0, len(node.data) + 1) != node.data:
            wrong.append(f"while open: {path} has other bytes")
    return wrong


async def _wrong_when_used(store: Store, failer: Failer) -> list[str]:
    """The store takes, reads and deletes as before: around a device that is full or has failed."""
    if failer.code in _FULL and failer.dead is not None and failer.dead.name.startswith("store"):
        return []  # goes on being full, and takes nothing at all
    if failer.code in _FULL and failer.dead is not None and store.catalog.folder.is_relative_to(failer.dead):
        return []  # the same: the catalog has moved to what is full now
    full = failer.dead if failer.code in _FULL else None
    if full is not None and (_struck(store) >= store.code.m or _with_room(store, full) < 1 + store.code.m):
        return []  # what is not struck is full
    data = bytes(STRIPED)
    await put(store, "rest/later", data)
    found = await store.reader.read(await find(store, "rest/later"), 0, len(data) + 1)
    await delete(store, "rest/later")
    return [] if found == data else ["what was written later has other bytes"]


async def _wrong_unless_read_only(store: Store, path: Path) -> list[str]:
    if store.read_only is None:
        return ["the store is not read-only"]
    wrong = []
    if not any(part in store.read_only for part in map(str, path.parents[:-1])):
        wrong.append(f"{path} is not named in: {store.read_only}")
    for attempt in (put(store, "rest/refused", b"x"), mkdir(store, "rest/refused")):
        try:
            await attempt
        except StoreReadOnly:
            continue
        except StratumError as error:
            wrong.append(f"a write got {type(error).__name__}: {error}")
        else:
            wrong.append("a write was taken")
    return wrong
