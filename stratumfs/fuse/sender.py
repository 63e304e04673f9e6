"""The full stripes of one file on their way into volumes, in the background and in order."""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import trio

from stratumfs.fuse.background import Starter
from stratumfs.fuse.memory import Memory
from stratumfs.fuse.pieces import Stripe
from stratumfs.limits import STRIPES_IN_FLIGHT, UNSYNCED_BYTES_MAX
from stratumfs.location import Location
from stratumfs.store.writer import Writer


class StripeSender:
    """Appends what it is given one after the other, so that stripes of one file lie behind one another.

    A payload stays in memory until it is on stable storage. Bounds: ``STRIPES_IN_FLIGHT`` stripes that wait, and
    ``UNSYNCED_BYTES_MAX`` of payload; ``wait_room`` waits for them. Owned by one buffer, used on the loop. A stripe
    that could not be written has no location: ``finish`` tries it once more before it raises.
    """

    def __init__(self, writer: Writer, background: Starter, memory: Memory) -> None:
        self._writer, self._background, self._memory = writer, background, memory
        self._queue: deque[Stripe] = deque()
        self._batch: list[Stripe] = []  # appended, to be synced together
        self._unsynced_bytes = 0
        self.held_bytes = 0
        self._running = 0
        self._after: Location | None = None
        self._error: Exception | None = None
        self._moved = trio.Event()

    def send(self, stripe: Stripe) -> None:
        """Take a new stripe; its payload counts as memory from now on."""
        self.held_bytes += stripe.length
        self._enqueue(stripe)

    async def flush(self) -> None:
        """All that was sent is on stable storage, or has failed. Raises: what it failed with."""
        await self._idle()
        if self._batch:
            self._start(self._sync)
            await self._idle()
        if self._error is not None:
            raise self._error

    async def wait_room(self) -> None:
        """Slow the writer down to what the devices take."""
        while len(self._queue) >= STRIPES_IN_FLIGHT or self._unsynced_bytes >= UNSYNCED_BYTES_MAX:
            await self._moved.wait()

    async def append_all(self, stripes: Sequence[Stripe]) -> list[Stripe]:
        """Return when all of *stripes* that are wanted are appended: those that no ``sync`` has covered yet.

        Raises: what kept one of them from being written, twice.
        """
        for last in (False, True):
            await self._idle()
            failed = [stripe for stripe in stripes if stripe.wanted and stripe.location is None]
            if not failed:
                break
            error, self._error = self._error, None
            if last:
                raise error or RuntimeError("a stripe was not appended, and nobody knows why")
            for stripe in failed:
                self._enqueue(stripe)
        return [stripe for stripe in stripes if stripe.wanted and not stripe.synced]

    def synced(self, stripes: Sequence[Stripe]) -> None:
        """Their payload is safe and need not stay in memory."""
        for stripe in stripes:
            if not stripe.synced:
                stripe.synced = True
                self._unsynced_bytes -= self._writer.stripe_payload
                self.forget(stripe)

    def lost(self, stripes: Sequence[Stripe]) -> None:
        """A sync failed: what it was to cover is written again, elsewhere."""
        for stripe in stripes:
            if not stripe.synced and stripe.location is not None:
                stripe.location = None
                self._unsynced_bytes -= self._writer.stripe_payload

    def forget(self, stripe: Stripe) -> None:
        if stripe.payload is not None:
            self._memory.give_back(stripe.length)
            self.held_bytes -= stripe.length
            stripe.payload = None

    def _enqueue(self, stripe: Stripe) -> None:
        self._queue.append(stripe)
        if len(self._queue) == 1:
            self._start(self._append_all)

    def _start(self, task: Callable[[], Awaitable[None]]) -> None:
        self._running += 1
        self._background.start_soon(task)

    def _step(self) -> None:
        self._moved.set()
        self._moved = trio.Event()

    async def _idle(self) -> None:
        while self._running:
            await self._moved.wait()

    async def _append_all(self) -> None:
        try:
            while self._queue:
                await self._append(self._queue[0])
                self._queue.popleft()
                if len(self._batch) * self._writer.stripe_payload >= UNSYNCED_BYTES_MAX // 2:
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
            stripe.location = self._after = await self._writer.stripe(stripe.payload, self._after)
        except Exception as error:  # whoever finishes the file raises it
            self._error, self._after = error, None
            return
        self._unsynced_bytes += self._writer.stripe_payload
        self._batch.append(stripe)
        if stripe.hashed is not None:
            await stripe.hashed.wait()  # so that hashing, too, slows the writer down

    async def _sync(self) -> None:
        batch, self._batch = [stripe for stripe in self._batch if stripe.location and not stripe.synced], []
        try:
            await self._writer.sync(stripe.location for stripe in batch if stripe.location is not None)
        except Exception as error:  # as above
            self._error = error
            self.lost(batch)
        else:
            self.synced(batch)
        finally:
            self._running -= 1
            self._step()
