"""What ``stratumfs scrub`` tells, and a pass that is asked for now."""

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio

from stratumfs.catalog.scrubs import Pass, last_passes, looks
from stratumfs.errors import DeviceError, StoreReadOnly
from stratumfs.ids import VolumeId
from stratumfs.limits import PROGRESS_S
from stratumfs.owner.messages import Progress
from stratumfs.owner.wire import Running

Report = Callable[[Progress], Awaitable[None]]


async def scrub_status(running: Running) -> dict[str, Any]:
    """How far the pass under way is, what it and those before it have found, and since when all shards are verified."""
    catalog, scrubber = running.store.catalog, running.store.scrubber
    passes = await catalog.read(last_passes)
    never, oldest = await _verified(running)
    work = scrubber.work
    return {
        "period_s": scrubber.period_s,
        "done": work.done if work is not None else 0,
        "total": max(work.total, work.done) if work is not None else 0,  # more may have come since it began
        "late_s": max(0.0, scrubber.late_s(passes[0], time.time_ns())) if passes else 0.0,
        "shards_never_verified": never,
        "oldest_verified": oldest / 1e9 if oldest is not None else None,
        "passes": [_plain(each) for each in passes],
    }


async def _verified(running: Running) -> tuple[int, int | None]:
    """(shards of sealed volumes that were never found whole, when the one was that was seen last longest ago)."""
    never, oldest, after = 0, list[int](), VolumeId(b"")
    while True:
        chunk = await running.store.catalog.read(looks, after)
        never += chunk.never
        oldest += [chunk.oldest_ns] if chunk.oldest_ns is not None else []
        await trio.lowlevel.checkpoint()
        if chunk.last is None:
            return never, min(oldest, default=None)
        after = chunk.last


async def scrub_now(running: Running, report: Report) -> dict[str, Any]:
    """A whole pass, and the repairs that it asks for; *report* is told once a second. Raises: StoreReadOnly."""
    store = running.store
    if store.read_only is not None:
        raise StoreReadOnly(f"what a scrub finds cannot be mended now: {store.read_only}")
    async with trio.open_nursery() as nursery:

        async def tell() -> None:
            while True:
                await trio.sleep(PROGRESS_S)
                work = store.scrubber.work
                if work is not None:
                    await report(Progress(f"scrubs {work.device}", work.done, max(work.total, work.done)))
                else:
                    await report(Progress("repairs"))

        nursery.start_soon(tell)
        await store.scrubber.wait_pass()
        await store.repairer.wait_settled()
        for remote in store.remote_scrubbers.values():
            with suppress(DeviceError):  # of a service that does not answer `status` tells
                await remote.round(at_once=True)
        nursery.cancel_scope.cancel()
    return {**await scrub_status(running), "damaged_shards": len(store.damaged)}


def _plain(found: Pass) -> dict[str, Any]:
    return {
        "began": found.began_ns / 1e9,
        "ended": found.ended_ns / 1e9 if found.ended_ns is not None else None,
        "outcome": found.outcome,
        "stage": str(found.stage),
        "rows": found.rows,
        "bad_rows": found.bad_rows,
        "copies": found.copies,
        "bad_copies": found.bad_copies,
        "volumes": found.volumes,
        "shards": found.shards,
        "bad_shards": found.bad_shards,
        "bytes": found.bytes,
    }
