"""A tier in somebody's S3: each volume is one encrypted object, whole before any row names it.

The write order is that of all writers, with an upload in the place of the sync: a row says that the volume is about to
be; it is made in memory, encrypted, put and verified; its row says that it is sealed; then extents are pointed at it.
What a crash leaves is a row that no extent names, and perhaps an object: the next owner seals it as empty, and it goes
as all volumes go that nothing points at. Deletes are those rows: one that fails is tried again until it is done.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Self

import structlog
import trio

from stratumfs.catalog.clean import clean_runs
from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.volumes import FREED, VolumeRow, volume
from stratumfs.errors import ColdUnavailable, DeviceError, StoreReadOnly, StratumError
from stratumfs.ids import Buffer, DeviceId, StoreId, VolumeId, random_id
from stratumfs.limits import CODING_THREADS, PACKED_CELL, REMOTE_AGAIN_S, REMOTE_PUTS, STRIPE_PAYLOAD_MAX, SWAP_ROWS
from stratumfs.shards.budget import RecallBudget
from stratumfs.shards.encrypted import MasterKey, encrypt
from stratumfs.shards.remote import Remote
from stratumfs.shards.remote_shards import RemoteShards, object_name
from stratumfs.store.claim import Claim
from stratumfs.store.compact_remote import Gain, never
from stratumfs.store.heirs import Heirs
from stratumfs.store.inline import InlineBytes
from stratumfs.store.known_bad import KnownBad
from stratumfs.store.ledger import CatalogLedger
from stratumfs.store.naming import Naming
from stratumfs.store.remote_look import RemoteLook, Unknown
from stratumfs.store.runs import Run
from stratumfs.store.target import Plan
from stratumfs.store.writer import merged
from stratumfs.threads import in_thread
from stratumfs.values import MovedRun, NewExtent
from stratumfs.volumes import toc
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.remote import REMOTE_CODE, Ahead, GrowingVolume, LockedSource, RemoteSource, remote_id
from stratumfs.volumes.source import Source
from stratumfs.volumes.threads import LendingThreads

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Offsite:
    """What an owner opens a remote tier with.

    master  None: the key is not there, and `locked` says why: nothing of it can be read, written or deleted
    places  what tells each folder of the store from a copy of it, here or on another machine
    gain    what it saves to compact volumes of it
    reread_s  in which each object is read once to see that it is whole; 0: never
    budget    of what is recalled
    clean_s   so long what was brought back stays there too
    """

    tier: str
    remote: Remote
    master: MasterKey | None
    locked: str | None
    deadline_s: float
    places: frozenset[str]
    gain: Gain = never
    reread_s: float = 0.0
    budget: RecallBudget = field(default_factory=RecallBudget)
    clean_s: float = 0.0


class RemoteTier:
    """A `RepackTarget`; one a store, on its loop. *source* is where readers find its volumes; *claim* whose they are.

    ``_made`` are volumes that somebody makes, ``_failed`` those that came to nothing, ``_putting`` those that a thread
    puts there, which nobody may wait for any more: its object could come behind a delete. ``_due`` are those that are
    freed and whose object is to go, ``_gone`` those whose object went.

    look          at all that lies there; None if the tier is locked
    bad           volumes that are known to be damaged, whoever has found it
    unknown       what the last look has found that no row knows
    """

    def __init__(
        self,
        store: StoreId,
        catalog: Catalog,
        offsite: Offsite,
        inline: InlineBytes,
        naming: Naming,
        nursery: trio.Nursery,
        heirs: Heirs,
    ) -> None:
        self.tier, self.inline, self.label = offsite.tier, inline, offsite.remote.label
        self.naming = naming
        self.packed_payload = PACKED_CELL
        self.store, self.ident = store, remote_id(store, offsite.tier)
        self.threads = LendingThreads(CODING_THREADS)
        self.ledger = CatalogLedger(catalog)
        self.uploads = self.uploaded_bytes = self.deletes = 0
        self._catalog, self.offsite = catalog, offsite
        self._writers = trio.CapacityLimiter(REMOTE_PUTS + 2)
        self._turns = trio.Semaphore(REMOTE_PUTS)
        self.claim = Claim(store, offsite.tier, catalog, offsite.remote, offsite.places, self._writers)
        self._made: set[VolumeId] = set()
        self._failed: set[VolumeId] = set()
        self._putting: set[VolumeId] = set()
        self._due: set[VolumeId] = set()
        self._gone: set[VolumeId] = set()
        self._wake = trio.Event()
        self._said = ""
        self._shards: RemoteShards | None = None
        self._heirs = heirs
        self.clean_s = 0.0
        self.bad = KnownBad()
        self.unknown: list[Unknown] = []
        self.look: RemoteLook | None = None
        self._asked: RemoteLook | None = None
        if offsite.master is not None:
            shards = self._shards = RemoteShards(offsite.remote, offsite.master, store, offsite.budget)
            ahead = Ahead(shards, nursery, offsite.deadline_s)
            self.source: RemoteSource | LockedSource = RemoteSource(
                self.ident, self.label, shards, offsite.deadline_s, ahead, offsite.budget
            )
            self.look = RemoteLook(store, offsite.tier, catalog, offsite.remote, offsite.master)
            # With a thread of its own: who moves does not wait for one who reads all that lies there.
            self._asked = RemoteLook(store, offsite.tier, catalog, offsite.remote, offsite.master)
        else:
            self.source = LockedSource(str(offsite.locked))

    @property
    def read_only(self) -> str | None:
        """Why nothing is written there."""
        return self.offsite.locked or self.claim.lost

    def check_writable(self) -> None:
        """Raises: StoreReadOnly."""
        if (reason := self.read_only) is not None:
            raise StoreReadOnly(reason)

    def copying(self, *, freeing: bool = False) -> "RemoteStream":
        """See `RepackTarget`."""
        return RemoteStream(self)

    def inheriting(
        self,
        sources: Collection[VolumeId],
        to: Collection[VolumeId],
        sequence: Callable[[], int],
        *,
        again: bool = False,
    ) -> AbstractContextManager[None]:
        """See `RepackTarget`. Each object has its table before any row names it; but that of what goes there again is
        older than an image that knows of the way back, and would not be asked."""
        return self._heirs.moving(sources, to, frozenset, sequence) if again else nullcontext()

    async def has(self, runs: Sequence[Run]) -> Sequence[MovedRun]:
        """See `RepackTarget`. That an object is there, and whose it is, is asked of the service; of what is known
        to be damaged nothing is there."""
        found: list[MovedRun] = []
        rest = list(runs)
        while rest:
            more, left = await self._catalog.read(clean_runs, rest[:SWAP_ROWS], time.time_ns())
            found += more
            rest[:SWAP_ROWS] = left
            await trio.lowlevel.checkpoint()
        if not found or self._asked is None:
            return ()
        try:
            await self.claim.check()
            there = {each.target.volume for each in found}
            there = {ident for ident in there if await self._asked.is_there(ident)}
        except DeviceError as error:
            raise ColdUnavailable(str(error)) from error
        there -= self.bad.keys()
        return [each for each in found if each.target.volume in there]

    def unnamed(self) -> frozenset[VolumeId]:
        """Volumes that rows may be about to name."""
        return frozenset(self._made)

    def keep(self, ident: VolumeId) -> None:
        self._made.add(ident)

    def let_go(self, ident: VolumeId) -> None:
        self._made.discard(ident)

    async def put(self, growing: GrowingVolume, length: int) -> None:
        """The whole of a volume is there, verified, and its row says that it is sealed behind *length* bytes of cells.

        Raises: ColdUnavailable, StoreReadOnly; what the ledger raises. Then the volume is given up.
        """
        info = growing.info
        async with self._turns:
            try:
                await self.claim.check()
            except DeviceError as error:
                raise ColdUnavailable(str(error)) from error
            try:
                await self.ledger.opened(info)  # who is cancelled here may have a row already
                await self._put(info.id, growing.data)
                await self.ledger.sealed(info.id, length, growing.stripes)
            except BaseException as error:
                self._failed.add(info.id)
                self._wake.set()
                if isinstance(error, DeviceError):
                    raise ColdUnavailable(str(error)) from error
                raise
        self.uploads += 1
        self.uploaded_bytes += len(growing.data)

    def free(self, row: VolumeRow) -> bool:
        """Of a freed volume: whether its object is gone. If not it will go soon. Never waits."""
        if row.id in self._gone:
            self._gone.discard(row.id)
            return True
        if row.id not in self._due:
            self._due.add(row.id)
            self._wake.set()
        return False

    async def serve(self) -> None:
        """Give up volumes that came to nothing, and delete those that are freed, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            try:
                await self.tidy()
                self._said = ""
            except Exception as error:  # of the service: the store goes on
                if self._said != str(error):
                    unforeseen = None if isinstance(error, StratumError) else error
                    _log.warning(
                        "remote_tier_not_tidied",
                        tier=self.tier,
                        error=str(error),
                        waiting=len(self._due),
                        exc_info=unforeseen,
                    )
                self._said = str(error)
                with trio.move_on_after(REMOTE_AGAIN_S):
                    await self._wake.wait()
                self._wake.set()

    async def tidy(self) -> None:
        """All of that once, as far as it can be done: what one object comes to holds up no other.

        Raises: the last of what was raised: DeviceError, StoreReadOnly; what the ledger raises.
        """
        failed: StratumError | None = None
        for ident in self._failed - self._putting:
            try:
                await self.ledger.sealed(ident, 0, 0)  # no row can name it any more, and it is freed as an empty one
            except StratumError as error:
                failed = error
            else:
                self._failed.discard(ident)
        for ident in tuple(self._due):
            self.check_writable()
            await self.claim.check()
            row = await self._catalog.read(volume, ident)
            if row is not None and row.state == FREED:
                try:
                    await in_thread(self._delete, ident, limiter=self._writers, abandon_on_cancel=True)
                except DeviceError as error:  # of one that is locked there, say; of a dead service the claim tells
                    failed = error
                    continue
                self.deletes += 1
                self._gone.add(ident)
                self.bad.forget(ident)
            self._due.discard(ident)
        if failed is not None:
            raise failed

    def state_of(self, ident: VolumeId) -> str:
        """What is known of the object of a volume whose row says that it is there; the service is not asked."""
        if ident in self.bad:
            return f"damaged: {self.bad[ident]}"
        refused = self.source.refused
        return f"not known: {refused}" if refused is not None else "present"

    def close(self) -> None:
        """End what is under way at the service. Nothing more is asked of it."""
        self.offsite.remote.close()

    def statistics(self) -> dict[str, Any]:
        """Since the owner began; how many objects wait to be deleted; and what the last look has found."""
        return {
            "reads": self.source.reads,
            "failures": self.source.failures,
            "recalled_bytes": int(self.offsite.budget.bytes.spent),
            "recalled_usd": self.offsite.budget.usd.spent,
            "recall_closed_s": self.offsite.budget.closed_s(),
            "uploads": self.uploads,
            "uploaded_bytes": self.uploaded_bytes,
            "deletes": self.deletes,
            "deletes_waiting": len(self._due),
            "damaged_volumes": len(self.bad),
            "unknown_objects": len(self.unknown),
            "unknown_bytes": sum(each.size for each in self.unknown),
        }

    async def _put(self, ident: VolumeId, plain: Buffer) -> None:
        """May be left by cancellation. Raises: DeviceError."""
        master, token = self.offsite.master, trio.lowlevel.current_trio_token()
        assert master is not None
        # Whoever has it first: the thread, or who gives the upload up while it waits for its turn.
        begun = threading.Lock()

        def put() -> None:
            if not begun.acquire(blocking=False):
                return
            try:
                self.offsite.remote.put(
                    object_name(self.store, master, ident), encrypt(master, self.store, ident, plain)
                )
            finally:
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(self._put_ended, ident)

        self._putting.add(ident)
        try:
            await in_thread(put, limiter=self._writers, abandon_on_cancel=True)
        except BaseException:
            if begun.acquire(blocking=False):
                self._putting.discard(ident)
            raise

    def _put_ended(self, ident: VolumeId) -> None:
        self._putting.discard(ident)
        self._wake.set()

    def _delete(self, ident: VolumeId) -> None:
        assert self.offsite.master is not None
        assert self._shards is not None
        self._shards.forget(ident)
        self.offsite.remote.delete(object_name(self.store, self.offsite.master, ident))


