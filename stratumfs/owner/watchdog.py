"""Says so when the loop stands still: a hang of the disk that holds the catalog stops it until the kernel makes it an
error, and an administrator should read that in the log rather than guess it.
"""

import threading
import time
from collections.abc import Callable

import structlog
import trio

STALL_S = 5.0
_BEAT_S = 1.0

_log = structlog.get_logger(__name__)


async def watch_loop() -> None:
    """Beat once a second, and have a thread listen to the beat, until cancelled."""
    watch = _Watch(time.monotonic)
    thread = threading.Thread(target=watch.run, name="watchdog", daemon=True)
    thread.start()
    try:
        while True:
            watch.beat()
            await trio.sleep(_BEAT_S)
    finally:
        watch.stop()


class _Watch:
    """The thread's side. ``beat`` and ``stop`` are called on the loop; a float and an event are all that is shared."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = self._clock()
        self._stopped = threading.Event()

    def beat(self) -> None:
        self._last = self._clock()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        stalled_since: float | None = None
        while not self._stopped.wait(_BEAT_S):
            last = self._last
            silent = self._clock() - last
            if silent >= STALL_S and stalled_since is None:
                stalled_since = last
                _log.warning(
                    "loop_stalled", seconds=round(silent, 1), hint="a disk does not answer, or the machine is frozen"
                )
            elif silent < STALL_S and stalled_since is not None:
                _log.warning("loop_goes_on", stalled_seconds=round(last - stalled_since, 1))
                stalled_since = None
