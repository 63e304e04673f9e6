"""The tier engine: one task of the owner that listens to the doors, decides, and lets the decisions be carried out.

Pure policy stands in ``policy.py``; here is what feeds it and what it feeds. Each look takes what the doors told and
what the catalog says of whatever changed, in that order of things: what is new is placed before it counts as read.
Verdicts wait in the plan, with a row in the catalog, until the task of their tier carries them out in batches: what is
slow to take something keeps none of the others waiting. Shared state belongs to the loop; policy and plan are never
left half changed over an await.

What lies where is known by the catalog alone. The heat is a memory: it is written down each minute, and lost it is
learned again.
"""

import math
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import aclosing
from itertools import groupby
from pathlib import Path
from typing import Any

import structlog
import trio

from stratumfs.catalog.decisions import DONE, GONE, SUPERSEDED
from stratumfs.catalog.placed import end_restored
from stratumfs.catalog.residence import Residence, pin_above, residences, residences_behind
from stratumfs.catalog.tree import child
from stratumfs.errors import StratumError
from stratumfs.ids import InodeNo, random_id
from stratumfs.limits import (
    BATCH_BYTES,
    BATCH_MOVES,
    HEAT_BYTES_S,
    HEAT_SAVED_S,
    PLAN_MAX,
    RESIDENCES,
    TIER_AGAIN_S,
    UNMOVABLE_MAX,
)
from stratumfs.store.pace import Pace
from stratumfs.store.store import Store
from stratumfs.threads import in_thread
from tiering import heat
from tiering.accesses import Accesses
from tiering.carrier import Carrier
from tiering.decisions import DecisionLog, latest
from tiering.facts import Facts
from tiering.overlooked import SLOTS, Overlooked, Unmovable
from tiering.plan import Plan, lifetime
from tiering.policy import Policy
from tiering.prices import PriceList
from tiering.room import capacities, closed, decided_capacity, lying, room, tier_bytes
from tiering.signals import NOWHERE
from tiering.sniff import Sniffer
from tiering.verdict import Cause, Verdict
from tiering.walk import below
from tiering.worths import PolicySettings

REVIEW_S = 3600.0
"""How often a part of all objects is looked at for what a slower tier holds more cheaply: all in a day."""
_LOOKS = 500
"""Objects that one step of it looks at, a millisecond or two."""
_READS = 50
"""Reads after which others have their turn."""

_log = structlog.get_logger(__name__)


