"""Moves that somebody asked for: a file, a directory with all below it, a bucket, to another tier.

Each has a row in the catalog from before its first byte moves: who asked, when, why, and in the end what came of it.
With one that an owner did not bring to its end the next one goes on: what lies in the right tier already is passed
over, so that going on is beginning again.

So it is with one that meets a tier which does not answer: whoever waits for it is told so, others have their turn, and
it is begun again later, until it ends or has waited for days.
"""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any

import structlog
import trio

from stratumfs.catalog.moves import (
    DONE,
    STOPPED,
    SUPERSEDED,
    MoveRow,
    begin_move,
    end_move,
    named,
    unfinished_move,
    unfinished_moves,
)
from stratumfs.cold_limits import MOVE_AGAIN_S, MOVE_AGAIN_S_MAX, MOVE_KEPT_S
from stratumfs.errors import (
    ColdUnavailable,
    ConfigError,
    NotFound,
    StoreBusy,
    StoreClosing,
    StratumError,
)
from stratumfs.ids import InodeNo, VolumeId, random_id
from stratumfs.limits import MOVES_LOOK_S, MOVES_MAX
from stratumfs.store.pace import Pace
from stratumfs.store.repack import Repack
from stratumfs.store.store import Store
from tiering.leaving import add_leaving
from tiering.walk import below

_log = structlog.get_logger(__name__)

_PASSES_MAX = 3
"""What is renamed while a walk is under way can slip through it, and what a compaction had in its hands lies elsewhere
in its old tier; a walk that finds nothing more is the last."""


@dataclass(slots=True, eq=False)
class Move:
    """One move, waiting, under way, or ended. Changed by the mover's task alone.

    total       bytes that were to move when it began, and those that had moved before
    files       looked at; damaged: those of them whose rows fail their check
    unreadable  bytes of the others that could not be read
    leaving     volumes of other tiers, and how many bytes that are to move each has
    waits       why it does not go on, while the store takes no writes, or what it needs does not answer
    outcome     empty until it ends, and of one that is left to the next owner, or to another try
    ended       nobody need wait for it any more, though it may be begun again; tries: how often that was so before
    since       when, on trio's clock, it met what does not answer, and has brought nothing over since then
    """

    row: MoveRow
    total: int = 0
    files: int = 0
    damaged: int = 0
    waits: str | None = None
    outcome: str = ""
    error: Exception | None = None
    tries: int = 0
    since: float | None = None
    ended: trio.Event = field(default_factory=trio.Event)
    repack: Repack | None = None
    leaving: dict[VolumeId, int] = field(default_factory=dict)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)

    @property
    def moved(self) -> int:
        return self.row.bytes + (self.repack.moved if self.repack is not None else 0)

    @property
    def unreadable(self) -> int:
        return self.repack.unreadable if self.repack is not None else 0

    def summary(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "id": self.row.id.hex(),
            "path": self.row.path.decode("utf-8", "replace"),
            "inode": self.row.ino,
            "to": self.row.tier,
            "uid": self.row.uid,
            "reason": self.row.reason,
            "bytes": self.moved,
            "total": max(self.total, self.moved),
            "files": self.files,
            "files_damaged": self.damaged,
            "bytes_unreadable": self.unreadable,
            "waits": self.waits,
            "outcome": self.outcome,
        }


