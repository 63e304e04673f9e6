"""Somebody's S3 as readers of volumes see it, and a volume that is to go there."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol, TypeVar, TypeVarTuple

import trio
from blake3 import blake3

from stratumfs.cold_limits import (
    FLOW_PART,
    RECALL_AHEAD,
    RECALL_GAP,
    RECALL_PIECE,
    RECALL_PIECE_LONG,
    RECALL_THREADS,
    REMOTE_READS_OF_MOUNT_MAX,
)
from stratumfs.erasure.checksum import digest
from stratumfs.erasure.code import Code
from stratumfs.erasure.stripe import cell_size_for
from stratumfs.errors import ColdUnavailable, DataError, DeviceError, DeviceUnasked, StoreBusy, StratumError
from stratumfs.ids import Buffer, CellIndex, DeviceId, Nonce, StoreId, StripeNo, VolumeId, random_nonce
from stratumfs.limits import REMOTE_READS_WAITING_MAX, REMOTE_THREADS, STRIPE_PAYLOAD_MAX
from stratumfs.location import NONCE_MASK, Location
from stratumfs.shards.backend import ShardReader
from stratumfs.shards.budget import RecallBudget, used_up
from stratumfs.shards.recalled import Piece, Recalled
from stratumfs.share import OF_MOUNT
from stratumfs.threads import in_thread
from stratumfs.volumes.breaker import Breaker
from stratumfs.volumes.flow import Flow
from stratumfs.volumes.format import CellHeader, VolumeInfo, pack_headers
from stratumfs.volumes.toc import PackedToc

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

REMOTE_CODE = Code(1, 0)
"""Of volumes there: who keeps them sees to their safety."""


def remote_id(store: StoreId, tier: str) -> DeviceId:
    """What rows of volumes there name as their device. It follows from the store, for a catalog that is made anew."""
    return DeviceId(blake3(store + tier.encode(), derive_key_context="stratumfs 2026 remote tier").digest(16))


class _Turn:
    """Of one read: first it waits for a thread, then for the answer, for *patience_s* each. On the loop."""

    def __init__(self, patience_s: float) -> None:
        self.begun = self.refused = False
        self.scope = trio.CancelScope()
        self._patience_s = patience_s

    def queue(self) -> None:
        self.scope.deadline = trio.current_time() + self._patience_s

    def begin(self) -> None:
        self.begun = True
        self.scope.deadline = trio.current_time() + self._patience_s

    def again(self) -> None:
        """It was not to be read yet."""
        self.begun, self.scope = False, trio.CancelScope()

    def refuse(self) -> None:
        """It waits for nothing: the service has failed."""
        self.refused = True
        self.scope.cancel()


class RemoteSource:
    """A `Source` that is none of the store's devices: nobody strikes it, hedges it or rebuilds for it.

    It has threads of its own. Whoever has waited *deadline_s* for one of them, or as long for the answer, goes on with
    an error; the thread keeps its slot until the call returns. That no thread was free says nothing of the service.
    While that fails, reads are refused at once (`Breaker`), those that wait for a thread too. Lives on the loop.
    """

    in_doubt = False

    def __init__(
        self,
        ident: DeviceId,
        label: str,
        shards: ShardReader,
        deadline_s: float,
        ahead: "Ahead | None" = None,
        budget: RecallBudget | None = None,
    ) -> None:
        self.id, self.label, self.shards = ident, label, shards
        self._ahead, self._budget = ahead, budget or RecallBudget()
        self.reads = self.failures = 0
        self._deadline_s = deadline_s
        self._threads = trio.CapacityLimiter(REMOTE_THREADS)
        self._waiting: dict[bool, set[_Turn]] = {False: set(), True: set()}  # of the mount, or not
        self._breaker, self._reason = Breaker(), ""

    def stalled(self, after_s: float) -> bool:
        return False

    def expect(self, volume: VolumeId, spans: Sequence[tuple[int, int]]) -> None:
        """See `Source`."""
        if self._ahead is not None and not self._breaker.refuses_s(trio.current_time()) and not self._budget.closed_s():
            self._ahead.expect(volume, spans)

    @property
    def recalled(self) -> Recalled | None:
        """See `Source`."""
        return self._ahead.recalled if self._ahead is not None else None

    async def _wait_budget(self, until: float) -> None:
        """Raises: StoreBusy, if it may not be waited for or not before *until*."""
        closed_s = self._budget.closed_s()
        while closed_s and self._budget.waits and trio.current_time() + closed_s < until:
            await trio.sleep(closed_s)
            closed_s = self._budget.closed_s()
        if closed_s:
            raise used_up(self.label, closed_s)

    async def read(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Raises: ColdUnavailable, DeviceUnasked; StoreBusy where too many wait already, or one had no turn in time;
        ShardCorrupt, ShardMissing."""
        of_mount = OF_MOUNT.get()
        waiting = sum(map(len, self._waiting.values()))
        if waiting >= REMOTE_READS_WAITING_MAX or (of_mount and len(self._waiting[True]) >= REMOTE_READS_OF_MOUNT_MAX):
            raise StoreBusy(f"{waiting} reads wait for {self.label} already")
        self._check_breaker()
        turn, tried = _Turn(self._deadline_s), False
        until = trio.current_time() + self._deadline_s  # the budget is waited for
        token = trio.lowlevel.current_trio_token()

        def call() -> T:
            with suppress(trio.RunFinishedError):
                token.run_sync_soon(turn.begin)
            return fn(*args)

        self._waiting[of_mount].add(turn)
        self.reads += 1
        try:
            while True:
                await self._wait_budget(until)
                self._check_breaker()
                tried = self._breaker.begin()
                turn.queue()
                try:
                    with turn.scope:
                        found = await in_thread(call, limiter=self._threads, abandon_on_cancel=True)
                        self._breaker.answered()
                        return found
                except StoreBusy:  # others who waited for the budget came first
                    if not self._budget.waits or trio.current_time() >= until:
                        raise
                    self._breaker.left(tried)
                    tried = False
                    turn.again()
                else:
                    break
            if turn.refused:
                raise ColdUnavailable(self._reason)
            if turn.begun:
                raise self._failed(f"{self.label} has not answered within {self._deadline_s:.0f} s", tried)
            raise StoreBusy(f"{waiting} reads waited for {self.label} before this one, for {self._deadline_s:.0f} s")
        except DeviceUnasked:
            raise
        except DeviceError as error:
            raise self._failed(str(error), tried) from error
        except DataError:
            self._breaker.answered()
            raise
        finally:
            self._waiting[of_mount].discard(turn)
            self._breaker.left(tried)

    @property
    def refused(self) -> str | None:
        """Why reads are refused at once; None: they are not."""
        rest_s = self._breaker.refuses_s(trio.current_time())
        return f"{self._reason}; it is asked again in {rest_s:.0f} s" if rest_s > 0 else None

    def _check_breaker(self) -> None:
        if (reason := self.refused) is not None:
            raise ColdUnavailable(reason)

    def _failed(self, reason: str, tried: bool) -> ColdUnavailable:
        self.failures += 1
        self._reason = reason
        self._breaker.failed(trio.current_time(), tried)
        if self._breaker.refuses_s(trio.current_time()) > 0:
            for turn in (*self._waiting[False], *self._waiting[True]):
                if not turn.begun:
                    turn.refuse()
        return ColdUnavailable(reason)


