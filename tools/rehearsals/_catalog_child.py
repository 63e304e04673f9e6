"""The process that is killed: writers and checkpoints on one catalog until the end comes from outside.

Usage: ``python -m tools.rehearsals._catalog_child FOLDER SEED``. Says READY on its standard output once it writes.
``FOLDER/journal`` gets a line for each id drawn (D id) and, after its answer, for each durable row (A id task n);
``FOLDER/held`` a line for each sync of the WAL, after it: salt and end.
"""

import hashlib
import os
import random
import sys
from pathlib import Path

import trio

from stratumfs.catalog import opening
from stratumfs.catalog.durability import Mark, Primary
from stratumfs.catalog.engine import Catalog, Transaction
from stratumfs.errors import PreconditionFailed
from stratumfs.ids import ExtentId, InodeNo

SCHEMA = (
    "create table thing (id integer primary key, sum blob not null, value blob not null)",
    "create table twin (id integer primary key)",
    "create table counter (task integer primary key, n integer not null)",
)
PAGE = 4096
WRITERS = 32
SIZES = (10, 200, 4096, 20_000)


def put(tx: Transaction, ident: ExtentId, task: int, n: int, value: bytes, refuse: bool) -> None:
    """Two rows and a counter, which must be found together or not at all."""
    tx.touch_inode(InodeNo(ident))
    tx.run("insert into thing values (?, ?, ?)", (ident, hashlib.blake2b(value).digest(), value))
    tx.run("insert into counter values (?, ?) on conflict (task) do update set n = excluded.n", (task, n))
    if refuse:
        raise PreconditionFailed("if-match")
    tx.run("insert into twin values (?)", (ident,))


class Child:
    def __init__(self, folder: Path, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - repeatable is the point
        self._busy = False
        self._journal = os.open(folder / "journal", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def run(self, store: Path) -> None:
        catalog = await Catalog.open(store, 1)
        async with trio.open_nursery() as nursery:
            await nursery.start(catalog.serve)
            print("READY", flush=True)
            for task in range(WRITERS):
                nursery.start_soon(self._write, catalog, task)
            nursery.start_soon(self._checkpoint, catalog)

    async def _write(self, catalog: Catalog, task: int) -> None:
        while True:
            ident = await catalog.ids.extents()
            os.write(self._journal, f"D {ident}\n".encode())
            value, refuse = os.urandom(self._rng.choice(SIZES)), self._rng.random() < 0.02
            try:
                await self._durably(catalog, ident, task, ident, value, refuse)
            except PreconditionFailed:
                continue
            os.write(self._journal, f"A {ident} {task} {ident}\n".encode())
            if not self._busy:
                self._busy = True
                print("BUSY", flush=True)

    async def _durably(self, catalog: Catalog, ident: ExtentId, *rest: *tuple[int, int, bytes, bool]) -> None:
        """By each way in which a door makes something durable."""
        way = self._rng.random()
        if way < 0.9:
            await catalog.commit(put, ident, *rest)
            return
        await catalog.write(put, ident, *rest)
        if way < 0.95:
            await catalog.sync()
        else:
            await catalog.settle(inodes=[InodeNo(ident)])

    async def _checkpoint(self, catalog: Catalog) -> None:
        while True:
            await trio.sleep(self._rng.random() * 0.06)
            await catalog.checkpoint()


def log_holds(path: Path) -> None:
    """From now on each sync of a WAL is written down, after it is done."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)

    class Logged(Primary):
        def hold(self, mark: Mark) -> None:
            super().hold(mark)
            os.write(log, f"{mark.salt} {mark.end}\n".encode())

    vars(opening)["Primary"] = Logged


def main() -> None:
    folder, seed = Path(sys.argv[1]), int(sys.argv[2])
    log_holds(folder / "held")
    trio.run(Child(folder, seed).run, folder / "store")


if __name__ == "__main__":
    main()
