"""The full stripes of one file on their way into volumes, in the background and in order."""

from collections import deque
from collections.abc import Awaitable, Callable, Iterable

import trio

from stratumfs.fuse.background import Starter
from stratumfs.fuse.memory import Memory
from stratumfs.fuse.pieces import Stripe
from stratumfs.limits import STRIPES_IN_FLIGHT, SYNC_AHEAD_BYTES, UNSYNCED_BYTES_MAX
from stratumfs.store.landing import FileWriter
from stratumfs.store.writer import PendingStripe


class StripeSender:
    """Appends what it is given one after the other, so that stripes of one file lie behind one another.

    A payload stays in memory until it is on stable storage. Bounds: ``STRIPES_IN_FLIGHT`` stripes that wait, and
    ``UNSYNCED_BYTES_MAX`` of payload; ``wait_room`` waits for them. Owned by one buffer, used on the loop. A stripe
    that could not be written is written by the next sync, or that raises why not.
    """

    def __init__(self, writer: FileWriter, background: Starter, memory: Memory) -> None:
        self._writer, self._background, self._memory = writer, background, memory
        self._queue: deque[Stripe] = deque()
        self._unsynced: list[Stripe] = []  # appended, or failed to be
        self.held_bytes = 0
        self._running = 0
        self._syncing = False
        self._after: PendingStripe | None = None
        self._error: Exception | None = None
        self._moved = trio.Event()

    def send(self, stripe: Stripe) -> None:
        """Take a new stripe; its payload counts as memory from now on."""
        self.held_bytes += stripe.length
        self._queue.append(stripe)
        if len(self._queue) == 1:
            self._start(self._append_all)

    async def flush(self) -> None:
        """All that was sent is on stable storage. Raises: what kept it from that."""
        await self.idle()
        if self._unsynced:
            self._start(self._sync)
            await self.idle()
        if self._error is not None:
            raise self._error

    async def wait_room(self) -> None:
        """Slow the writer down to what the devices take. Raises: what keeps them from taking any more."""
        while len(self._queue) >= STRIPES_IN_FLIGHT or self._unsynced_bytes >= UNSYNCED_BYTES_MAX:
            if self._running:
                await self._moved.wait()
            else:
                await self.flush()

    async def idle(self) -> None:
        """Return when nothing is under way."""
        while self._running:
            await self._moved.wait()

    def synced(self, stripes: Iterable[Stripe]) -> None:
        """Those of *stripes* that are on stable storage need not stay in memory."""
        for stripe in stripes:
            if stripe.synced:
                self.forget(stripe)
        self._unsynced = [stripe for stripe in self._unsynced if stripe.payload is not None]

    def forget(self, stripe: Stripe) -> None:
        if stripe.payload is not None:
            self._memory.give_back(stripe.length)
            self.held_bytes -= stripe.length
            stripe.payload = None

    @property
    def _unsynced_bytes(self) -> int:
        return len(self._unsynced) * self._writer.stripe_payload

    def _start(self, task: Callable[[], Awaitable[None]]) -> None:
        self._running += 1
        self._background.start_soon(task)

    def _step(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    async def _append_all(self) -> None:
        try:
            while self._queue:
                await self._append(self._queue[0])
                self._queue.popleft()
                if self._unsynced_bytes >= SYNC_AHEAD_BYTES and not self._syncing:
                    self._start(self._sync)
                self._step()
        finally:
            self._running -= 1
            self._step()

    async def _append(self, stripe: Stripe) -> None:
        if not stripe.wanted or stripe.payload is None:
            self.forget(stripe)
            return
        try:
            await self._writer.append(stripe.pending, self._after)
        except Exception as error:  # whoever finishes the file raises it
            self._error, self._after = error, None
            return
        finally:
            self._unsynced.append(stripe)  # not before: a sync beside this would append it once more
        self._after = stripe.pending
        if stripe.hashed is not None:
            await stripe.hashed.wait()  # so that hashing, too, slows the writer down

    async def _sync(self) -> None:
        self._syncing = True
        batch = [stripe for stripe in self._unsynced if stripe.wanted]
        try:
            await self._writer.sync([stripe.pending for stripe in batch])
        except Exception as error:  # as above
            self._error = error
        else:
            self._error = None
            self.synced(batch)
        finally:
            self._syncing = False
            self._running -= 1
            self._step()
