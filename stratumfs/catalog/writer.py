"""Runs functions in transactions on the loop's connection; nothing here awaits, so nothing interleaves.

A round's functions run in *one* transaction, each in a savepoint. A function that raises is rolled back to its
savepoint and the others stand; one that is alone has its savepoint for a transaction. If SQLite itself failed, the
transaction may be gone, and a RELEASE would then commit by itself: so after each function it is checked that the
transaction is still the one that was begun. Inside a transaction that was left open a RELEASE would commit nothing: so
none is begun there, and after its end it is checked that none is open.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import apsw
import trio

from stratumfs.catalog.connection import is_fatal, rollback, translate
from stratumfs.catalog.state import SET_STATE
from stratumfs.catalog.transaction import Seen, Touched, Transaction
from stratumfs.catalog.unsynced import Call, Unsynced
from stratumfs.errors import CatalogCorrupt
from stratumfs.limits import ROUND_BYTES_MAX

T = TypeVar("T")
Committed = Callable[[Touched], None]
Listener = Callable[[Touched | None], None]
"""Told what a transaction touched; None: the database is another one. Must not raise."""


@dataclass(slots=True, eq=False, kw_only=True)
class Waiter:
    """Somebody who waits for a round. Made by the waiter, finished by the round, once."""

    sequence: int = 0
    """Waits for this transaction; of a `Slot`, known once it ran."""
    done: trio.Event = field(default_factory=trio.Event)
    synced: bool = False
    error: BaseException | None = None


@dataclass(slots=True, eq=False, kw_only=True)
class Slot(Waiter):
    """A function that waits for its round."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    committed: Committed | None = None
    seen: list[Seen] | None = None
    result: Any = None
    touched: Touched = field(default_factory=Touched)


class Connected(Protocol):
    """Where the connection of the loop is found; a fail-over puts another one there."""

    @property
    def connection(self) -> apsw.Connection: ...


