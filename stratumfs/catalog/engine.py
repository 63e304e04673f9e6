"""The catalog's whole interface: read, write, commit, sync, settle. One owner process, one loop.

A function that is given to it is module level, takes plain arguments, is synchronous, may be run again (so it takes
time and random ids as arguments and depends on the database alone), and touches some 200 rows or 2 ms at most. It runs
inline on the loop: a point read costs microseconds, a commit some 30, and no transaction spans an await.

`write` is committed when it returns, `commit` is durable; what lies between is `Unsynced`. Shared state belongs to the
loop. The rounds' `turn` is held by a round or by a checkpoint's end phase, which also keeps writers out by a gate.
Threads: a round's fdatasync, a checkpoint; each has its own connection or descriptor and its own limiter.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, TypeVarTuple, cast

import structlog
import trio

from stratumfs.catalog.aside import Aside
from stratumfs.catalog.boot import Booted
from stratumfs.catalog.chains import ChainDamaged
from stratumfs.catalog.checkpoints import Checkpoints
from stratumfs.catalog.connection import is_fatal
from stratumfs.catalog.create import create_catalog
from stratumfs.catalog.durability import Mark, Member, PrimaryLost
from stratumfs.catalog.ids import IdBlocks, reserve_ids
from stratumfs.catalog.members import Alone, Members
from stratumfs.catalog.membership import Membership
from stratumfs.catalog.mender import RowMender
from stratumfs.catalog.migrations import Migration
from stratumfs.catalog.opening import Database, open_alone
from stratumfs.catalog.places import Place
from stratumfs.catalog.rounds import Rounds, finish
from stratumfs.catalog.snapshot import CopyAt
from stratumfs.catalog.statistics import CatalogStatistics
from stratumfs.catalog.transaction import Seen, Touched, Transaction
from stratumfs.catalog.unsynced import Unsynced
from stratumfs.catalog.writer import Committed, Listener, Slot, Writer
from stratumfs.errors import (
    CatalogCorrupt,
    DeviceFailed,
    ExtentCorrupt,
    StoreBusy,
    StoreClosing,
    StoreReadOnly,
    StratumError,
)
from stratumfs.ids import Disk, ExtentId, InodeNo, PlaceId
from stratumfs.limits import COMMITS_WAITING_MAX, ROUND_INTERVAL_S, UNSYNCED_TRANSACTIONS_MAX
from stratumfs.threads import in_thread

__all__ = ["Catalog", "CatalogStatistics", "Seen", "Touched", "Transaction"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_log = structlog.get_logger(__name__)


class Catalog:
    """Open with `open`, then run `serve` in a nursery; end with `close`, also after a failure."""

    def __init__(self, database: Database, ids: dict[str, int], members: Members) -> None:
        """*ids*: where the first block of each kind begins; none of a database that is opened read-only."""
        self._database = database
        self._members = members
        self._unsynced = Unsynced()
        self._writer = Writer(database, self._unsynced, database.sequence)
        self._rounds = Rounds(self._writer, self._unsynced, database, members)
        self._checkpoints = Checkpoints(self._rounds, database, members) if database.checkpointer else None
        self._why_not = ""
        self._close_turn = trio.Lock()
        self._closing = False
        self._closed = False
        self._stop = trio.Event()
        self._served: trio.Event | None = None
        self.ids = IdBlocks(ids, self._reserve)
        self.aside = Aside(self._rounds, database, members, self._checkpoints, self.sync)
        self.mender = RowMender(self)
        self._copies: tuple[CopyAt, ...] = ()

    @classmethod
    def create(cls, folder: Path, schema: Sequence[str], version: int, *, page_size: int) -> None:
        """Make an empty catalog in *folder*; see `create_catalog`. Blocking."""
        create_catalog(folder, schema, version, page_size=page_size)

    @classmethod
    async def open(
        cls,
        folder: Path,
        schema_version: int,
        migrations: Sequence[Migration] = (),
        *,
        read_only: bool = False,
        members: Sequence[Member] = (),
    ) -> "Catalog":
        """Open the catalog in *folder*. What it shows is on stable storage, and so is a fresh block of each id.

        *members* are further places that must hold what is answered. The caller holds the store's lock.
        Raises: ConfigError if there is none, or none that this program knows; CatalogCorrupt; StoreFull; OSError.
        """
        database, ids = await in_thread(
            open_alone, folder, schema_version, migrations, read_only, limiter=trio.CapacityLimiter(1)
        )
        return cls(database, ids, Alone(database, members))

    @classmethod
    def among(cls, booted: Booted) -> "Catalog":
        """The catalog over what `boot` has opened. The caller removes ``booted.scratch`` after `close`."""
        catalog = cls(booted.database, booted.ids, booted.members or Alone(booted.database))
        catalog._why_not, catalog._copies = booted.why_not, booted.copies
        return catalog

    async def strike(self, place: PlaceId, reason: str) -> None:
        """Return when an epoch without *place* is in force, if it was a member; it is not used again.

        Raises: StoreReadOnly if that cannot be.
        """
        members = self._members
        if not isinstance(members, Membership):
            return
        members.give_up(place, reason)
        await self._exclusive(partial(members.strike_places, {place: DeviceFailed(reason)}))

    async def change_places(self, listed: frozenset[PlaceId], new: Place | None) -> None:
        """Return when an epoch of these places is in force; *new* is one of them that comes, and can be reached.

        Raises: StoreReadOnly if that cannot be.
        """
        self._check_writable()
        if isinstance(self._members, Membership):
            await self._exclusive(partial(self._members.change_places, listed, new))

    @property
    def copies(self) -> Sequence[CopyAt]:
        """Chains at other places that have all that was synced."""
        if not isinstance(self._members, Membership):
            return self._copies
        return [CopyAt(each.place, str(each.folder), each.folder, each.salt) for each in self._members.copies]

    async def make_copy_anew(self, place: PlaceId, reason: str) -> None:
        """Return when the damaged copy at *place* is none any more; a new one is made. Raises: StoreReadOnly."""
        if isinstance(self._members, Membership):
            await self._exclusive(partial(self._members.strike_places, {place: ChainDamaged(reason)}))

    @property
    def disks(self) -> tuple[Disk, ...]:
        """Of those who hold it, one entry a place; empty if nothing is known of them."""
        return self._members.disks

    def standing(self, place: PlaceId) -> tuple[str | None, str | None]:
        """What *place* has of it (``primary``, ``copy``, or None), and why it was struck, if it was."""
        members = self._members
        if not isinstance(members, Membership):
            return None, None
        role = "primary" if place == members.primary else "copy" if place in members.members else None
        return role, members.struck.get(place)

    @property
    def folder(self) -> Path:
        """Where the database lies that is written to now."""
        return self._database.primary.folder

    @property
    def folders(self) -> Sequence[Path]:
        """The same, and where its copies lie."""
        return [self.folder, *(copy.folder for copy in self.copies)]

    @property
    def waiting(self) -> str | None:
        """Why what is written waits for longer than it should; None if it does not. Reads go on."""
        checkpoint = self._checkpoints.waiting if self._checkpoints is not None else None
        return self._members.waiting or checkpoint

    @property
    def diverged(self) -> bool:
        """What was shown could not be kept, and whoever saw it must not take what comes for the same."""
        return self._rounds.diverged.is_set()

    async def wait_diverged(self) -> str:
        """Return why, when `diverged` is true."""
        await self._rounds.diverged.wait()
        return str(self._rounds.failure)

    def listen(self, listener: Listener) -> None:
        """*listener* is told of each commit, in the same step, before anybody sees what it changed; once, however often
        it asks for it."""
        if listener not in self._writer.listeners:
            self._writer.listeners.append(listener)

    @property
    def steady(self) -> bool:
        """Whether reads show now what there is: not between two databases, nor after the end."""
        return not (self._rounds.behind or self._closed)

    @property
    def failure(self) -> str | None:
        """Why nothing is written any more; None while all is well."""
        return str(self._rounds.failure) if self._rounds.failure is not None else self._why_not or None

    @property
    def read_only(self) -> bool:
        return self._checkpoints is None or self._rounds.failure is not None

    async def read(self, fn: Callable[[Transaction, *Ts], T], *args: *Ts) -> T:
        """Run *fn* on one stable view, at once: no checkpoint of trio's. What it sees may not be durable yet.

        Raises: what *fn* raises; CatalogCorrupt, also where what was shown before is lost; StoreClosing.
        """
        while True:
            if self._rounds.behind:
                await self._wait_shown()
            try:
                return self._read(fn, args)
            except CatalogCorrupt as error:
                if not await self._gone_on(error):
                    raise

    async def read_settled(
        self,
        fn: Callable[[Transaction, *Ts], T],
        *args: *Ts,
        at_once: Callable[[T], None] | None = None,
        seen: list[Seen] | None = None,
    ) -> T:
        """As `read`, and what *fn* saw is durable on return: waits for the round of what it saw, of nothing else.

        *at_once* is given the result before anything is awaited. An error of *fn* (a 404, a 412) is an answer too, and
        waits alike. What *fn* saw is added to *seen*, also then. Raises: also StoreReadOnly, CatalogCorrupt if what it
        saw can't become durable.
        """
        while True:
            relied: list[Seen] = []
            if self._rounds.behind:
                await self._wait_shown()
            try:
                result = self._read(fn, args, relied)
            except CatalogCorrupt as error:
                relied.clear()
                if not await self._gone_on(error):
                    raise
            else:
                if at_once is not None:
                    at_once(result)
                return result
            finally:
                if seen is not None:
                    seen += relied
                for one in relied:
                    await self._rounds.wait_synced(self._unsynced.last_seen(one))

    async def write(self, fn: Callable[[Transaction, *Ts], T], *args: *Ts, committed: Committed | None = None) -> T:
        """Run *fn* in a transaction of its own. On return it is committed, not durable; the next round makes it so.

        Awaits nothing unless a checkpoint ends just now or too much is unsynced. *committed* is called on the loop
        right after the commit.
        Raises: what *fn* raises, then nothing was changed; StoreReadOnly, StoreFull, StoreBusy, StoreClosing.
        """
        while True:
            checkpoints = await self._wait_writable()
            try:
                slot = self._writer.write(fn, args)
            except CatalogCorrupt as error:
                self._rounds.lost(error)
                if self._rounds.failure is not None:
                    raise
            else:
                if not isinstance(slot.error, ExtentCorrupt) or not await self._mended(slot.error):
                    break
        if slot.error is not None:
            raise slot.error
        if committed is not None:
            committed(slot.touched)
        if len(self._unsynced) >= UNSYNCED_TRANSACTIONS_MAX // 2:
            self._rounds.wake.set()
        checkpoints.heed()
        return cast(T, slot.result)

    async def commit(
        self,
        fn: Callable[[Transaction, *Ts], T],
        *args: *Ts,
        committed: Committed | None = None,
        seen: list[Seen] | None = None,
    ) -> T:
        """Queue *fn* for the next round; on return it is on stable storage wherever it must be.

        *committed* is called on the loop right after the COMMIT and before the sync, if *fn* succeeded. What *fn* saw
        is added to *seen*, also if it raises. Cancelled,
        *fn* stays in the queue: the outcome is unknown, as with a lost connection.
        Raises: what *fn* raises, when the round that showed it the cause is synced; StoreReadOnly, CatalogCorrupt
        if the round failed (outcome unknown); StoreFull, StoreBusy, StoreClosing (nothing was changed).
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._check_writable()
        if len(self._rounds.queue) >= COMMITS_WAITING_MAX:
            raise StoreBusy(f"{COMMITS_WAITING_MAX} commits wait already")
        while True:
            slot = Slot(fn=fn, args=args, committed=committed, seen=seen)
            self._rounds.enqueue(slot)
            await slot.done.wait()
            try:
                finish(slot)
            except ExtentCorrupt as error:
                if not await self._mended(error):
                    raise
                self._check_writable()
            else:
                return cast(T, slot.result)

    async def sync(self) -> None:
        """Return when all that was committed before the call is durable. Raises: StoreReadOnly, CatalogCorrupt."""
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._rounds.wait_synced(self._writer.sequence)

    async def settle(
        self,
        inodes: Collection[InodeNo] = (),
        names: Collection[tuple[InodeNo, bytes]] = (),
        *,
        hurry: bool = True,
    ) -> None:
        """Return when every transaction that touched any of these is durable: at once if none is unsynced. *hurry*:
        see `Rounds.wait_synced`.

        Raises: StoreReadOnly, CatalogCorrupt if that can't be.
        """
        await self._rounds.wait_synced(self._unsynced.last(inodes, names), hurry=hurry)

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run rounds, the once-a-second round and checkpoints, until cancelled or closed. Call it once.

        A broken catalog does not end it: reads go on, and `failure` says why.
        """
        assert self._served is None, "serve runs once"
        self._served = trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                if self._checkpoints is not None:
                    nursery.start_soon(self._guard, self._serve_rounds)
                    nursery.start_soon(self._guard, self._wake_rounds)
                    nursery.start_soon(self._guard, self._checkpoints.serve)
                    nursery.start_soon(self._guard, self._serve_ids)
                    if isinstance(self._members, Membership):
                        nursery.start_soon(
                            self._guard, partial(self._members.serve, self._rounds.exclusive, self._synced)
                        )
                task_status.started()
                await self._stop.wait()
                nursery.cancel_scope.cancel()
        finally:
            self._closing = True
            with trio.CancelScope(shield=True):
                await self._rounds.finish()  # nobody is left to run another one
            self._served.set()

    async def close(self) -> None:
        """A last round, a checkpoint; then nothing is open. What waits is answered, what comes later is refused.

        Runs to its end even if cancelled. Safe to call again.
        """
        self._closing = True
        self._stop.set()
        with trio.CancelScope(shield=True):
            if self._served is not None:
                await self._served.wait()
            async with self._close_turn:
                if self._closed:
                    return
                if self._checkpoints is not None:
                    await self._rounds.finish()
                    await self._checkpoints.close()
                async with self._rounds.turn:  # behind a strike that is under way; none comes later
                    self._closed = self._rounds.closed = True
                    await in_thread(self._database.close, limiter=trio.CapacityLimiter(1))
                    await self._members.close(self._rounds.synced)

    def statistics(self) -> CatalogStatistics:
        return CatalogStatistics(
            rounds=self._rounds.statistics,
            sequence=self._writer.sequence,
            synced=self._rounds.synced,
            unsynced=len(self._unsynced),
            waiting=self._rounds.waiting,
            wal_bytes=self._database.primary.wal_bytes(),
            checkpoints=self._checkpoints.done if self._checkpoints else 0,
            checkpoints_put_off=self._checkpoints.put_off if self._checkpoints else 0,
        )

    async def checkpoint(self) -> bool:
        """Fold the WAL into the database: the bulk beside running writers, the rest while they wait.

        Called by `serve` by size; one at a time. Returns whether the WAL was started over.
        Raises: StoreReadOnly if the catalog is read-only or broken.
        """
        return await self._check_writable().run()

    async def _exclusive(self, step: Callable[[Mark], Awaitable[None]]) -> None:
        """Run *step* in a round of its own; where the primary is lost in it, return when the catalog has gone on."""
        try:
            await self._rounds.exclusive(step)
        except PrimaryLost:
            await self._rounds.usable.wait()
            self._rounds.check()

    def _read(self, fn: Callable[..., T], args: tuple[object, ...], seen: list[Seen] | None = None) -> T:
        if self._closed:
            raise StoreClosing("the catalog is closed")
        return self._writer.read(fn, args, seen)

    async def _wait_shown(self) -> None:
        """Nobody is shown less than what was shown before. Raises: CatalogCorrupt if that can't be any more."""
        while self._rounds.behind:
            if self._rounds.diverged.is_set():
                raise CatalogCorrupt(f"the catalog cannot show what it has shown: {self._rounds.failure}")
            await self._rounds.usable.wait()

    async def _gone_on(self, error: CatalogCorrupt) -> bool:
        """After an error of a read: whether a row was restored, or it was the database's, and the catalog has gone on
        with another one."""
        if isinstance(error, ExtentCorrupt):
            return await self._mended(error)
        if not is_fatal(error.__cause__):
            return False
        self._rounds.lost(error)
        await self._rounds.usable.wait()
        return self._rounds.failure is None

    async def _mended(self, error: ExtentCorrupt) -> bool:
        """Whether the row that failed its check is whole now: then what met it is run again."""
        return bool(await self.mender.mend([ExtentId(error.ident)]))

    def _check_writable(self) -> Checkpoints:
        if self._closing:
            raise StoreClosing("the catalog is closing")
        if self._checkpoints is None:
            raise StoreReadOnly("the catalog was opened read-only")
        self._rounds.check()
        return self._checkpoints

    async def _wait_writable(self) -> Checkpoints:
        while True:
            checkpoints = self._check_writable()
            if not self._rounds.usable.is_set():
                await self._rounds.usable.wait()
            elif checkpoints.gate is not None:
                await checkpoints.gate.wait()
            elif len(self._unsynced) >= UNSYNCED_TRANSACTIONS_MAX:
                await self._rounds.wait_synced(self._writer.sequence)
            else:
                return checkpoints

    async def _reserve(self, key: str, upto: int) -> None:
        await self.commit(reserve_ids, key, upto)

    def _synced(self) -> int:
        return self._rounds.synced

    # The tasks of `serve`

    async def _serve_rounds(self) -> None:
        while True:
            await self._rounds.wake.wait()
            self._rounds.wake = trio.Event()
            if not self._rounds.pending:
                continue
            await self._rounds.run()
            if self._checkpoints is not None:
                self._checkpoints.heed()

    async def _wake_rounds(self) -> None:
        """What nobody waits for becomes durable all the same."""
        while True:
            await trio.sleep(ROUND_INTERVAL_S)
            self._rounds.wake.set()

    async def _serve_ids(self) -> None:
        while not self.read_only:
            try:
                await self.ids.serve()
            except StratumError as error:  # who draws more than is left learns it by himself
                _log.info("no ids could be reserved ahead", reason=str(error))

    async def _guard(self, task: Callable[[], Awaitable[None]]) -> None:
        """If a task of ours ends by a fault, nobody may wait for what it would have done."""
        try:
            await task()
        except (Exception, KeyboardInterrupt) as error:
            self._rounds.fail(CatalogCorrupt(f"the catalog's own task ended: {error!r}"))
            raise
