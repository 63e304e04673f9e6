"""Rounds: what was queued runs in one transaction, the WAL goes to stable storage, then all are answered.

Everything here belongs to the loop. The queue is appended to by whoever commits; `run` empties it, under the turn. A
waiter returns only when *its own* slot is marked synced; a cancelled one leaves its function in the queue (the outcome
is unknown, as with a lost connection). Waiters join the round that will sync what they wait for and never ask again:
those that re-checked after each round starved the checkpoint.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
import trio

from stratumfs.catalog.durability import Mark, Member, Primary
from stratumfs.catalog.unsynced import Unsynced
from stratumfs.catalog.writer import Slot, Waiter, Writer
from stratumfs.errors import CatalogCorrupt, StoreReadOnly, StratumError

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class RoundStatistics:
    rounds: int = 0
    """That reached stable storage."""
    commits: int = 0
    batch_max: int = 0
    batches: dict[int, int] = field(default_factory=dict)
    """Rounds by the number of functions in them, rounded down to a power of two; 0: a round without."""
    hold_s: float = 0.0
    """Sum of the times that members took."""


class Rounds:
    def __init__(self, writer: Writer, unsynced: Unsynced, primary: Primary, members: tuple[Member, ...]) -> None:
        self._writer = writer
        self._unsynced = unsynced
        self._primary = primary
        self._members = members
        self._limiter = trio.CapacityLimiter(max(1, len(members)))
        self._waiters: list[Waiter] = []
        self._taken: list[Slot] = []
        self._holding = 0
        self.turn = trio.Lock()
        """Held by a round, and by whoever must have none beside it."""
        self.queue: deque[Slot] = deque()
        self.wake = trio.Event()
        self.synced = writer.sequence
        """The last transaction that every member holds."""
        self.failure: StratumError | None = None
        self.statistics = RoundStatistics()

    @property
    def waiting(self) -> int:
        return len(self.queue) + len(self._waiters)

    @property
    def pending(self) -> bool:
        """Is there anything for a round to do?"""
        return bool(self.queue or self._waiters) or self.synced < self._writer.sequence

    def enqueue(self, slot: Slot) -> None:
        self.queue.append(slot)
        self.wake.set()

    async def wait_synced(self, sequence: int) -> None:
        """Return when transaction *sequence*, which is committed, is held by every member.

        Raises: what broke the catalog, if that came first.
        """
        if sequence <= self.synced:
            return
        self.check()
        waiter = Waiter(sequence=sequence)
        self._waiters.append(waiter)
        if sequence > self._holding:
            self.wake.set()
        try:
            await waiter.done.wait()
        finally:
            if not waiter.done.is_set():
                self._waiters.remove(waiter)
        finish(waiter)

    def check(self) -> None:
        """Raises: StoreReadOnly if the catalog is broken."""
        if self.failure is not None:
            raise StoreReadOnly(f"the store is read-only: {self.failure}") from self.failure

    async def run(self) -> None:
        """One round. What breaks the catalog is raised by the waiters, not here."""
        async with self.turn:
            with trio.CancelScope(shield=True):
                await self._run()

    async def finish(self) -> None:
        """Rounds until nobody waits and all that is committed is durable, or `failure` says why not."""
        async with self.turn:
            with trio.CancelScope(shield=True):
                while self.pending and self.failure is None:
                    await self._run()

    async def hold(self) -> None:
        """Bring all that is committed to every member and answer whoever waits for it; under the turn, shielded."""
        if self._writer.sequence > self.synced:
            await self.hold_again()
        elif self.failure is None:
            self._answer()

    async def hold_again(self) -> None:
        """As `hold`, also if no transaction is new: the checkpoint's tick is none."""
        if self.failure is None:
            mark = self._mark()
            if mark is not None:
                await self._hold(mark)
        if self.failure is None:
            self._answer()

    def fail(self, error: StratumError) -> None:
        """The catalog is broken: everyone who waits hears of it, nothing is written any more, and never again."""
        if self.failure is None:
            self.failure = type(error)(f"the catalog in {self._primary.folder} failed: {error}")
            self.failure.__cause__ = error
            _log.error("the catalog is read-only from now on", reason=str(error))
        for waiter in (*self._taken, *self.queue, *self._waiters):
            waiter.error = type(self.failure)(*self.failure.args)
            waiter.error.__cause__ = error
            waiter.done.set()
        self._taken.clear()
        self.queue.clear()
        self._waiters.clear()

    async def _run(self) -> None:
        if self.failure is None and self.queue:
            self._run_queue()
        if self.queue:
            self.wake.set()  # more than one round takes
        await self.hold()

    def _mark(self) -> Mark | None:
        """None: the WAL is not what it was, and the catalog broken."""
        try:
            return self._primary.mark(self._writer.sequence)
        except OSError as error:
            self.fail(_unreachable(error))
        except CatalogCorrupt as error:
            self.fail(error)
        return None

    def _run_queue(self) -> None:
        try:
            self._writer.batch(self.queue, self._taken)
        except StratumError as error:
            self.fail(error)
            return
        self.statistics.commits += len(self._taken)
        self.statistics.batch_max = max(self.statistics.batch_max, len(self._taken))
        for slot in self._taken:
            if slot.error is None and slot.committed is not None:
                _call(slot, slot.committed)

    async def _hold(self, mark: Mark) -> None:
        self._holding = mark.sequence
        began = trio.current_time()
        try:
            if len(self._members) == 1:
                await self._hold_one(self._members[0], mark)
            else:
                async with trio.open_nursery() as nursery:
                    for member in self._members:
                        nursery.start_soon(self._hold_one, member, mark)
        finally:
            self._holding = 0
        if self.failure is None:
            self.synced = mark.sequence
            self._unsynced.synced(mark.sequence)
            self.statistics.rounds += 1
            self.statistics.hold_s += trio.current_time() - began
            size = 1 << (len(self._taken).bit_length() - 1) if self._taken else 0
            self.statistics.batches[size] = self.statistics.batches.get(size, 0) + 1

    async def _hold_one(self, member: Member, mark: Mark) -> None:
        try:
            await trio.to_thread.run_sync(member.hold, mark, limiter=self._limiter)
        except OSError as error:
            self.fail(_unreachable(error))
        except CatalogCorrupt as error:
            self.fail(error)

    def _answer(self) -> None:
        taken, self._taken = self._taken, []
        for slot in taken:
            slot.synced = True
            slot.done.set()
        later = []
        for waiter in self._waiters:
            if waiter.sequence <= self.synced:
                waiter.synced = True
                waiter.done.set()
            else:
                later.append(waiter)
        self._waiters = later


def finish(waiter: Waiter) -> None:
    """Raises: the waiter's error. Returns only if its slot was synced."""
    if waiter.error is not None:
        raise waiter.error
    assert waiter.synced, "a waiter was woken and neither answered nor refused"


def _unreachable(error: OSError) -> StoreReadOnly:
    broken = StoreReadOnly(f"the catalog cannot reach stable storage: {error}")
    broken.__cause__ = error
    return broken


def _call(slot: Slot, committed: Callable[..., None]) -> None:
    """The row stands whatever this does; its caller learns of the failure when the round is synced."""
    try:
        committed(slot.touched)
    except Exception as error:
        slot.error = error
