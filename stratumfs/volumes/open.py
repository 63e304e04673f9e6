"""One volume while it is open for writing."""

from collections.abc import Callable, Sequence

import trio

from stratumfs.erasure.code import codec_for
from stratumfs.erasure.stripe import cell_size_for
from stratumfs.errors import DeviceError, DeviceFailed, DeviceFull
from stratumfs.ids import Buffer, CellIndex, Nonce, StoreId, StripeNo, random_nonce
from stratumfs.limits import STRIPE_PAYLOAD_MAX
from stratumfs.location import NONCE_MASK, Location
from stratumfs.shards.backend import OpenShard
from stratumfs.volumes.append import ShardFailure, append_stripe, finish_shard, preallocate, toc_holders, worst
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.fanout import in_threads
from stratumfs.volumes.format import HEADER_SIZE, StripeAt, VolumeInfo
from stratumfs.volumes.toc import PackedToc


class OpenVolume:
    """Shards that are appended to side by side; every cell of a stripe lies at the same position in its shard.

    Belongs to one `VolumeWriter` and lives on its loop. Places are given out without an await (`_reserve`), so appends
    of many tasks run beside each other and never overlap. A place is written once: when a write fails, or nobody knows
    whether it did, the volume takes no more appends; what was written before can still be synced. When a datasync fails
    it takes no more syncs either, for a second one that succeeds proves nothing.

    closed  its shards are let go of: sealed, but for the ledger, or given up
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
        self.write_failure: DeviceError | None = None
        self.sync_failure: DeviceError | None = None
        self._store = store
        self._devices = devices
        self._shards = shards
        self._codec = codec_for(info.code)
        self._room = room  # bytes preallocated in each shard
        self._growing = trio.Lock()
        self._last: StripeAt | None = None  # the stripe that ends at `end`, if it is full
        self._appending = 0
        self._quiet = trio.Event()
        self._finished = 0  # appends that have been written
        self._synced = 0  # of these, how many are on stable storage; counted, for a round covers all that finished
        self._round: trio.Event | None = None

    @property
    def appending(self) -> bool:
        """Whether an append is under way."""
        return self._appending > 0

    def accepts(self) -> bool:
        """Whether it takes more appends."""
        return self.write_failure is None and self.sync_failure is None

    def sealable(self) -> bool:
        """Whether all that it holds is known: nothing failed, or only for want of room."""
        return self.sync_failure is None and (self.write_failure is None or isinstance(self.write_failure, DeviceFull))

    async def append(
        self,
        payload: Buffer,
        after: Location | None,
        step: int,
        threads: trio.CapacityLimiter,
        placed: Callable[[Location], None] | None = None,
    ) -> tuple[Location, list[ShardFailure]]:
        """Write *payload* as one stripe; where it lies, and which devices failed (then it counts as not written).

        placed: told at once where it comes to lie, so that the next stripe of a stream can be placed behind it.
        step: bytes by which shards are preallocated. Nothing here may be cut short by cancellation: it would leave a
        place reserved and perhaps half written. Raises: DeviceFull, DeviceFailed if another append has met it, and
        reports it.
        """
        at = self._reserve(len(payload), after)
        location = Location(self.info.id, at.stripe, at.position, at.cell_size, 0, at.nonce)
        self._appending += 1
        failure: DeviceError | None = DeviceFailed(f"a write to volume {self.info.id.hex()} did not end well")
        try:
            if placed is not None:
                placed(location)
            with trio.CancelScope(shield=True):
                failures = await self._make_room(at.position + HEADER_SIZE + at.cell_size, step, threads)
                if not failures:
                    failures = await trio.to_thread.run_sync(
                        append_stripe, self._store, self.info, self._codec, at, payload, self._shards, limiter=threads
                    )
            failure = worst(failures)
        except DeviceError as error:
            failure = error
            raise
        finally:
            self._ended(failure)
        return location, failures

    async def sync(self) -> list[ShardFailure]:
        """Return when all appends that have finished by now are on stable storage on every shard.

        Waiters share rounds: who arrives while one runs waits for the next, which one of them runs for all.
        Returns the failures if this call ran the round that met them. Raises: DeviceFailed if another did.
        """
        need = self._finished
        while self._synced < need:
            if self.sync_failure is not None:
                raise DeviceFailed(str(self.sync_failure), self.sync_failure.device) from self.sync_failure
            if self._round is not None:
                await self._round.wait()
            elif failures := await self._run_round():
                return failures
        return []

    async def finish(self, toc: PackedToc) -> list[ShardFailure]:
        """Cut and sync all shards, with *toc* on those that get it, and close them if nothing failed."""
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
        if failures:
            self.sync_failure = worst(failures)
        else:
            self.close()
        return failures

    async def wait_quiet(self) -> None:
        """Return when no append is under way."""
        while self._appending:
            await self._quiet.wait()

    def close(self) -> None:
        """Let go of the shards as they are."""
        self.closed = True
        for shard in self._shards:
            shard.close()

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

    async def _make_room(self, end: int, step: int, threads: trio.CapacityLimiter) -> list[ShardFailure]:
        """Preallocate up to *end* at least, before anybody writes there (see `OpenShard.preallocate`)."""
        if end <= self._room:
            return []
        async with self._growing:
            if end <= self._room:
                return []
            if self.write_failure is not None:  # somebody else's, who reports it
                raise type(self.write_failure)(str(self.write_failure), self.write_failure.device)
            room = max(end, self._room + step)
            failures = await trio.to_thread.run_sync(preallocate, self._shards, self._room, room, limiter=threads)
            if not failures:
                self._room = room
            return failures

    def _ended(self, failure: DeviceError | None) -> None:
        self.used_at = trio.current_time()
        self._appending -= 1
        if failure is None:
            self._finished += 1
        elif self.write_failure is None or isinstance(self.write_failure, DeviceFull):
            self.write_failure = failure
        if not self._appending:
            self._quiet.set()
            self._quiet = trio.Event()

    async def _run_round(self) -> list[ShardFailure]:
        covers = self._finished
        ended = self._round = trio.Event()
        try:
            # One round of a volume at a time, so a device has at most VOLUMES_OPEN_MAX of these threads.
            errors = await in_threads([shard.datasync for shard in self._shards])
            failures = [
                ShardFailure(CellIndex(number), self._as_device_error(number, error))
                for number, error in enumerate(errors)
                if error is not None
            ]
            if failures:
                self.sync_failure = worst(failures)
            else:
                self._synced = covers
        finally:
            self._round = None
            ended.set()
        return failures

    def _as_device_error(self, number: int, error: BaseException) -> DeviceError:
        if isinstance(error, DeviceError):
            return error
        label = self._devices[number].label
        return DeviceFailed(f"device {label}: a sync did not end well: {error!r}", label)