class Writer:
    """Uses the connection of the loop, and has the sequence number of the last committed transaction.

    listeners  told of each commit in the same step, and before a replay, which may show what none of them has seen
    """

    def __init__(self, database: Connected, unsynced: Unsynced, sequence: int) -> None:
        self._database = database
        self._unsynced = unsynced
        self.sequence = sequence
        self.listeners: list[Listener] = []

    @property
    def _db(self) -> apsw.Connection:
        return self._database.connection

    def read(self, fn: Callable[..., T], args: tuple[Any, ...], seen: list[Seen] | None = None) -> T:
        """Run *fn* on one stable view; what it relied upon goes to *seen*, also if it raises.

        Raises: what *fn* raises; StoreBusy, CatalogCorrupt.
        """
        try:
            try:
                self._begin("begin")
                tx = Transaction(self._db, writable=False)
                try:
                    return fn(tx, *args)
                finally:
                    tx.end()
                    if seen is not None:
                        seen.append(tx.seen())
            finally:
                rollback(self._db)  # whatever it should have changed, too
        except apsw.Error as error:
            raise translate(error) from error

    def write(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Slot:
        """Run *fn* in a transaction of its own and commit it.

        The slot's error is what *fn* raised, or StoreFull or StoreBusy; then nothing was changed.
        Raises: CatalogCorrupt if the database is in doubt.
        """
        slot = Slot(fn=fn, args=args)
        self._alone(slot)
        return slot

    def batch(self, queue: deque[Slot], taken: list[Slot]) -> None:
        """Move slots from *queue* to *taken* and run them, in this order, up to ROUND_BYTES_MAX of dirty pages.

        Each taken slot has a result or an error afterwards; nobody may be answered before the sync.
        Raises: CatalogCorrupt if the database is in doubt: then none of *taken* may be answered as done.
        """
        if len(queue) == 1:
            taken.append(queue.popleft())
            self._alone(taken[0])
            return
        try:
            self._together(queue, taken)
        except apsw.Error as error:
            self._undo(error)
            # No room, no memory, interrupted: one of them did that to all. Each gets a transaction of its own.
            if not taken:
                taken.append(queue.popleft())
            for slot in taken:
                self._alone(slot)

    def replay(self, kept: Sequence[tuple[int, tuple[Call, ...]]]) -> None:
        """After a fail-over: run again what the new database does not have, transaction by transaction.

        Raises: CatalogCorrupt if anything comes out otherwise than it was told; what SQLite could not do.
        """
        for listener in self.listeners:
            listener(None)
        for sequence, calls in kept:
            if sequence <= self.sequence:
                continue
            if sequence != self.sequence + 1:
                raise CatalogCorrupt(f"transactions {self.sequence + 1} to {sequence - 1} are lost")
            try:
                self._run_again(calls)
            except apsw.Error as error:
                self._undo(error)
                raise translate(error) from error

    def _run_again(self, calls: tuple[Call, ...]) -> None:
        self._begin("begin immediate")
        try:
            for call in calls:
                self._attempt_again(call)
        except BaseException:
            rollback(self._db)
            raise
        self._end(self.sequence + 1, "commit")

    def _attempt_again(self, call: Call) -> None:
        slot = Slot(fn=call.fn, args=call.args)
        self._attempt(slot)
        if slot.error is not None or slot.result != call.result:
            raise CatalogCorrupt(f"{call.fn.__name__} came out otherwise than before: {slot.error!r}")

    def _together(self, queue: deque[Slot], taken: list[Slot]) -> None:
        self._begin("begin immediate")
        weight = 0
        while queue and weight < ROUND_BYTES_MAX:
            taken.append(queue.popleft())
            weight += self._attempt_beside(taken[-1])
        self._commit([slot for slot in taken if slot.error is None], "commit")

    def _alone(self, slot: Slot) -> None:
        """In a transaction of its own, begun and ended by its savepoint; what SQLite could not do becomes its error."""
        slot.result, slot.error = None, None
        try:
            self._begin("savepoint slot")
            self._attempt(slot)
            self._commit([slot] if slot.error is None else [], "release slot")
        except apsw.SQLError as error:
            raise _meddled(slot) from error
        except apsw.Error as error:
            self._undo(error)
            slot.result, slot.error = None, translate(error)
            slot.error.__cause__ = error

    def _attempt_beside(self, slot: Slot) -> int:
        """As `_attempt`; what a function did that raised is undone, and what others did stands."""
        self._db.execute("savepoint slot")
        weight_bytes = self._attempt(slot)
        if slot.error is not None:
            self._db.execute("rollback to slot")
        try:
            self._db.execute("release slot")
        except apsw.SQLError as error:
            raise _meddled(slot) from error
        return weight_bytes

    def _attempt(self, slot: Slot) -> int:
        """Run one function. Returns the estimate of the bytes it dirtied.

        Raises: apsw.Error if SQLite itself failed, CatalogCorrupt if the transaction ended under the function.
        """
        try:
            tx = Transaction(self._db, writable=True)
            try:
                slot.result = slot.fn(tx, *slot.args)
                slot.touched = tx.touched()
            except Exception as error:
                slot.error = error
            finally:
                tx.end()
                if slot.seen is not None:
                    slot.seen.append(tx.seen())
        except BaseException:
            rollback(self._db)
            raise
        if tx.failure is not None:
            raise tx.failure
        if not self._db.in_transaction:
            raise _meddled(slot)
        return tx.weight_bytes

    def _commit(self, done: list[Slot], statement: str) -> None:
        """By *statement*; with nothing done it is undone."""
        if not done:
            self._db.execute("rollback")
            return
        sequence = self.sequence + 1
        self._end(sequence, statement)
        for slot in done:
            slot.sequence = sequence
            for listener in self.listeners:
                listener(slot.touched)
        self._unsynced.add(sequence, tuple(Call(slot.fn, slot.args, slot.result, slot.touched) for slot in done))

    def _begin(self, statement: str) -> None:
        """Raises: CatalogCorrupt if a transaction was left open. It is undone: nothing of it was answered."""
        self._check_closed()
        self._db.execute(statement)

    def _end(self, sequence: int, statement: str) -> None:
        self._db.execute(SET_STATE, (sequence, "sequence"))
        self._db.execute(statement)
        self._check_closed()
        self.sequence = sequence

    def _check_closed(self) -> None:
        if self._db.in_transaction:
            rollback(self._db)
            raise CatalogCorrupt("a transaction was left open")

    def _undo(self, error: apsw.Error) -> None:
        """Raises: CatalogCorrupt if *error* leaves the database in doubt; reads go on, on what was committed."""
        try:
            rollback(self._db)
        except apsw.Error as again:
            raise CatalogCorrupt(f"a transaction can be neither committed nor undone: {again}") from again
        if is_fatal(error):
            raise translate(error) from error


def _meddled(slot: Slot) -> CatalogCorrupt:
    return CatalogCorrupt(f"{slot.fn!r} ended the transaction that it ran in")
