"""One volume while it is open for writing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import trio

from stratumfs.descriptor import close_soon
from stratumfs.devices.health import DeviceState
from stratumfs.erasure.code import codec_for
from stratumfs.erasure.stripe import cell_size_for
from stratumfs.errors import DeviceError, DeviceFailed
from stratumfs.ids import CellIndex, Nonce, StoreId, StripeNo, random_nonce
from stratumfs.limits import STRIPE_PAYLOAD_MAX
from stratumfs.location import NONCE_MASK, Location
from stratumfs.shards.backend import OpenShard
from stratumfs.volumes.append import ShardFailure, append_stripe, finish_shard, preallocate, toc_holders
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.fanout import in_threads
from stratumfs.volumes.fleet import SealMark
from stratumfs.volumes.format import HEADER_SIZE, StripeAt, VolumeInfo
from stratumfs.volumes.pending import PendingStripe
from stratumfs.volumes.threads import LendingThreads
from stratumfs.volumes.toc import PackedToc


class GivenUp(Exception):
    """The volume takes no more stripes and no more syncs: what it has not synced goes elsewhere."""


class OpenVolume:
    """Shards that are appended to side by side; every cell of a stripe lies at the same position in its shard.

    Belongs to one `VolumeWriter` and lives on its loop. Places are given out without an await (`_reserve`), so appends
    of many tasks run beside each other and never overlap. A place is written once: when a write fails, or nobody knows
    whether it did, the volume takes no more appends; what was written before can still be synced. When a datasync fails
    it is given up, for a second one that succeeds proves nothing; so it is when one of its devices is struck. Whoever
    waits for a volume that is given up goes on at once; threads that hang in it keep its files until they return.

    closed    its shards are let go of: sealed, but for the ledger, or given up
    given_up  no more appends and no more syncs
    mark      behind the last stripe that is on stable storage on every shard
    """

    def __init__(
        self,
        store: StoreId,
        info: VolumeInfo,
        devices: Sequence[AttachedDevice],
        shards: Sequence[OpenShard],
        room: int,
    ) -> None:
        self.info = info
        self.end = 0
        self.stripes = 0
        self.payload = 0
        self.used_at = trio.current_time()
        self.closed = False
        self.given_up = False
        self.mark = SealMark(info.id, 0, 0)
        self._store = store
        self._devices = devices
        self._shards = shards
        self._codec = codec_for(info.code)
        self._room = room  # bytes preallocated in each shard
        self._growing = trio.Lock()
        self._last: StripeAt | None = None  # the stripe that ends at `end`, if it is full
        self._torn = False  # a place may be written in part
        self._appending = 0
        self._quiet = trio.Event()
        self._finished = 0  # appends that have been written
        self._reach = self.mark  # behind the last one of these
        self._synced = 0  # of these, how many are on stable storage; counted, for a round covers all that finished
        self._round: trio.Event | None = None
        self._waiting: set[trio.CancelScope] = set()

    @property
    def appending(self) -> bool:
        """Whether an append is under way."""
        return self._appending > 0

    def accepts(self) -> bool:
        """Whether it takes more appends."""
        return not self._torn and not self.given_up

    def holds(self, turn: int) -> bool:
        """Whether the append that finished as number *turn* is on stable storage on every shard."""
        return turn <= self._synced

    async def append(
        self,
        stripe: PendingStripe,
        after: PendingStripe | None,
        step: int,
        threads: LendingThreads,
    ) -> list[ShardFailure]:
        """Write the payload of *stripe*. Returns which devices failed: then it is not written.

        Its location is known at once, so that the next stripe of a stream can be placed behind it.
        step: bytes by which shards are preallocated. Nothing here may be cut short by cancellation: it would leave a
        place reserved and perhaps half written. Raises: GivenUp.
        """
        payload = stripe.payload
        assert payload is not None
        at = self._reserve(len(payload), after.location if after is not None else None)
        self._appending += 1
        whole = False
        location = Location(self.info.id, at.stripe, at.position, at.cell_size, 0, at.nonce)
        try:
            stripe.place(location)
            with self._until_given_up():
                failures = await self._make_room(at.position + HEADER_SIZE + at.cell_size, step, threads)
                if not failures:
                    failures = await threads.run(
                        append_stripe, self._store, self.info, self._codec, at, payload, self._shards, self._devices
                    )
            whole = not failures
        finally:
            self._ended(whole)
        if whole:
            self._finished += 1
            end = SealMark(self.info.id, at.position + HEADER_SIZE + at.cell_size, at.stripe + 1)
            self._reach = max(self._reach, end, key=lambda mark: mark.stripes)
            stripe.appended(location, self, self._finished)
        return failures

    async def sync(self) -> list[ShardFailure]:
        """Return when all appends that have finished by now are on stable storage on every shard.

        Waiters share rounds: who arrives while one runs waits for the next, which one of them runs for all. Returns the
        failures if this call ran the round that met them: then the volume is given up. Raises: GivenUp.
        """
        need = self._finished
        while self._synced < need:
            if self.given_up:
                raise GivenUp
            if self._round is not None:
                await self._round.wait()
            elif failures := await self._run_round():
                return failures
        return []

    async def finish(self, toc: PackedToc) -> list[ShardFailure]:
        """Cut and sync all shards, with *toc* on those that get it, and close them if nothing failed.

        Raises: GivenUp.
        """
        if self.given_up:
            raise GivenUp
        holders = toc_holders(self.info)
        failures: list[ShardFailure] = []

        async def one(index: CellIndex) -> None:
            table = toc if index in holders else None
            shard, device = self._shards[index], self._devices[index]
            try:
                await device.write(finish_shard, shard, self.end, table, self._store, self.info, index)
            except DeviceError as error:
                failures.append(ShardFailure(index, error))

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for number in range(self.info.code.n):
                    nursery.start_soon(one, CellIndex(number))
        if self.given_up:
            raise GivenUp
        if failures:
            self.give_up()
        else:
            self.close()
        return failures

    def give_up(self) -> None:
        """No more appends, no more syncs; whoever waits goes on."""
        self.given_up = True
        for scope in tuple(self._waiting):
            scope.cancel()
        self.close()

    async def wait_quiet(self) -> None:
        """Return when no append is under way."""
        while self._appending:
            await self._quiet.wait()

    def close(self) -> None:
        """Let go of the shards as they are."""
        self.closed = True
        close_soon(self._shards)

    @contextmanager
    def _until_given_up(self) -> Iterator[None]:
        """A block that no cancellation cuts short but the volume's end. Raises: GivenUp."""
        with trio.CancelScope(shield=True) as scope:
            self._waiting.add(scope)
            try:
                if self.given_up:
                    raise GivenUp
                yield
            finally:
                self._waiting.discard(scope)
        if scope.cancelled_caught:
            raise GivenUp

    def _reserve(self, payload: int, after: Location | None) -> StripeAt:
        size = cell_size_for(payload, self.info.code)
        nonce = self._next_nonce(size, after)
        at = StripeAt(StripeNo(self.stripes), self.end, size, nonce)
        self.stripes += 1
        self.end += HEADER_SIZE + size
        self.payload += payload
        self._last = at if payload == STRIPE_PAYLOAD_MAX else None
        return at

    def _next_nonce(self, size: int, after: Location | None) -> Nonce:
        """Counting on lets the caller keep one row for both; anything else gets 64 fresh random bits."""
        last = self._last
        if last is None or after is None or size != last.cell_size:
            return random_nonce()
        follows = after.volume == self.info.id and after.stripe == last.stripe and after.nonce == last.nonce
        return Nonce((last.nonce + 1) & NONCE_MASK) if follows else random_nonce()

    async def _make_room(self, end: int, step: int, threads: LendingThreads) -> list[ShardFailure]:
        """Preallocate up to *end* at least.

        Raises: GivenUp if another append met that there is no room: it reports that, and this one goes elsewhere.
        """
        if end <= self._room:
            return []
        async with self._growing:
            if end <= self._room:
                return []
            if self._torn:
                raise GivenUp
            room = max(end, self._room + step)
            failures = await threads.run(preallocate, self._shards, self._devices, self._room, room)
            if failures:
                self._torn = True
            else:
                self._room = room
            return failures

    def _ended(self, whole: bool) -> None:
        self.used_at = trio.current_time()
        self._appending -= 1
        self._torn |= not whole
        if not self._appending:
            self._quiet.set()
            self._quiet = trio.Event()

    async def _run_round(self) -> list[ShardFailure]:
        covers, reach = self._finished, self._reach
        ended = self._round = trio.Event()
        try:
            with self._until_given_up():
                # One round of a volume at a time, so a device has at most VOLUMES_OPEN_MAX of these threads.
                calls = zip(self._devices, self._shards, strict=True)
                errors = await in_threads([partial(device.timed, shard.datasync) for device, shard in calls])
            failures = [
                ShardFailure(CellIndex(number), self._as_device_error(number, error), DeviceState.READ_ONLY)
                for number, error in enumerate(errors)
                if error is not None
            ]
            if failures:
                self.give_up()
            elif self.given_up:  # its mark is told already
                raise GivenUp
            else:
                self._synced, self.mark = covers, reach
        finally:
            self._round = None
            ended.set()
        return failures

    def _as_device_error(self, number: int, error: BaseException) -> DeviceError:
        if isinstance(error, DeviceError):
            return error
        label = self._devices[number].label
        return DeviceFailed(f"device {label}: a sync did not end well: {error!r}", label)