class Everywhere(Mapping[DeviceId, Source]):
    """All that volumes are read from: the store's devices, and what is none of them."""

    def __init__(self, devices: Mapping[DeviceId, Source], remotes: Mapping[str, RemoteTier]) -> None:
        self._devices, self._remotes = devices, remotes

    def __getitem__(self, key: DeviceId) -> Source:
        found = self._devices.get(key)
        if found is not None:
            return found
        for remote in self._remotes.values():
            if remote.ident == key:
                return remote.source
        raise KeyError(key)

    def __iter__(self) -> Iterator[DeviceId]:
        yield from self._devices
        yield from (remote.ident for remote in self._remotes.values())

    def __len__(self) -> int:
        return len(self._devices) + len(self._remotes)


class RemoteStream(AbstractContextManager["RemoteStream"]):
    """A `CopyStream` into one volume, which is in memory until it is settled."""

    def __init__(self, tier: RemoteTier) -> None:
        self.extents: list[NewExtent] = []
        self._tier = tier
        self._growing = GrowingVolume(
            tier.store, VolumeInfo(VolumeId(random_id()), tier.tier, REMOTE_CODE, (tier.ident,))
        )
        self._payload = STRIPE_PAYLOAD_MAX
        self._filling = bytearray()
        self._offset = 0
        self._names = False

    def __enter__(self) -> Self:
        self._tier.keep(self._growing.info.id)
        return self

    def __exit__(self, *_: object) -> None:
        self._tier.let_go(self._growing.info.id)
        if self._names:
            self._tier.naming.end()

    @property
    def taken(self) -> int:
        return self._offset + len(self._filling)

    async def write(self, data: Buffer) -> None:
        view = memoryview(data)
        while view:
            count = min(self._payload - len(self._filling), len(view))
            self._filling += view[:count]
            view = view[count:]
            if len(self._filling) == self._payload:
                await self._end_stripe()

    async def begin_stripes(self, payload: int) -> None:
        await self._end_stripe()
        self._payload = payload

    async def make_room(self, count: int) -> None:
        if len(self._filling) + count > self._payload:
            await self._end_stripe()

    async def settle(self, plan: Plan) -> None:
        await self._end_stripe()
        if not self._offset:
            return
        self.extents = merged(self.extents)
        await self._tier.naming.begin()
        self._names = True
        entries = await self._tier.ledger.planned(self._growing.info.id, plan(self.extents))
        table = await self._tier.threads.run(toc.pack, entries)
        await self._tier.put(self._growing, self._growing.finish(table))

    async def _end_stripe(self) -> None:
        if self._filling:
            payload, self._filling = self._filling, bytearray()
            at = await self._tier.threads.run(self._growing.append, payload)
            self.extents.append(NewExtent(self._offset, len(payload), at))
            self._offset += len(payload)
