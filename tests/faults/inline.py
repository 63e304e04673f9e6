"""A small store is opened faster: what it does in threads is done on the loop, and folders that are not there are not
looked into.

Being woken by threads was most of what it costs to look at what a stop has left, which depends on none. Paths are
recorded, and calls fail, with threads.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar, TypeVarTuple
from unittest.mock import patch

import outcome
import trio

from stratumfs import descriptor
from stratumfs.devices import identity
from stratumfs.owner import asking
from stratumfs.repair import quarantine

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


_decode = lru_cache(4096)(identity._decode)
"""The files of ten places, each of which is read ten times, say nearly the same."""


class _Thread(threading.Thread):
    """Runs where it is started."""

    def start(self) -> None:
        self.run()

    def join(self, timeout: float | None = None) -> None:
        """It has ended."""


async def _run(fn: Callable[[*Ts], T], *args: *Ts, **options: object) -> T:
    await trio.lowlevel.checkpoint()
    return fn(*args)


def _start(call: Callable[[], T], deliver: Callable[[outcome.Outcome[T]], object], name: str | None = None) -> None:
    deliver(outcome.capture(call))


@contextmanager
def on_the_loop(root: Path) -> Iterator[None]:
    """While the block runs, in which the store below *root* is opened."""
    with ExitStack() as stack:
        there = tuple(sorted({path.name for path in root.glob("*/volumes/*")}))
        stack.enter_context(patch.object(quarantine, "FOLDERS", there))
        stack.enter_context(patch.object(identity, "_decode", _decode))
        stack.enter_context(patch.object(trio.to_thread, "run_sync", _run))
        stack.enter_context(patch.object(trio.lowlevel, "start_thread_soon", _start))
        for module in (descriptor, asking):
            stack.enter_context(patch.object(module, "threading", SimpleNamespace(Thread=_Thread)))
        yield
