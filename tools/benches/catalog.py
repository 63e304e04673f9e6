"""Acknowledged commits per second by number of tasks, and what one costs; fresh bytes each time.

(An UPDATE with identical bytes writes no WAL at all, so every row is new.)
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import trio
from rich.console import Console
from rich.table import Table

from stratumfs.catalog.engine import Catalog, CatalogStatistics, Transaction
from stratumfs.ids import ExtentId, InodeNo
from stratumfs.limits import CATALOG_PAGE_SIZE

SCHEMA = (
    "create table entry (parent integer, name blob, inode integer, primary key (parent, name)) without rowid",
    "create table inode (ino integer primary key, size integer, mtime_ns integer)",
    "create table extent (id integer primary key, ino integer, data blob, hash blob)",
)


def put_object(tx: Transaction, ident: ExtentId, now_ns: int, data: bytes) -> None:
    """A small object: an entry, an inode, an inline extent."""
    tx.touch_inode(InodeNo(ident))
    tx.touch_name(InodeNo(1), b"%020d" % ident)
    tx.run("insert into entry values (1, ?, ?)", (b"%020d" % (ident * 7919 % 10**9), ident))
    tx.run("insert into inode values (?, ?, ?)", (ident, len(data), now_ns))
    tx.run("insert into extent values (?, ?, ?, ?)", (ident, ident, data, data[:32]))


def get_object(tx: Transaction, ident: ExtentId) -> int:
    row = tx.one("select size from inode where ino = ?", (ident,))
    assert row is not None
    return int(row[0])


class Bench:
    def __init__(self, catalog: Catalog, seconds: float, size: int) -> None:
        self._catalog = catalog
        self._seconds = seconds
        self._size = size
        self._done = 0

    async def commits(self, tasks: int) -> tuple[float, CatalogStatistics]:
        """Acknowledged commits per second of *tasks* tasks, and the statistics at the end."""
        self._done = 0
        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(tasks):
                nursery.start_soon(self._commit_until, began + self._seconds)
        return self._done / (time.perf_counter() - began), self._catalog.statistics()

    async def write_us(self, count: int = 2000) -> float:
        """Microseconds of one committed, not yet durable transaction."""
        spent = 0.0
        for _ in range(count):
            ident, data = await self._catalog.ids.extents(), os.urandom(self._size)
            began = time.perf_counter()
            await self._catalog.write(put_object, ident, time.time_ns(), data)
            spent += time.perf_counter() - began
        await self._catalog.sync()
        return spent / count * 1e6

    async def read_us(self, count: int = 20_000) -> float:
        """Microseconds of a point read."""
        ident = await self._catalog.ids.extents()
        await self._catalog.commit(put_object, ident, time.time_ns(), os.urandom(self._size))
        began = time.perf_counter()
        for _ in range(count):
            await self._catalog.read(get_object, ident)
        return (time.perf_counter() - began) / count * 1e6

    async def _commit_until(self, end: float) -> None:
        while time.perf_counter() < end:
            ident = await self._catalog.ids.extents()
            await self._catalog.commit(put_object, ident, time.time_ns(), os.urandom(self._size))
            self._done += 1


async def measure(folder: Path, seconds: float, size: int) -> None:
    Catalog.create(folder / "catalog", SCHEMA, 1, page_size=CATALOG_PAGE_SIZE)
    catalog = await Catalog.open(folder / "catalog", 1)
    console = Console()
    async with trio.open_nursery() as nursery:
        await nursery.start(catalog.serve)
        bench = Bench(catalog, seconds, size)
        table = Table("tasks", "commits/s", "batch", "ms a sync", title=f"commit of a {size} byte object")
        before = catalog.statistics()
        rounds, commits, hold_s = before.rounds.rounds, before.rounds.commits, before.rounds.hold_s
        for tasks in (1, 4, 16, 64):
            rate, after = await bench.commits(tasks)
            n = after.rounds.rounds - rounds
            batch = (after.rounds.commits - commits) / n
            table.add_row(str(tasks), f"{rate:,.0f}", f"{batch:.1f}", f"{(after.rounds.hold_s - hold_s) / n * 1e3:.2f}")
            rounds, commits, hold_s = after.rounds.rounds, after.rounds.commits, after.rounds.hold_s
        console.print(table)
        console.print(f"write {await bench.write_us():.0f} us, point read {await bench.read_us():.1f} us")
        console.print(f"checkpoints {catalog.statistics().checkpoints}")
        await catalog.close()


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/bench catalog", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each row")
    parser.add_argument("--size", type=int, default=4096, help="bytes of an object")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the temporary folder")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        trio.run(measure, Path(folder), options.seconds, options.size)
    return 0
