"""What is in the store before its doors open: a bucket of many keys, and a directory of many files."""

import shutil
import time
from pathlib import Path

import structlog
import trio

from stratumfs.config import SETTINGS_FILE, load
from stratumfs.ids import InodeNo
from stratumfs.owner import wire
from stratumfs.store.store import Store
from stratumfs.values import Name
from tools.measure.s3_rows import listed_key
from tools.measure.setting import Say
from tools.measure.systems import BUCKET, LISTED

FULL, EMPTY = "full", "empty"
FILES = 100_000
"""In the directory that is renamed."""
_STEP = 10_000


def fill(store: Path, catalog: Path, keys: int, files: int, say: Say) -> None:
    """By an owner without doors. *catalog* gets a copy of the database as it is then."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    trio.run(_fill, store, keys, files, say)
    (database,) = (store / "catalog").rglob("catalog.db")
    shutil.copyfile(database, catalog)


async def _fill(folder: Path, keys: int, files: int, say: Say) -> None:
    async with wire.locked(folder) as parts, wire.opened(parts, load(folder / SETTINGS_FILE)) as running:
        store = running.store
        now_ns = time.time_ns()
        listed = await store.objects.create_bucket(LISTED, now_ns)
        await _make(store, listed.ino, [listed_key(number) for number in range(keys)], say)
        bucket = await store.objects.create_bucket(BUCKET, now_ns)
        for name in (FULL, EMPTY):
            made = await store.files.make_directory(bucket.ino, Name(name.encode()), 0o755, 0, 0, now_ns)
            if name == FULL:
                await _make(store, made.ino, [f"{number:06d}" for number in range(files)], say)


async def _make(store: Store, parent: InodeNo, names: list[str], say: Say) -> None:
    for start in range(0, len(names), _STEP):
        say(f"{start:,} of {len(names):,} empty files made")
        chunk = [Name(name.encode()) for name in names[start : start + _STEP]]
        await store.files.make_many(parent, chunk, 0o100644, 0, 0, time.time_ns())
