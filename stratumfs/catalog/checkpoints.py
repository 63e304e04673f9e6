"""When and in which steps the WAL is folded into the database.

The bulk runs beside writers and rounds. The end phase holds the rounds' turn and closes the gate: nobody writes until
the rest is folded and the WAL was started over. A hundred megabytes stop the writers for some milliseconds. A copy that
is being seeded needs the WAL as it is: a checkpoint waits for it, until the WAL is too long.

A step that takes long is waited for, but the members are asked meanwhile to hold what they hold: where that finds the
primary lost, the step is left to itself.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import apsw
import structlog
import trio

from stratumfs.catalog.connection import is_fatal, translate
from stratumfs.catalog.deadlines import patiently
from stratumfs.catalog.durability import Checkpointer, Mark, PrimaryLost
from stratumfs.catalog.members import Members
from stratumfs.catalog.opening import Database
from stratumfs.catalog.rounds import Rounds
from stratumfs.catalog.spool import Spool
from stratumfs.errors import StoreReadOnly, StratumError, is_starved
from stratumfs.limits import CHECKPOINT_BYTES, CHECKPOINT_LATE_BYTES, CHECKPOINT_LOOKS_S, SPOOL_S, STRIKE_S
from stratumfs.threads import in_thread

T = TypeVar("T")

_log = structlog.get_logger(__name__)


class Checkpoints:
    """Used on the loop. `_running` is held by one checkpoint from begin to end, and taken before the rounds' turn."""

    def __init__(self, rounds: Rounds, database: Database, members: Members) -> None:
        self._rounds = rounds
        self._database = database
        self._members = members
        self._running = trio.Lock()
        self._due = trio.Event()
        self._due_at = self._usual_bytes
        self._closed = False
        self.gate: trio.Event | None = None
        """Whoever writes waits for this first, if it is there."""
        self.waiting: str | None = None
        """Why those wait for longer than they should; None if they do not."""
        self.spool: Spool | None = None
        """Gets what a generation has before it is over."""
        self.unkept = 0
        """How many have begun or ended without the lock of the log; odd while one runs."""
        self.done = 0
        self.put_off = 0

    @property
    def _usual_bytes(self) -> int:
        return min(CHECKPOINT_BYTES, self._members.log_bytes)

    def heed(self) -> None:
        """Something was committed: is the WAL long enough for a checkpoint?"""
        if self._database.primary.wal_bytes() >= self._due_at:
            self._due.set()

    async def serve(self) -> None:
        """Checkpoints by size, until cancelled."""
        while True:
            await self._due.wait()
            await self.run()
            self._due = trio.Event()

    async def run(self) -> bool:
        """One checkpoint. Returns whether the WAL was started over; if it wasn't, all is in the WAL, which stays.

        What breaks the catalog on the way is told to the rounds, not raised.
        """
        restarted = False
        async with self._running:
            if not self._closed:
                with trio.CancelScope(shield=True):
                    restarted = await self._try()
        return restarted

    async def close(self) -> None:
        """A last one; none runs afterwards."""
        if self._rounds.failure is None and not await self.run():
            _log.warning("the catalog is closed without a checkpoint")
        async with self._running:
            self._closed = True

    async def _try(self) -> bool:
        restarted = False
        if self._rounds.failure is None:
            async with self._log():
                restarted = await self._try_now()
        self.done += restarted
        self.put_off += not restarted
        if restarted:
            await self._members.generation_closed()
        # Without a restart the next try comes when there is as much more to do, not at each commit.
        self._due_at = self._usual_bytes + (0 if restarted else self._database.primary.wal_bytes())
        return restarted

    async def _try_now(self) -> bool:
        checkpointer = self._database.checkpointer
        assert checkpointer is not None
        try:
            return await self._fold(checkpointer)
        except (apsw.Error, OSError, PrimaryLost) as error:
            # Of a database that a copy has taken the place of since then it says nothing new.
            if self._database.checkpointer is checkpointer and (lost := _loss(error)) is not None:
                self._rounds.lost(lost)
            _log.warning("a checkpoint is put off", reason=str(error))
        except StratumError:  # broken meanwhile; the rounds know
            pass
        return False

    @asynccontextmanager
    async def _log(self) -> AsyncIterator[None]:
        """Nobody needs the log as it is; or it has become so long that whoever does must begin again."""
        lock = self._members.log_kept
        held = False
        late = self._members.log_bytes * CHECKPOINT_LATE_BYTES // CHECKPOINT_BYTES
        while not held and self._database.primary.wal_bytes() < late:
            with trio.move_on_after(CHECKPOINT_LOOKS_S):
                await lock.acquire()
                held = True
        self.unkept += not held
        try:
            yield
        finally:
            if held:
                lock.release()
            self.unkept += not held

    async def _fold(self, checkpointer: Checkpointer) -> bool:
        thread = trio.CapacityLimiter(1)
        step = partial(self._blocking, thread, partial(self._ask_beside, checkpointer))
        try:
            # The pin keeps the loop's own commits from starting the WAL over (an fsync on the loop) before our turn,
            # and the bulk from folding what came after it: a copy that a round seeds beside it would be torn by that.
            await step(checkpointer.pin)
            async with self._rounds.turn:
                await self._rounds.hold()  # what is folded must be held before
                early = self._rounds.mark()
                if self.spool is not None:
                    await self._members.hold(early)
            self._rounds.check()
            await self._spool(early)  # so that little is left for the end phase
            await step(checkpointer.bulk)
            async with self._rounds.turn:
                closed = await self._fold_rest(checkpointer, thread)
            if closed is not None and self.spool is not None:
                await self._let_spool(partial(self.spool.close, closed))
            return closed is not None
        finally:
            if not thread.borrowed_tokens:  # else it hangs, and the database is lost
                await step(checkpointer.unpin)

    async def _fold_rest(self, checkpointer: Checkpointer, thread: trio.CapacityLimiter) -> Mark | None:
        """The end phase. Returns where the generation ended if the WAL was started over."""
        gate = self.gate = trio.Event()
        try:
            await self._rounds.hold()
            self._rounds.check()
            if self._database.checkpointer is not checkpointer:
                return None  # a fail-over has put another database in the place of what was to be folded
            mark = self._rounds.mark()
            await self._spool(mark)
            step = partial(self._blocking, thread, partial(self._ask_held, mark))
            await step(checkpointer.unpin)
            restarted = await step(checkpointer.finish)
        finally:
            self.gate = self.waiting = None
            gate.set()
        await self._rounds.hold_again()  # members learn that a generation was closed
        return mark if restarted else None

    async def _spool(self, mark: Mark) -> None:
        if self.spool is not None:
            await self._let_spool(partial(self.spool.take, self._database.primary, mark))

    async def _let_spool(self, step: Callable[[], None]) -> None:
        """Nobody waits for a backup beyond a deadline: it begins anew, then."""
        spool = self.spool
        if spool is None or spool.position is None:
            return
        with trio.move_on_after(SPOOL_S) as scope:
            scope.shield = True
            await in_thread(step, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))
        if scope.cancelled_caught:
            spool.give_up()
        if spool.position is None:
            _log.warning("the backup of the catalog has lost the log, and begins anew")

    async def _blocking(
        self, thread: trio.CapacityLimiter, late: Callable[[], Awaitable[None]], step: Callable[[], T]
    ) -> T:
        """*step* in a thread, which is left to itself where *late* finds that the primary does not answer.

        How long a step takes depends on the disk and on how much is to be folded, so that it takes long says nothing.
        """
        return await patiently(STRIKE_S, partial(in_thread, step, limiter=thread, abandon_on_cancel=True), late)

    async def _ask_beside(self, checkpointer: Checkpointer) -> None:
        """Rounds run beside: is there one that the primary holds? Raises: PrimaryLost, StoreReadOnly."""
        async with self._rounds.turn:
            await self._rounds.hold_again()
        self._rounds.check()
        if self._database.checkpointer is not checkpointer:
            raise PrimaryLost("a copy has taken the place of what was to be folded")

    async def _ask_held(self, mark: Mark) -> None:
        """No round may run, for the log is started over: does the primary hold what it holds? Raises: PrimaryLost."""
        await self._members.demand_primary(mark)
        self.waiting = "a checkpoint of the catalog takes long"
        _log.warning("writes wait for a checkpoint")


def _loss(error: apsw.Error | OSError | PrimaryLost) -> StratumError | None:
    """What *error* means for the database that was to be folded; None if a later try may go well."""
    if is_starved(error):
        return None
    if isinstance(error, OSError):
        return StoreReadOnly(f"the catalog cannot reach stable storage: {error}")
    if isinstance(error, PrimaryLost):
        return error
    return translate(error) if is_fatal(error) else None
