"""What runs beside the requests of a mount."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog
import trio

_log = structlog.get_logger(__name__)
_AGAIN_S = 1.0

Work = Callable[..., Awaitable[object]]


class Starter(Protocol):
    """Starts a task beside: a nursery, or what guards one."""

    def start_soon(self, work: Work, *args: object) -> None: ...


class Background:
    """Tasks whose faults end nothing else: each is logged and counted under ``background_errors``.

    Whoever starts work that somebody waits for hands its outcome over himself.
    """

    def __init__(self, nursery: trio.Nursery, counters: Counter[str]) -> None:
        self._nursery, self._counters = nursery, counters

    def start_soon(self, work: Work, *args: object) -> None:
        self._nursery.start_soon(self._once, work, *args)

    def start_for_good(self, work: Work) -> None:
        """*work* never ends by itself; after a fault it begins anew."""
        self._nursery.start_soon(self._for_good, work)

    async def _once(self, work: Work, *args: object) -> None:
        try:
            await work(*args)
        except Exception:
            self._counters["background_errors"] += 1
            _log.exception("work beside the requests failed")

    async def _for_good(self, work: Work) -> None:
        while True:
            await self._once(work)
            await trio.sleep(_AGAIN_S)
