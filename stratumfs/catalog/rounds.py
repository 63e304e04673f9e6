"""Rounds: what was queued runs in one transaction, the WAL goes to stable storage, then all are answered.

Everything here belongs to the loop. The queue is appended to by whoever commits; `run` empties it, under the turn. A
waiter returns only when *its own* slot is marked synced; a cancelled one leaves its function in the queue (the outcome
is unknown, as with a lost connection). Waiters join the round that will sync what they wait for and never ask again:
those that re-checked after each round starved the checkpoint.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar, TypeVarTuple

import structlog
import trio

from stratumfs.catalog.connection import is_fatal
from stratumfs.catalog.durability import Mark, PrimaryLost
from stratumfs.catalog.members import Members, unreachable
from stratumfs.catalog.opening import Database
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.unsynced import Unsynced
from stratumfs.catalog.writer import Slot, Waiter, Writer
from stratumfs.errors import CatalogCorrupt, StoreClosing, StoreReadOnly, StratumError
from stratumfs.turn import Turn

T = TypeVar("T")
U = TypeVar("U")
Ts = TypeVarTuple("Ts")

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

    def held(self, commits: int, took_s: float) -> None:
        """A round has reached stable storage with so many functions in it."""
        self.rounds += 1
        self.hold_s += took_s
        size = 1 << (commits.bit_length() - 1) if commits else 0
        self.batches[size] = self.batches.get(size, 0) + 1


class Rounds:
    """``usable`` is set as long as the database can be read and written to, or never will be again."""

    def __init__(self, writer: Writer, unsynced: Unsynced, database: Database, members: Members) -> None:
        self._writer = writer
        self._unsynced = unsynced
        self._database = database
        self._members = members
        self._waiters: list[Waiter] = []
        self._taken: list[Slot] = []
        self._holding = 0
        self._lost: StratumError | None = None
        self.turn = Turn()
        """Held by a round, and by whoever must have none beside it."""
        self.queue: deque[Slot] = deque()
        self.wake = trio.Event()
        self.synced = writer.sequence
        """The last transaction that every member holds."""
        self.usable = trio.Event()
        self.usable.set()
        self.failure: StratumError | None = None
        self.behind = False
        """The database does not show all that was shown before: nobody may see it as it is."""
        self.diverged = trio.Event()
        """And never will: nobody may take what comes for the same."""
        self.closed = False
        """Under the turn: nothing is open any more that a step could change."""
        self.statistics = RoundStatistics()

    @property
    def waiting(self) -> int:
        return len(self.queue) + len(self._waiters)

    @property
    def pending(self) -> bool:
        """Is there anything for a round to do?"""
        waiting = bool(self.queue or self._waiters or self._lost)
        return waiting or self.synced < self._writer.sequence

    def enqueue(self, slot: Slot) -> None:
        self.queue.append(slot)
        self.wake.set()

    async def wait_synced(self, sequence: int, *, hurry: bool = True) -> None:
        """Return when transaction *sequence*, which is committed, is held by every member. *hurry*: a round begins for
        it; else it waits for one that begins for others, or with the second.

        Raises: what broke the catalog, if that came first.
        """
        if sequence <= self.synced:
            return
        self.check()
        waiter = Waiter(sequence=sequence)
        self._waiters.append(waiter)
        if hurry and sequence > self._holding:
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

    async def exclusive(self, step: Callable[[Mark], Awaitable[None]]) -> None:
        """Run *step* in a round of its own, behind all that is queued now. The mark that it is given is of this moment,
        and it is for the step to see that who is a member at its end holds it.

        Raises: what *step* raises; what broke the catalog, as does a step that is stopped between two epochs;
        StoreClosing.
        """
        async with self.turn:
            if self.closed:
                raise StoreClosing("the catalog is closed")
            with trio.CancelScope(shield=True):
                await self._run()
                mark = await self._mark_at_last()
                try:
                    await step(mark)
                except PrimaryLost as error:
                    self.lost(error)
                    raise
                except StoreReadOnly as error:
                    if not self._members.complete:
                        self.fail(error)
                    raise

    async def read_beside(
        self, ask: Callable[[], Awaitable[U]], fn: Callable[[Transaction, *Ts], T], *args: *Ts
    ) -> tuple[T, U]:
        """What *fn* sees, and what *ask* finds in copies, of one moment: no round comes to them until it returns, which
        it does in time, and where the catalog is broken or read-only none comes anyway.

        Raises: what they raise; CatalogCorrupt; StoreClosing.
        """
        async with self.turn:
            if self.closed:
                raise StoreClosing("the catalog is closed")
            with trio.CancelScope(shield=True):
                await self.hold()
                is_shown = False
                while not is_shown:
                    if self.behind:
                        self.check()
                    primary, sequence = self._database.primary, self._writer.sequence
                    found = self._writer.read(fn, args)
                    await self.hold()
                    is_shown = (self._database.primary, self.synced) == (primary, sequence) or self.failure is not None
                if self._writer.sequence > self.synced:
                    self.check()  # it is broken, and shows what no copy was told of
                told = await ask()
            return found, told

    async def hold(self) -> None:
        """Bring all that is committed to every member and answer whoever waits for it; under the turn, shielded."""
        if self._writer.sequence > self.synced or self._lost is not None:
            await self.hold_again()
        elif self.failure is None:
            self._answer()

    async def hold_again(self) -> None:
        """As `hold`, also if no transaction is new: the checkpoint's tick is none."""
        while self.failure is None:
            if self._lost is not None:
                await self._fail_over()
            elif (mark := self._mark()) is not None and await self._hold(mark):
                self._answer()
                return

    def lost(self, error: StratumError) -> None:
        """The primary's database cannot be used any more: the next round goes on with a copy, or the catalog fails."""
        if self.failure is not None or self._lost is not None:
            return
        if not self._members.can_fail_over:
            self.fail(error)
            return
        _log.error("the catalog's database is lost: going on with a copy", reason=str(error))
        self._lost = error
        self.usable = trio.Event()
        self.wake.set()

    def fail(self, error: StratumError) -> None:
        """The catalog is broken: everyone who waits hears of it, nothing is written any more, and never again."""
        if self.failure is None:
            self.failure = type(error)(f"the catalog in {self._database.primary.folder} failed: {error}")
            self.failure.__cause__ = error
            _log.error("the catalog is read-only from now on", reason=str(error))
        self._lost = None
        self.usable.set()
        if self.behind:
            self.diverged.set()
        for waiter in (*self._taken, *self.queue, *self._waiters):
            waiter.error = type(self.failure)(*self.failure.args)
            waiter.error.__cause__ = error
            waiter.done.set()
        self._taken.clear()
        self.queue.clear()
        self._waiters.clear()

    async def _run(self) -> None:
        if self._lost is not None:
            await self._fail_over()
        if self.failure is None and self.queue:
            self._run_queue()
        await self.hold()
        if self.queue:
            self.wake.set()  # more than one round takes

    def mark(self) -> Mark:
        """Of this moment. Raises: PrimaryLost."""
        return self._database.primary.mark(self._writer.sequence)

    def _mark(self) -> Mark | None:
        """None: the WAL is not what it was, and the database lost."""
        try:
            return self.mark()
        except PrimaryLost as error:
            self.lost(error)
        return None

    async def _mark_at_last(self) -> Mark:
        """Of the database that is there, or of a copy's. Raises: StoreReadOnly if the catalog is broken."""
        while True:
            self.check()
            if (mark := self._mark()) is not None:
                return mark
            await self.hold()

    def _run_queue(self) -> None:
        try:
            self._writer.batch(self.queue, self._taken)
        except StratumError as error:
            self._take_back()
            self.lost(error)
        self.statistics.commits += len(self._taken)
        self.statistics.batch_max = max(self.statistics.batch_max, len(self._taken))
        for slot in self._taken:
            if slot.error is None and slot.committed is not None:
                _call(slot, slot.committed)

    def _take_back(self) -> None:
        """What was not committed when the database failed runs again, before all that came later."""
        again = [slot for slot in self._taken if not slot.sequence]
        self._taken = [slot for slot in self._taken if slot.sequence]
        for slot in again:
            slot.result = slot.error = None
        self.queue.extendleft(reversed(again))

    async def _fail_over(self) -> None:
        assert self._lost is not None
        try:
            await self._take_over(self._lost)
        except StratumError as error:
            self.fail(error)
        else:
            self._lost = None
            self.usable.set()

    async def _take_over(self, reason: StratumError) -> None:
        """By the first copy whose own place lasts until it is done."""
        while True:
            try:
                await self._members.fail_over(reason, self._show_again)
            except PrimaryLost as error:
                if not self._members.can_fail_over:
                    raise
                reason = error
            else:
                return

    def _show_again(self) -> int:
        """What was shown, from the database that was just put in the place of the one that was lost.

        Raises: PrimaryLost if the database fails; CatalogCorrupt if it cannot be shown, or comes out otherwise.
        """
        self.behind = True
        if self._database.sequence < self.synced:
            raise CatalogCorrupt(f"no copy has transaction {self.synced}, which was answered")
        shown, self._writer.sequence = self._writer.sequence, self._database.sequence
        try:
            self._writer.replay(self._unsynced.kept())
        except StratumError as error:
            self._writer.sequence = shown  # whoever waits for all that was committed still means that
            if is_fatal(error.__cause__):
                raise PrimaryLost(str(error)) from error
            raise
        self.behind = False
        return self._writer.sequence

    async def _hold(self, mark: Mark) -> bool:
        """Whether all members hold it, those aside that were struck; if not, the primary is lost, or all has failed."""
        self._holding = mark.sequence
        began = trio.current_time()
        try:
            await self._members.hold(mark)
        except PrimaryLost as error:
            self.lost(unreachable(error.__cause__) if isinstance(error.__cause__, OSError) else error)
            return False
        except StratumError as error:
            self.fail(error)
            return False
        finally:
            self._holding = 0
        self.synced = mark.sequence
        self._unsynced.synced(mark.sequence)
        self.statistics.held(len(self._taken), trio.current_time() - began)
        return True

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


def _call(slot: Slot, committed: Callable[..., None]) -> None:
    """The row stands whatever this does; its caller learns of the failure when the round is synced."""
    try:
        committed(slot.touched)
    except Exception as error:
        slot.error = error