class Engine:
    """Made by `opened`, used on the store's loop.

    policy    what it decides by; keys are inode numbers
    plan      moves that wait and moves under way
    refused   tiers that could not take what was to move there, and until when they are left alone
    surveyed  set once all that the catalog has is known
    """

    def __init__(
        self,
        store: Store,
        accesses: Accesses,
        prices: PriceList,
        policy: Policy,
        *,
        folder: Path | None = None,
        clock: Callable[[], float] = time.time,
        tick_s: float = 10.0,
    ) -> None:
        self.tiers = tuple(each.name for each in prices.tiers)
        self.policy, self.plan = policy, Plan()
        self.refused: dict[int, float] = {}
        self.surveyed = trio.Event()
        self.decided = 0
        self._store, self._accesses, self._prices = store, accesses, prices
        self._quotas = [each.capacity_bytes for each in prices.tiers]
        self._folder, self._clock, self._tick_s = folder, clock, tick_s
        self.log = DecisionLog(store.catalog, self.tiers)
        self.sniffer = Sniffer(store, policy.kind)
        self.facts = Facts(policy, self.plan, self.tiers, self.sniffer.ask)
        self.carrier = Carrier(store, self.tiers)
        self._rest = Pace(store.observer, lambda _: None)
        self._hurried = Pace(store.observer, lambda _: None, hurry=True)
        self._unmovable = Unmovable()
        self._overlooked = Overlooked(policy, self.plan, self._rest, self._decide)
        policy.stuck = self._unmovable
        self._now = self._clock_was = self._reviewed = self._measured = self._saved = clock()
        self._ahead = 0.0
        self._heat: int | None = None
        self._waiting = trio.Event()
        self._turn = trio.Lock()
        store.catalog.listen(accesses.heed)

    @staticmethod
    def key_of(ino: InodeNo) -> int:
        """Under which the policy knows an inode."""
        return int(ino)

    def now(self) -> float:
        """Seconds since the epoch; the policy's time does not go back when the clock does, and does not stand still."""
        clock = self._clock()
        self._ahead += max(0.0, self._clock_was - clock)
        self._clock_was = clock
        self._now = max(self._now, clock + self._ahead)
        return self._now

    def closed(self) -> dict[int, str]:
        """Tiers that take nothing now, and why."""
        return closed(self._store, self.tiers, self.refused, self.now())

    def left_alone_s(self, key: int) -> float | None:
        """For how long yet an object is, that could not be moved; None: it is not."""
        until = self._unmovable.get(key)
        return None if until is None else max(0.0, until - self.now())

    @property
    def reads_not_counted(self) -> int:
        return self._accesses.lost

    async def serve(self) -> None:
        """Until cancelled; then the heat is written down once more."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve_looks)
                for target in range(len(self.tiers)):
                    nursery.start_soon(self._serve_moves, target)
                nursery.start_soon(self.sniffer.serve)
        finally:
            with trio.move_on_after(HEAT_SAVED_S, shield=True):
                await self.save(last=True)

    async def survey(self) -> None:
        """Look at all that the catalog has, and go on with what the last owner decided. Raises: StratumError."""
        before = bytearray(self.policy.signals.slots)
        after: InodeNo | None = InodeNo(0)
        while after is not None:
            began = trio.current_time()
            found, after = await self._store.catalog.read(residences_behind, after, RESIDENCES)
            for each in found:
                slot = self.policy.signals.slot(each.ino)
                if slot is not None and slot < len(before):
                    before[slot] = 1
            await self._take(found, new=False)
            # Nothing moves before all is known: who waits for room waits for this.
            await (self._hurried if self.policy.pressed else self._rest)(trio.current_time() - began, 0)
        for slot, seen in enumerate(before):
            if not seen and self.policy.signals.tier[slot] != NOWHERE:
                self._accesses.note(InodeNo(self.policy.signals.key[slot]))
            if slot % SLOTS == 0:
                await trio.lowlevel.checkpoint()
        await self._take_changes()
        if not self.surveyed.is_set():
            await self._resume()
            self.surveyed.set()

    async def look(self) -> None:
        """Take what was told since the last look, decide, and write the decisions down. Raises: StratumError."""
        async with self._turn:
            try:
                await self._look()
            except Exception:
                self._accesses.all_anew = True  # what was told is taken, and perhaps not heeded
                raise

    async def _look(self) -> None:
        if self._accesses.all_anew:
            self._accesses.all_anew = False
            await self.survey()
        for key in self._unmovable.take_due(self.now()):
            self._accesses.note(InodeNo(key))
        self._heed_closed()
        await self._overlooked.note_restored(self.now(), self._accesses.note)
        await self._take_changes()
        await self._overlooked.follow_pins(self.now(), PLAN_MAX)
        for number, read in enumerate(self._accesses.take_reads()):
            at = min(self.now(), read.at + self._ahead)
            self._decide(self.policy.read(read.ino, at, count=read.size, offset=read.offset))
            if number % _READS == 0:
                await trio.lowlevel.checkpoint()
        await self._review()
        self._take_dropped()
        await self.log.write()
        await self._end_restored()
        if self.plan.waiting:
            self._wake()

    async def carry_out(self, target: int | None = None) -> bool:
        """Carry out a batch of what waits, or of what waits for tier *target*. False if nothing can be.

        Raises: StratumError of the catalog.
        """
        await self.log.write()
        now = self.now()
        self.refused = {tier: until for tier, until in self.refused.items() if until > now}
        shut = frozenset(closed(self._store, self.tiers, self.refused, now))
        left = room(self._store, self.policy, self.plan, self._quotas, shut)
        if target is not None:
            left = [free if tier == target else -1.0 for tier, free in enumerate(left)]  # not even for what is empty
        batch = self.plan.next(left, bytes_max=BATCH_BYTES, moves_max=BATCH_MOVES)
        if not batch.moves:
            return False
        outcomes = {each.key: f"failed: {StratumError.__name__}" for each in batch.moves}
        rows: dict[int, int] = {}
        try:
            ident = random_id()
            rows = await self.log.begin([each.key for each in batch.moves], ident)
            for tier, moves in groupby(sorted(batch.moves, key=lifetime), lambda each: each.target):
                carried = await self.carrier.carry(tier, tuple(moves), ident)
                outcomes |= carried.outcomes
                if carried.stopped:
                    self.refused[tier] = self.now() + TIER_AGAIN_S
        finally:
            for each in batch.moves:
                self._ended(each, rows.get(each.key), outcomes[each.key])
        await self.log.write()
        return True

    async def save(self, *, last: bool = False) -> None:
        """Write the heat down if it is another one. What fails is said, and tried again later.

        last: nobody waits for it but for so long: a thread that a dead disk holds is left behind
        """
        self._saved = self.now()
        if self._folder is None:
            return
        state = await self.state()
        try:
            self._heat = await in_thread(heat.save, self._folder, state, self._heat, abandon_on_cancel=last)
        except (OSError, StratumError) as error:
            _log.warning("heat_not_saved", error=str(error))

    async def state(self) -> dict[str, Any]:
        """Of the policy, copied while others have their turn."""
        async with self._turn:
            steps = self.policy.state_in_steps()
            while True:
                try:
                    next(steps)
                except StopIteration as end:
                    found: dict[str, Any] = end.value
                    return found
                await trio.lowlevel.checkpoint()

    async def measure(self) -> None:
        """How much room there is in each tier."""
        used = await tier_bytes(self._store)
        # Before all is known, what is not known says nothing.
        lies = lying(self.policy, self.plan) if self.surveyed.is_set() else [math.inf] * len(self.tiers)
        self.policy.prices = capacities(self._store, _decided(self._prices), used, lies)

    async def _serve_looks(self) -> None:
        while not self.surveyed.is_set():
            await self._logged(self.survey)
            await self._logged(self.measure)
            await trio.sleep(0 if self.surveyed.is_set() else self._tick_s)
        while True:
            if self._store.read_only is None:
                await self._logged(self.look)
            if self.now() - self._measured >= HEAT_SAVED_S:
                self._measured = self.now()
                await self._logged(self.measure)
                if self.now() - self._saved >= self.policy.nbytes / HEAT_BYTES_S:
                    await self.save()
                await self._logged(self._trim)
            await trio.sleep(self._tick_s)

    async def _serve_moves(self, target: int) -> None:
        await self.surveyed.wait()
        while True:
            woken = self._waiting
            while self._store.read_only is None and await self._logged(self.carry_out, target):
                self._wake()  # what was moved has left room in its tier
            await woken.wait()

    def _wake(self) -> None:
        self._waiting.set()
        self._waiting = trio.Event()

    async def _logged(self, step: Callable[..., Any], *args: int) -> bool:
        """Whether it returned something true. What it meets is said, and the engine goes on."""
        try:
            return bool(await step(*args))
        except StratumError as error:
            _log.warning("tiering stopped, and goes on later", step=step.__name__, error=str(error))
        except Exception:
            _log.exception("tiering_failed", step=step.__name__)
        return False

    async def _trim(self) -> None:
        if self._store.read_only is None:
            await self.log.trim(time.time_ns())

    async def _take_changes(self) -> None:
        written = self._accesses.take_written()
        for old, new in self._accesses.take_replaced().items():
            self.facts.replaced(old, new)
        await self._take_changed(written)
        directories = self._accesses.take_directories()
        if self.facts.pins:
            for parent, name in directories:
                if (top := await self._store.catalog.read(child, parent, name)) is not None:
                    await self._note_below(top)
        await self._take_changed(written)  # what was noted by that

    async def _take_changed(self, written: Collection[InodeNo]) -> None:
        inos = self._accesses.take_changed()
        for start in range(0, len(inos), RESIDENCES):
            chunk = inos[start : start + RESIDENCES]
            found = await self._store.catalog.read(residences, chunk)
            await self._take(found, written=written, new=True)
            for ino in set(chunk) - {each.ino for each in found}:
                self.facts.gone(ino)
            await trio.lowlevel.checkpoint()

    async def _take(self, found: Iterable[Residence], *, new: bool, written: Collection[InodeNo] = ()) -> None:
        for each in found:
            if each.is_directory:
                if self.facts.heed_directory(each):
                    await self._note_below(each.ino)
                continue
            pin = each.own_pin
            if pin is None and self.facts.pins:
                pin = await self._store.catalog.read(pin_above, each.ino)
            self._decide(self.facts.heed(each, pin, self.now(), written=each.ino in written, new=new))

    async def _note_below(self, directory: InodeNo) -> None:
        """What lies below is looked at again: with all else, if it is too much."""
        began, number = trio.current_time(), 0
        async with aclosing(below(self._store.catalog, directory)) as inos:
            async for ino in inos:
                self._accesses.note(ino)
                number += 1
                if self._accesses.all_anew:
                    return
                if number % _LOOKS == 0:
                    await self._rest(trio.current_time() - began, 0)
                    began = trio.current_time()

    async def _review(self) -> None:
        now = self.now()
        before = -1
        while before < self.decided:  # what is taken back does not count
            before = self.decided
            self._decide(self.policy.review(now, 0))
            await trio.lowlevel.checkpoint()
        if now - self._reviewed < REVIEW_S:
            return
        self._reviewed = now
        await self._gather(now)
        looks = max(64, len(self.policy.signals) // 24)
        while looks > 0:
            began = trio.current_time()
            self._decide(self.policy.review(now, min(looks, _LOOKS)))
            looks -= _LOOKS
            await self._rest(trio.current_time() - began, 0)

    async def _gather(self, now: float) -> None:
        """What was written of objects in slower tiers follows them there, once they are idle."""
        for number, (key, (tier, count)) in enumerate(tuple(self.facts.strays.items())):
            if self.plan.waits(key) is None and not self.plan.is_under_way(key):
                found = self.policy.gathered(key, tier, count, now, idle_s=REVIEW_S)
                if found is not None and self._is_open(found):
                    self.plan.add((found,))
                    self.log.add(found)
            if number % _LOOKS == 0:
                await trio.lowlevel.checkpoint()

    async def _end_restored(self) -> None:
        """Of what lies where it is to lie after its date. Raises: StratumError."""
        while self.facts.over:
            ino = self.facts.over.pop()
            await self._store.catalog.write(end_restored, ino, int(self.now() * 1e9))
            await trio.lowlevel.checkpoint()

    def _decide(self, verdicts: Iterable[Verdict]) -> None:
        """They wait from now on; what cannot wait is taken back."""
        for each in verdicts:
            if each.source is None:
                continue
            waits = self.plan.waits(each.key)
            takes = self._is_open(each) and self._unmovable.get(each.key, 0.0) <= self._now
            if not takes and waits is None and not self.plan.is_under_way(each.key):
                self.policy.moved(each.key, each.source, each.now)
                if each.cause is Cause.PIN and each.key not in self._unmovable:  # nothing else would remind of it
                    self._overlooked.pins.add(each.target)
                continue
            self.plan.add((each,))
            after = self.plan.waits(each.key)
            if after is not None and after is not waits:
                self.log.add(after)
                self.decided += 1
            elif after is None and waits is not None:
                self.log.drop(each.key)

    def _is_open(self, verdict: Verdict) -> bool:
        """Whether its tier takes something, and has few enough moves that wait for it."""
        return verdict.target not in self.policy.closed and self.plan.alike(verdict) < PLAN_MAX

    def _heed_closed(self) -> None:
        """What waits for a tier that takes nothing now is decided again, by where it lies: else the room that it is to
        leave would be held for free, and pressure for relieved."""
        before, self.policy.closed = self.policy.closed, frozenset(self.closed())
        for each in self.plan.waiting if self.policy.closed - before else ():
            if each.target in self.policy.closed:
                self.plan.drop(each.key)
                self.log.drop(each.key)
                self._accesses.note(InodeNo(each.key))
        if before - self.policy.closed:
            self._overlooked.reopened()
            for key in self._unmovable:
                self._accesses.note(InodeNo(key))
            self._unmovable.clear()

    def _ended(self, verdict: Verdict, row: int | None, outcome: str) -> None:
        self.plan.ended(verdict.key, done=outcome == DONE)
        if row is not None:
            self.log.end(row, outcome)
        if outcome == DONE:
            self.policy.arrived(verdict.key)
            return
        if outcome != GONE and not self._unmovable.leave_alone(verdict.key, self.now(), UNMOVABLE_MAX):
            self._overlooked.pins.update(range(len(self.tiers)))  # the one that had to go may have been pinned
        self._accesses.note(InodeNo(verdict.key))

    def _take_dropped(self) -> None:
        for key in self.facts.dropped:
            self.log.drop(key)
        self.facts.dropped.clear()

    async def _resume(self) -> None:
        """Decisions of the last owner that have not ended wait again, where they still make sense."""
        found = await self.log.unfinished()
        last = latest(found)
        for row, verdict in found:
            at = self.policy.where(verdict.key)
            if last[verdict.key][0] is not row or at is None or verdict.target >= len(self.tiers):
                self.log.end(row.id, GONE)
            elif self.plan.waits(verdict.key) is not None:  # decided again, as a pin is
                self.log.end(row.id, SUPERSEDED)
            elif at == verdict.target:
                self.log.end(row.id, DONE)
            elif at == verdict.source:
                self.policy.waits(verdict.key, verdict.target, self.now())
                self.plan.add((verdict,))
                self.log.adopt(verdict.key, row.id)
            else:
                self.log.end(row.id, GONE)


async def opened(
    store: Store,
    accesses: Accesses,
    prices: PriceList,
    settings: PolicySettings,
    *,
    folder: Path | None = None,
    clock: Callable[[], float] = time.time,
    tick_s: float = 10.0,
) -> Engine:
    """The engine of a store with the heat that lies in *folder*; what cannot be read there is begun anew.

    prices  of the store's tiers, fastest first, with the capacities of its settings
    """
    decided = _decided(prices)
    policy = None
    try:
        data = await in_thread(heat.load, folder) if folder is not None else None
        if data is not None:
            policy = await in_thread(Policy.load, data, decided, settings, clock())
    except Exception as error:  # whatever it is: nothing was promised of it
        _log.warning("heat_begun_anew", error=str(error))
    policy = policy or Policy(decided, clock(), settings)
    return Engine(store, accesses, prices, policy, folder=folder, clock=clock, tick_s=tick_s)


def _decided(prices: PriceList) -> PriceList:
    return prices.with_capacities([decided_capacity(each.capacity_bytes) for each in prices.tiers])
