"""Moves as the owner answers for them, over the control socket and as a command's own owner."""

import os
import signal
from collections.abc import Callable
from typing import Any

import trio

from stratumfs.errors import StoreClosing
from stratumfs.owner.messages import Done, Progress
from stratumfs.owner.messages import Move as MoveRequest
from tiering.move import Move, Mover

PROGRESS_S = 0.2


def progress_of(move: Move, mover: Mover) -> Progress:
    ahead = mover.under_way
    if move.repack is None and ahead is not None and ahead is not move:
        return Progress(f"waits for the move of {ahead.row.path.decode('utf-8', 'replace')}")
    return Progress("moves", move.moved, max(move.total, move.moved))


def ended(move: Move) -> Done:
    """How it ended. Raises: what it failed of, or waits for; StoreClosing if it is left to the next owner."""
    if move.error is not None:
        raise move.error
    if not move.outcome:
        raise StoreClosing("the owner of the store ended: the next one goes on with this move")
    return Done(move.summary())


async def move_here(mover: Mover, request: MoveRequest, report: Callable[[Progress], None] | None) -> dict[str, Any]:
    """A move in an owner without doors. SIGINT and SIGTERM stop it. Raises: as ``Mover.find``, ``ask``, ``ended``."""
    ino = await mover.find(request.inode, request.bucket, request.key)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mover.serve)
            move = await mover.ask(ino, request.to, os.getuid(), request.reason)

            async def stop_on_signal() -> None:
                await anext(aiter(signals))
                await mover.stop(move)

            nursery.start_soon(stop_on_signal)
            while not move.ended.is_set():
                with trio.move_on_after(PROGRESS_S):
                    await move.ended.wait()
                if report is not None:
                    report(progress_of(move, mover))
            nursery.cancel_scope.cancel()
    return ended(move).result