class Mover:
    """Carries moves out, one after the other, in the order in which they were asked for. One a store, on its loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._queue: deque[Move] = deque()
        self._later: dict[bytes, tuple[float, Move]] = {}  # those that were put off, and until when
        self._asked = trio.Event()
        self._closing = False

    def __iter__(self) -> Iterator[Move]:
        """Those that have not ended, the one under way first, and those last that were put off."""
        return iter((*self._queue, *(move for _, move in self._later.values())))

    @property
    def under_way(self) -> Move | None:
        return self._queue[0] if self._queue else None

    async def resume(self) -> None:
        """Queue what the last owner left."""
        rows = await self._store.catalog.read(unfinished_moves)
        self._queue.extend(Move(row) for row in rows)

    async def serve(self) -> None:
        """Until cancelled; then what has not ended is left to the next owner."""
        try:
            while True:
                self._take_due()
                while self._queue:
                    await self._carry_out(self._queue[0])
                    self._queue.popleft()
                    self._take_due()
                with trio.move_on_at(min((at for at, _ in self._later.values()), default=math.inf)):
                    await self._asked.wait()
                self._asked = trio.Event()
        finally:
            self._closing = True
            for move in self._queue:
                move.ended.set()

    async def ask(self, ino: InodeNo, tier: str, uid: int, reason: str) -> Move:
        """Begin a move: durable, so that the next owner goes on with it if this one does not end it.

        Raises: ConfigError (no such tier), NotFound, StoreReadOnly, StoreBusy.
        """
        self._check(tier)
        if len(self._queue) + len(self._later) >= MOVES_MAX:
            raise StoreBusy(f"{MOVES_MAX} moves are waiting already")
        row = await self._store.catalog.commit(begin_move, random_id(), ino, tier, uid, reason, time.time_ns())
        if self._closing:
            raise StoreClosing("the owner of the store is ending: the next one makes this move")
        _log.info("move_asked", path=row.path.decode("utf-8", "replace"), to=tier, uid=uid, reason=reason)
        move = Move(row)
        self._queue.append(move)
        self._asked.set()
        return move

    async def find(self, inode: int | None, bucket: str | None, key: str | None) -> InodeNo:
        """What a request names. Raises: NotFound, NoSuchBucket, NoSuchObject."""
        if inode is not None:
            return InodeNo(inode)
        if bucket is None:
            raise NotFound("a move is of an inode, or of a bucket, with a key or without")
        return await self._store.catalog.read(named, bucket, (key or "").encode())

    async def stop(self, move: Move) -> None:
        """End it where it is; what has moved stays there."""
        if self._queue and self._queue[0] is move:
            move.scope.cancel()
        elif move in self._queue:
            self._queue.remove(move)
            await self._end(move, STOPPED)

    def _check(self, tier: str) -> None:
        writer = self._store.targets.get(tier)
        if writer is None:
            raise ConfigError(f"this store has no tier {tier}: it has {', '.join(self._store.targets)}")
        self._store.writer.check_writable()
        writer.check_writable()

    async def _carry_out(self, move: Move) -> None:
        try:
            with move.scope:
                await self._wait_writable(move)
                row = await self._store.catalog.read(unfinished_move, move.row.id)
                if row is None:
                    move.outcome = SUPERSEDED
                    move.ended.set()
                    return
                move.row = row
                self._check(move.row.tier)
                await self._run(move)
            await self._end(move, STOPPED if move.scope.cancelled_caught else DONE)
        except (ColdUnavailable, StoreBusy) as error:
            await self._put_off(move, error)
        except Exception as error:  # of this move alone; whoever asked for it is told
            unforeseen = None if isinstance(error, StratumError) else error
            _log.error("move_failed", path=move.row.path, error=str(error), exc_info=unforeseen)
            move.error = error
            await self._end(move, f"failed: {error}")

    async def _put_off(self, move: Move, error: StratumError) -> None:
        """Begin it again later. Who waits for it need not."""
        row, now = move.row, trio.current_time()
        with suppress(StratumError):  # of the catalog: how far it came is read when it is begun again
            found = await self._store.catalog.read(unfinished_move, row.id)
            row = found or row
        since = now if move.since is None or row.bytes > move.row.bytes else move.since
        if now - since > MOVE_KEPT_S:
            move.error = error
            await self._end(move, f"failed: {error}")
            return
        pause = min(MOVE_AGAIN_S_MAX, MOVE_AGAIN_S * 2**move.tries)
        again = Move(row, move.total, move.files, waits=str(error), tries=move.tries + 1, since=since)
        self._later[row.id] = now + pause, again
        _log.warning("move_put_off", path=row.path.decode("utf-8", "replace"), reason=str(error), for_s=pause)
        move.error = type(error)(f"{error}; the move goes on by itself when that is over")
        move.ended.set()

    def _take_due(self) -> None:
        """Those whose time has come wait for their turn again."""
        now = trio.current_time()
        for ident, (at, move) in list(self._later.items()):
            if at <= now:
                del self._later[ident]
                self._queue.append(move)

    async def _wait_writable(self, move: Move) -> None:
        """Its end could not be recorded before: a move that another owner began is not lost for a bad start."""
        while (reason := self._store.read_only) is not None:
            if move.waits != reason:
                _log.warning("move_waits", path=move.row.path.decode("utf-8", "replace"), reason=reason)
            move.waits = reason
            await trio.sleep(MOVES_LOOK_S)
        move.waits = None

    async def _end(self, move: Move, outcome: str) -> None:
        move.outcome = outcome
        try:
            await self._store.catalog.commit(end_move, move.row.id, outcome, time.time_ns())
        except StratumError as error:
            _log.warning("a move that has ended could not be recorded as such", error=str(error))
        _log.info("move_ended", **move.summary())
        move.ended.set()

    async def _run(self, move: Move) -> None:
        store = self._store
        move.total = move.row.bytes + await self._total(move)
        pace = Pace(store.observer, lambda _: None, alone=0.0)
        repack = Repack(
            store.catalog, store.reader, store.targets[move.row.tier], move=move.row.id, pace=pace, ahead=pace.is_alone
        )
        with repack.running(), store.compactor.sparing(move.leaving):
            move.repack = repack
            await self._move_whole(move, repack, pace)
            for at in range(_PASSES_MAX):
                if at:
                    await self._total(move)  # for what a compaction had begun with lies in other volumes
                before = repack.taken
                move.files = move.damaged = repack.unreadable = 0
                async with aclosing(below(self._store.catalog, move.row.ino)) as inos:
                    async for ino in inos:
                        await self._take(move, repack, ino)
                await repack.flush()
                if repack.taken - before == repack.unreadable:
                    break

    async def _move_whole(self, move: Move, repack: Repack, pace: Pace) -> None:
        """Volumes of which all that lives is to go."""
        before, relocator = repack.moved, self._store.relocator

        async def told(seconds: float, moved: int) -> None:
            repack.moved = before + moved
            await pace(seconds, moved)

        if relocator.can_take(move.row.tier):
            repack.moved = before + await relocator.move(move.leaving, move.row.tier, move.row.id, told)

    async def _take(self, move: Move, repack: Repack, ino: InodeNo) -> None:
        move.files += 1
        with self._store.holds.holding(ino):
            error = await repack.inode(ino)
        if error is not None:
            move.damaged += 1
            _log.error("a file cannot be moved", inode=ino, error=str(error))

    async def _total(self, move: Move) -> int:
        """Bytes that are to move, as far as rows say."""
        total, leaving = 0, dict[VolumeId, int]()
        async with aclosing(below(self._store.catalog, move.row.ino)) as inos:
            async for ino in inos:
                total += await add_leaving(self._store, ino, move.row.tier, leaving)
        move.leaving.clear()
        move.leaving.update(leaving)
        return total
