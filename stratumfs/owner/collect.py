"""What ``stratumfs gc`` does and tells: all that the store tidies behind its users in the course of time, now."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import trio

from stratumfs.catalog.compaction import waiting
from stratumfs.catalog.garbage import garbage
from stratumfs.errors import StoreReadOnly
from stratumfs.limits import PROGRESS_S, VOLUME_FREE_GRACE_S
from stratumfs.owner.messages import CollectGarbage, Progress
from stratumfs.owner.wire import Running
from stratumfs.store.store import Store


async def collect_garbage(
    running: Running, request: CollectGarbage, report: Callable[[Progress], Awaitable[None]]
) -> dict[str, Any]:
    """As plain values for JSON; *report* is told once a second.

    Raises: StoreReadOnly where nothing can be changed.
    """
    store = running.store
    before = asdict(await store.catalog.read(garbage))
    about = {"dry_run": request.dry_run, "grace_s": VOLUME_FREE_GRACE_S, "kept_s": store.maintenance.keep_s}
    if request.dry_run:
        return {**about, "before": before, "after": before, "waits": {}}
    if store.read_only is not None:
        raise StoreReadOnly(f"nothing can be freed now: {store.read_only}")
    async with trio.open_nursery() as nursery:

        async def tell() -> None:
            while True:
                await trio.sleep(PROGRESS_S)
                work = store.compactor.work
                await report(
                    Progress(f"{work.what}: {work.device}", work.done, max(work.total, work.done))
                    if work is not None
                    else Progress("tidies")
                )

        nursery.start_soon(tell)
        await store.maintenance.round()
        await store.compactor.round()
        await store.remote_compactor.round()
        await store.maintenance.round()  # what has no bytes in use any more since
        nursery.cancel_scope.cancel()
    after = asdict(await store.catalog.read(garbage))
    return {**about, "before": before, "after": after, "waits": await _waits(store)}


async def _waits(store: Store) -> dict[str, str]:
    """Why a tier has volumes left that want to be written elsewhere."""
    found = {**store.compactor.stopped, **store.remote_compactor.stopped}
    for tier in store.writers:
        up, width = len(store.fleet.up(tier)), store.fleet.codes[tier].n
        if up < width and (await store.catalog.read(waiting, tier, width))["half_dead"]:
            found[tier] = f"{up} devices are up of the {width} that a volume takes"
    return found
