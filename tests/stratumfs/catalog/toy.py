"""A toy catalog for tests of the engine: one table, a few functions, members that can be stopped or broken."""

import errno
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from stratumfs.catalog.durability import Mark, Member
from stratumfs.catalog.engine import Catalog, Transaction
from stratumfs.errors import PreconditionFailed
from stratumfs.ids import InodeNo

SCHEMA = ("create table thing (id integer primary key, value blob not null)",)
PAGE = 4096


def put(tx: Transaction, ident: int, value: bytes) -> int:
    tx.run("insert into thing values (?, ?)", (ident, value))
    tx.touch_inode(InodeNo(ident))
    return ident


def put_name(tx: Transaction, parent: int, name: bytes) -> None:
    tx.run("insert into thing values (?, ?)", (parent * 1000 + len(name), name))
    tx.touch_name(InodeNo(parent), name)


def put_and_raise(tx: Transaction, ident: int) -> None:
    put(tx, ident, b"never seen")
    raise PreconditionFailed("if-match")


def put_if_absent(tx: Transaction, ident: int, value: bytes) -> None:
    if get(tx, ident) is not None:
        raise PreconditionFailed("if-none-match")
    put(tx, ident, value)


def get(tx: Transaction, ident: int) -> bytes | None:
    tx.see_inode(InodeNo(ident))
    row = tx.one("select value from thing where id = ?", (ident,))
    return row[0] if row else None


def get_name(tx: Transaction, parent: int, name: bytes) -> bool:
    tx.see_name(InodeNo(parent), name)
    return tx.one("select 1 from thing where value = ?", (name,)) is not None


def listing(tx: Transaction, parent: int) -> list[int]:
    tx.see_directory(InodeNo(parent))
    return [ident for (ident,) in tx.all("select id from thing order by id")]


class StoppedMember:
    """Holds nothing until it is let go; keeps the marks it was given."""

    def __init__(self) -> None:
        self.marks: list[Mark] = []
        self._may = threading.Event()
        self._reached = threading.Semaphore(0)

    def hold(self, mark: Mark) -> None:
        self.marks.append(mark)
        self._reached.release()
        assert self._may.wait(60)

    def let_go(self) -> None:
        self._may.set()

    async def reached(self) -> None:
        """Wait for one more call."""
        assert await trio.to_thread.run_sync(self._reached.acquire, True, 60)


class FailingMember:
    """A disk whose fdatasync fails, once it is told to."""

    def __init__(self) -> None:
        self.failing = False
        self.calls = 0

    def hold(self, mark: Mark) -> None:
        self.calls += 1
        if self.failing:
            raise OSError(errno.EIO, "Input/output error")


@asynccontextmanager
async def running(folder: Path, members: Sequence[Member] = (), **kwargs: Any) -> AsyncIterator[Catalog]:
    """The toy catalog, made if it isn't there, open and served."""
    if not (folder / "catalog.db").exists():
        Catalog.create(folder, SCHEMA, 1, page_size=PAGE)
    catalog = await Catalog.open(folder, 1, members=members, **kwargs)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(catalog.serve)
            yield catalog
            await catalog.close()
    finally:
        await catalog.close()


def contents(folder: Path) -> dict[int, bytes]:
    """What a reader finds in a closed catalog."""

    async def read() -> dict[int, bytes]:
        catalog = await Catalog.open(folder, 1, read_only=True)
        try:
            return dict(await catalog.read(everything))
        finally:
            await catalog.close()

    return trio.run(read)


def everything(tx: Transaction) -> list[tuple[Any, ...]]:
    return tx.all("select id, value from thing")
