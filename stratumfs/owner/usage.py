"""What ``stratumfs usage`` tells: sums that the last walk of all names has left."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from stratumfs.catalog.described import described
from stratumfs.catalog.usage import UsageRow, usage_below, usage_of
from stratumfs.errors import NotFound, StoreReadOnly
from stratumfs.ids import ROOT_INODE
from stratumfs.limits import PROGRESS_S, USAGE_DEPTH
from stratumfs.owner.messages import Progress, Usage
from stratumfs.owner.wire import Running


async def usage(running: Running, request: Usage, report: Callable[[Progress], Awaitable[None]]) -> dict[str, Any]:
    """Of what is named, and of the prefixes or buckets right below it, in the order of their names.

    Raises: NotFound for what has no sums: it lies deeper than they are kept, is new, or is no directory. NoSuchBucket,
    NoSuchObject; StoreReadOnly if they are to be counted *now*.
    """
    store, path = running.store, b""
    if request.inode not in (None, ROOT_INODE) or request.bucket is not None:
        ino = await running.mover.find(request.inode, request.bucket, request.key)
        path = (await store.catalog.read(described, ino)).path.removesuffix(b"/") + b"/"
    if request.now:
        if store.read_only is not None:
            raise StoreReadOnly(f"what is counted cannot be kept now: {store.read_only}")
        await _walk(running, report)
    own = await store.catalog.read(usage_of, path)
    if path and own is None:
        name = path.decode("utf-8", "replace")
        raise NotFound(
            f"{name} has no sums: they are of buckets and {USAGE_DEPTH - 1} levels below, from the last count"
        )
    depth = own.depth if own is not None else 0
    below, after = list[UsageRow](), b""
    while depth < USAGE_DEPTH and (rows := await store.catalog.read(usage_below, path, depth, after)):
        below += rows
        after = rows[-1].path
    return {**(_plain(own) if own is not None else _sum(below)), "below": [_plain(each) for each in below]}


async def _walk(running: Running, report: Callable[[Progress], Awaitable[None]]) -> None:
    walk = running.store.usage
    async with trio.open_nursery() as nursery:

        async def tell() -> None:
            while True:
                await trio.sleep(PROGRESS_S)
                await report(Progress(f"counts: {walk.counted or 0} names"))

        nursery.start_soon(tell)
        await walk.wait_walk()
        nursery.cancel_scope.cancel()


def _plain(row: UsageRow) -> dict[str, Any]:
    return {
        "path": row.path.decode("utf-8", "replace"),
        "objects": row.objects,
        "directories": row.directories,
        "bytes": row.bytes,
        "counted": row.at_ns / 1e9,
    }


def _sum(rows: list[UsageRow]) -> dict[str, Any]:
    """Of the whole store."""
    return {
        "path": "",
        "objects": sum(row.objects for row in rows),
        "directories": sum(row.directories for row in rows),
        "bytes": sum(row.bytes for row in rows),
        "counted": min((row.at_ns for row in rows), default=0) / 1e9 or None,
    }