class Recalls(ShardReader, Protocol):
    """Shards of which ranges can be fetched ahead."""

    def begin(self, volume: VolumeId, start: int, stop: int) -> Piece | None: ...

    def recall(self, piece: Piece) -> None: ...

    @property
    def recalled(self) -> Recalled: ...


class Ahead:
    """Fetches what is expected to be read, by requests of RECALL_PIECE, or RECALL_PIECE_LONG, or less on a slow link,
    and what does not come soon (`Flow`) not at all. On the loop; its threads are its own, so that who waits for what it
    fetches keeps it from nothing.

    deadline_s  how long readers wait
    """

    def __init__(self, shards: Recalls, nursery: trio.Nursery, deadline_s: float) -> None:
        self._shards, self._nursery = shards, nursery
        self._threads = trio.CapacityLimiter(RECALL_THREADS)
        self._flow = Flow(FLOW_PART * deadline_s)

    @property
    def recalled(self) -> Recalled:
        return self._shards.recalled

    def expect(self, volume: VolumeId, spans: Sequence[tuple[int, int]]) -> None:
        for first, last in coalesced(spans):
            size = RECALL_PIECE if last - first < 2 * RECALL_AHEAD else RECALL_PIECE_LONG
            size = min(size, self._flow.most)
            for start in range(first, last, size):
                if not self._flow.takes(min(size, last - start)):
                    return
                piece = self._shards.begin(volume, start, min(last, start + size))
                if piece is not None:
                    before = self._flow.begin(piece.stop - piece.start)
                    self._nursery.start_soon(self._fetch, piece, before)

    async def _fetch(self, piece: Piece, before: int) -> None:
        began, came = trio.current_time(), False
        try:
            await in_thread(self._shards.recall, piece, limiter=self._threads, abandon_on_cancel=True)
            came = True
        except StratumError:
            pass  # who reads these bytes meets it
        finally:
            self._flow.end(piece.stop - piece.start, before, trio.current_time() - began, came=came)
            if not piece.ended.is_set():  # it was cancelled before it had a thread
                self._shards.recalled.end(piece, None)


