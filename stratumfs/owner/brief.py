"""An owner without doors, for the length of one question: what a command is that finds no owner to ask."""

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog
import trio

from stratumfs.config import SETTINGS_FILE, load
from stratumfs.owner import wire
from stratumfs.owner.blame import cause_of
from stratumfs.owner.collect import collect_garbage
from stratumfs.owner.device_change import change_device
from stratumfs.owner.durability import durability
from stratumfs.owner.heal import heal
from stratumfs.owner.images import back_up, dump_catalog, write_image
from stratumfs.owner.messages import (
    BackUpCatalog,
    CollectGarbage,
    DeviceChange,
    DumpCatalog,
    Durability,
    Heal,
    Move,
    Progress,
    Question,
    Scrub,
    Status,
    TierChange,
    TierQuestion,
    Usage,
    WriteImage,
)
from stratumfs.owner.moves import move_here
from stratumfs.owner.scrub import scrub_now, scrub_status
from stratumfs.owner.status import status
from stratumfs.owner.tier_answers import answer_of_tiers
from stratumfs.owner.tiers import change_tiers
from stratumfs.owner.usage import usage


def answer(store: Path, request: Question, report: Callable[[Progress], None] | None = None) -> dict[str, Any]:
    """Open the store, answer, close it. Blocking; a mount that comes meanwhile waits for the locks.

    A move that a signal stops is answered with how far it came.

    Raises: StoreInUse if there is an owner after all; what opening the store raises, DeviceRefused, ConfigError, ...
    """
    # What is wrong with devices is part of the answer; a terminal needs no log beside it.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        return trio.run(_answer, store, request, report)
    except BaseExceptionGroup as group:
        raise cause_of(group) from group


async def _answer(store: Path, request: Question, report: Callable[[Progress], None] | None) -> dict[str, Any]:
    settings = load(store / SETTINGS_FILE)
    async with wire.locked(store) as parts, wire.opened(parts, settings) as running:
        if isinstance(request, Status):
            await running.mover.resume()  # to be told of: nobody carries them out
            return await status(running, ()) | {"owner": None}
        if isinstance(request, Move):
            return await move_here(running.mover, request, report)
        if isinstance(request, TierQuestion):
            return await answer_of_tiers(running, request)
        if isinstance(request, Durability):
            return await durability(running, inode=request.inode, bucket=request.bucket, key=request.key)
        if isinstance(request, Scrub):
            return await (scrub_now(running, _here(report)) if request.now else scrub_status(running))
        if isinstance(request, Heal):
            return await heal(running, request, _here(report))
        if isinstance(request, CollectGarbage):
            return await collect_garbage(running, request, _here(report))
        if isinstance(request, Usage):
            return await usage(running, request, _here(report))
        if isinstance(request, DeviceChange):
            return await change_device(running, request, _here(report), trio.Event())
        if isinstance(request, TierChange):
            return await change_tiers(running, request)
        if isinstance(request, WriteImage):
            return await write_image(running.store.imager)
        if isinstance(request, DumpCatalog):
            return await dump_catalog(running, request.file)
        if isinstance(request, BackUpCatalog):
            return await back_up(running.backup, request)
        return await running.explainer.explain(
            inode=request.inode, bucket=request.bucket, key=request.key, at_ns=request.at_ns
        )


def _here(report: Callable[[Progress], None] | None) -> Callable[[Progress], Awaitable[None]]:
    async def follow(progress: Progress) -> None:
        if report is not None:
            report(progress)

    return follow
