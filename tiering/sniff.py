"""What an object is by its first bytes: asked of magika's model, where that is installed (the extra ``mime``).

Once for each new object, in a thread, one after the other, and at rest for as long as it worked: what comes faster is
known by its type or its name alone.
"""

from collections import deque
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import structlog
import trio

from stratumfs.errors import StratumError
from stratumfs.ids import InodeNo
from stratumfs.limits import SNIFF_BYTES, SNIFFS_WAITING_MAX
from stratumfs.store.pace import Pace
from stratumfs.store.store import Store
from stratumfs.threads import in_thread
from tiering.kinds import KINDS, of_mime

_log = structlog.get_logger(__name__)

_GROUPS = {"code": "code", "executable": "program", "archive": "archive", "document": "document", "font": "font",
           "image": "image", "audio": "audio", "video": "video", "text": "text", "unknown": "unknown"}  # fmt: skip


class Sniffer:
    """One a store, on its loop. *told* what was found of each: an index into `KINDS`."""

    def __init__(self, store: Store, told: Callable[[InodeNo, int], None]) -> None:
        self.available = find_spec("magika") is not None
        self._store, self._told = store, told
        self._queue: deque[InodeNo] = deque()
        self._asked = trio.Event()
        self._limiter = trio.CapacityLimiter(1)

    def ask(self, ino: InodeNo) -> None:
        """Of a new object. Never waits."""
        if self.available and len(self._queue) < SNIFFS_WAITING_MAX:
            self._queue.append(ino)
            self._asked.set()

    async def serve(self) -> None:
        """Until cancelled; at once where the model is not there."""
        if not self.available:
            return
        try:
            identify = await in_thread(_model, limiter=self._limiter)
        except Exception as error:  # somebody else's library: what it met is said, and names do
            _log.warning("no_mime_model", error=str(error))
            self.available = False
            return
        pace = Pace(self._store.observer, lambda _: None)
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            while self._queue:
                began = trio.current_time()
                try:
                    await self._sniff(self._queue.popleft(), identify)
                except Exception as error:  # as above
                    _log.warning("mime_model_failed", error=str(error))
                await pace(trio.current_time() - began, 0)

    async def _sniff(self, ino: InodeNo, identify: Callable[[bytes], int]) -> None:
        try:
            with self._store.holds.holding(ino):
                head = bytes(await self._store.reader.read(ino, 0, SNIFF_BYTES))
            kind = await in_thread(identify, head, limiter=self._limiter)
        except StratumError:
            return  # removed since, or damaged: whoever reads it meets that; or there is no thread for it
        self._told(ino, kind)


def _model() -> Callable[[bytes], int]:
    """Blocking: it takes half a second to load."""
    from magika import Magika

    model: Any = Magika()

    def identify(head: bytes) -> int:
        output = model.identify_bytes(head).output
        kind = _GROUPS.get(output.group)
        return KINDS.index(kind) if kind is not None else of_mime(output.mime_type)

    return identify
