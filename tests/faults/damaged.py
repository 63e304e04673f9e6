"""Damages the volumes of a store, and looks at what its scrubber, its doors and fsck make of it."""

import errno
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
import trio

from stratumfs.owner.blame import cause_of
from stratumfs.owner.fsck import Wanted, fsck
from stratumfs.store.store import Store
from tests.doors import BIN, Doors, opened_doors, run
from tests.faults.damage import Case, M, Shelf, Target, content, fill
from tests.faults.disk import Image, image_below, write_image
from tests.faults.run import make_here, opened
from tests.faults.test_rot import scrub
from tests.model.s3 import Got, Reader
from tests.stratumfs.store.helpers import get

MENDED_S = 60.0


class Missed(Exception):
    """Damage was not found, not mended, or served; or something whole was taken for damaged."""


class Damaged:
    """A store below *root* whose volumes are as they were written at the beginning of each look."""

    def __init__(self, root: Path, image: Image, shelf: Shelf) -> None:
        self._root, self._image, self._shelf = root, image, shelf

    def scrubbed(self, cases: Sequence[Case]) -> None:
        """A pass finds exactly these shards, and they are mended; a second one finds nothing. Raises: Missed."""
        targets = self._damage(cases)
        _run(self._scrubbed, targets, cases)
        self._checked()

    def read_through_doors(self, cases: Sequence[Case]) -> None:
        """Everything is read right through both doors, and mended because it was. Raises: Missed."""
        targets = self._damage(cases)
        with opened_doors(self._root) as doors:
            doors.expected += ["damaged and was read around"]
            reader = Reader(doors)
            for target, case in zip(targets, cases, strict=True):
                for key in target.keys:
                    if (got := _got(reader, key)).data != content(key):
                        raise Missed(f"{case}: S3 answers {got.status}, {len(got.data)} bytes of {key}")
                    if _read(doors, key) != content(key):
                        raise Missed(f"{case}: the mount has other bytes of {key}")
            reader.close()
            run([BIN / "stratumfs", "scrub", "--now", "--json", doors.store])  # and what no read had to look at
            self._wait_mended(doors)
            if complaints := doors.complaints():
                raise Missed(f"the owner complains: {complaints[0]}")
        self._checked()

    def refused(self, cases: Sequence[Case]) -> None:
        """Objects of which too much is damaged are errors at both doors, others are read; with one shard less damaged
        all is mended, so that nothing was made worse meanwhile. Raises: Missed."""
        targets = self._damage(cases)
        healthy = self._shelf.targets[len(cases)]
        with opened_doors(self._root) as doors:
            reader = Reader(doors)
            for target, case in zip(targets, cases, strict=True):
                self._refused(doors, reader, target, case)
                for key in healthy.keys:
                    if _got(reader, key).data != content(key) or _read(doors, key) != content(key):
                        raise Missed(f"{case}: {key} of another volume is not read")
            reader.close()
        if fsck_of(self._root)["clean"]:
            raise Missed("fsck finds nothing where something is lost")
        for target, case in zip(targets, cases, strict=True):
            path = target.paths[next(iter(case.kinds))]
            path.write_bytes(self._shelf.whole[path])
        _run(self._mended, [*targets, healthy])
        self._checked()

    def _refused(self, doors: Doors, reader: Reader, target: Target, case: Case) -> None:
        """The later object is lost; the earlier one perhaps."""
        earlier, later = target.keys
        if (got := _got(reader, later)).status != 503:
            raise Missed(f"{case}: S3 answers {got.status} and {len(got.data)} bytes of what is lost")
        if (read := _read(doors, later)) is not None:
            raise Missed(f"{case}: the mount has {len(read)} bytes of what is lost")
        got, read = _got(reader, earlier), _read(doors, earlier)
        if (got.status, got.data) != (200, content(earlier)) and got.status != 503:
            raise Missed(f"{case}: S3 answers {got.status} and wrong bytes of {earlier}")
        if read not in (None, content(earlier)):
            raise Missed(f"{case}: the mount has wrong bytes of {earlier}")

    def _damage(self, cases: Sequence[Case]) -> Sequence[Target]:
        write_image(self._image, self._root)
        targets = self._shelf.targets[: len(cases)]
        for target, case in zip(targets, cases, strict=True):
            self._shelf.damage(target, case)
        return targets

    async def _scrubbed(self, targets: Sequence[Target], cases: Sequence[Case]) -> None:
        bad = {(target.volume, cell): case for target, case in zip(targets, cases, strict=True) for cell in case.kinds}
        async with opened(self._root) as store:
            told = await scrub(store)
            if missed := bad.keys() - told:
                raise Missed(f"{len(missed)} were not found, such as of {bad[min(missed)]}")
            if told - bad.keys():
                raise Missed(f"{len(told - bad.keys())} were taken for damaged")
            await self._read_all(store, targets)
            if await scrub(store):
                raise Missed("a second pass finds more")

    async def _mended(self, targets: Sequence[Target]) -> None:
        async with opened(self._root) as store:
            await scrub(store)
            await self._read_all(store, targets)

    async def _read_all(self, store: Store, targets: Sequence[Target]) -> None:
        """Of volumes that a pass has been over. Raises: Missed."""
        if store.damaged:
            raise Missed(f"{len(store.damaged)} shards were not mended")
        for key in (key for target in targets for key in target.keys):
            if await get(store, key.encode()) != content(key):
                raise Missed(f"{key} has other bytes")

    def _wait_mended(self, doors: Doors) -> None:
        deadline = time.monotonic() + MENDED_S
        while left := doors.status()["damaged_shards"]:
            if time.monotonic() > deadline:
                raise Missed(f"{left} shards were not mended")

    def _checked(self) -> None:
        if not (found := fsck_of(self._root))["clean"]:
            raise Missed(f"fsck finds {found['findings'][:3]}")


def made(folder: Path, volumes: int) -> Damaged:
    """A store of so many volumes of 4+2, and a place for a mount beside it, in a new folder."""
    root = folder / "root"
    for name in (*(f"d{slot}" for slot in range(4 + M)), "mount"):
        (root / name).mkdir(parents=True)
    make_here(root)
    shelf = trio.run(fill, root, volumes)
    return Damaged(root, image_below(root), shelf)


def _run(look: Callable[..., Awaitable[None]], *args: object) -> None:
    try:
        trio.run(look, *args)
    except BaseExceptionGroup as group:
        raise cause_of(group) from group


def fsck_of(root: Path) -> dict[str, Any]:
    try:
        return fsck(root / "store", Wanted(mend=False, full=True), lambda text, done, total: None)
    finally:
        structlog.reset_defaults()


def _got(reader: Reader, key: str) -> Got:
    return reader.get("bucket", key.encode())


def _read(doors: Doors, key: str) -> bytes | None:
    """None if the kernel says that it cannot be read."""
    try:
        return (doors.mount / "bucket" / key).read_bytes()
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return None
