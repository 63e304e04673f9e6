"""What ``stratumfs heal`` does and tells."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from stratumfs.catalog.described import described
from stratumfs.errors import StoreReadOnly
from stratumfs.ids import ROOT_INODE
from stratumfs.limits import PROGRESS_S
from stratumfs.owner.messages import Heal, Progress
from stratumfs.owner.wire import Running
from stratumfs.repair.heal import BadShard, Healed, Healer
from stratumfs.store.pace import Pace

SHOWN_MAX = 1000


async def heal(running: Running, request: Heal, report: Callable[[Progress], Awaitable[None]]) -> dict[str, Any]:
    """As plain values for JSON; *report* is told once a second.

    Raises: NotFound, NoSuchBucket, NoSuchObject; StoreReadOnly where nothing can be mended.
    """
    store = running.store
    if not request.dry_run and store.read_only is not None:
        raise StoreReadOnly(f"nothing can be mended now: {store.read_only}")
    ino = ROOT_INODE
    if request.inode is not None or request.bucket is not None:
        ino = await running.mover.find(request.inode, request.bucket, request.key)
    path = (await store.catalog.read(described, ino)).path if ino != ROOT_INODE else b""
    pace = Pace(store.observer, lambda _: None)
    healer = Healer(store.id, store.catalog, store.fleet.devices, store.repairer, pace, mend=not request.dry_run)
    async with trio.open_nursery() as nursery:

        async def tell() -> None:
            while True:
                await trio.sleep(PROGRESS_S)
                await report(Progress("heals", healer.found.payload, max(healer.found.total, healer.found.payload)))

        nursery.start_soon(tell)
        await healer.run(ino)
        nursery.cancel_scope.cancel()
    return {"path": path.decode("utf-8", "replace"), "dry_run": request.dry_run, **_told(running, healer.found)}


def _told(running: Running, found: Healed) -> dict[str, Any]:
    return {
        "inodes": found.inodes,
        "bytes": found.payload,
        "inline_bytes": found.inline_bytes,
        "volumes": len(found.volumes),
        "cells_verified": found.cells,
        "rows": found.rows,
        "bad_rows": found.bad_rows,
        "bad_rows_left": found.rows_left,
        "bad_shards": found.bad,
        "bad_shards_left": found.bad - found.mended,
        "shards_away": found.away,
        "shards": [_plain(running, each) for each in found.shards[:SHOWN_MAX]],
        "unreadable": [path.decode("utf-8", "replace") for path in [*found.unreadable][:SHOWN_MAX]],
    }


def _plain(running: Running, each: BadShard) -> dict[str, Any]:
    entry = running.folders.entry(each.device)
    return {
        "volume": each.volume.hex(),
        "cell": each.cell,
        "device": str(entry.path) if entry is not None else each.device.hex(),
        "reason": each.reason,
        "mended": each.mended,
    }