def coalesced(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, and one of those between which there is no more than RECALL_GAP."""
    found: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if found and start - found[-1][1] <= RECALL_GAP:
            found[-1] = found[-1][0], max(stop, found[-1][1])
        else:
            found.append((start, stop))
    return found


class LockedSource:
    """A `Source` of what cannot be read, for want of a key."""

    in_doubt = False
    recalled = None
    reads = failures = 0

    def __init__(self, reason: str) -> None:
        self.refused = reason

    @property
    def shards(self) -> ShardReader:
        raise ColdUnavailable(self.refused)

    def stalled(self, after_s: float) -> bool:
        return False

    def expect(self, volume: VolumeId, spans: Sequence[tuple[int, int]]) -> None:
        """There is nothing to be had."""

    async def read(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        raise ColdUnavailable(self.refused)


class GrowingVolume:
    """A volume of one shard, in memory, in the format of all shards, until it is whole. Used by one thread at a time.

    data     its bytes so far
    stripes  how many are in it
    """

    def __init__(self, store: StoreId, info: VolumeInfo) -> None:
        assert info.code == REMOTE_CODE
        self.info = info
        self.stripes = 0
        self.data = bytearray()
        self._store = store
        self._full: Nonce | None = None  # of the stripe before, if it is full

    def append(self, payload: Buffer) -> Location:
        """One stripe, 1 to STRIPE_PAYLOAD_MAX bytes. Behind a full one of the same size its nonce counts on."""
        size = cell_size_for(len(payload), self.info.code)
        full = self._full if size == STRIPE_PAYLOAD_MAX else None
        nonce = random_nonce() if full is None else Nonce((full + 1) & NONCE_MASK)
        at = Location(self.info.id, StripeNo(self.stripes), len(self.data), size, 0, nonce)
        header = CellHeader(
            self._store, self.info.id, self.info.code, CellIndex(0), at.stripe, nonce, size, size, digest(payload)
        )
        self.data += pack_headers([header])[0]
        self.data += payload
        self.stripes += 1
        self._full = nonce if size == STRIPE_PAYLOAD_MAX else None
        return at

    def finish(self, table: PackedToc) -> int:
        """Put its table of contents behind it. Returns where its cells end."""
        end = len(self.data)
        for part in table.parts(self._store, self.info, CellIndex(0), end):
            self.data += part
        return end
