"""Somebody's S3 as readers of volumes see it, and a volume that is to go there."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio
from blake3 import blake3

from stratumfs.erasure.checksum import digest
from stratumfs.erasure.code import Code
from stratumfs.erasure.stripe import cell_size_for
from stratumfs.errors import ColdUnavailable, DataError, DeviceError, DeviceUnasked, StoreBusy
from stratumfs.ids import Buffer, CellIndex, DeviceId, Nonce, StoreId, StripeNo, random_nonce
from stratumfs.limits import REMOTE_READS_WAITING_MAX, REMOTE_THREADS, STRIPE_PAYLOAD_MAX
from stratumfs.location import NONCE_MASK, Location
from stratumfs.shards.backend import ShardReader
from stratumfs.threads import in_thread
from stratumfs.volumes.breaker import Breaker
from stratumfs.volumes.format import CellHeader, VolumeInfo, pack_headers
from stratumfs.volumes.toc import PackedToc

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

REMOTE_CODE = Code(1, 0)
"""Of volumes there: who keeps them sees to their safety."""


def remote_id(store: StoreId, tier: str) -> DeviceId:
    """What rows of volumes there name as their device. It follows from the store, for a catalog that is made anew."""
    return DeviceId(blake3(store + tier.encode(), derive_key_context="stratumfs 2026 remote tier").digest(16))


class RemoteSource:
    """A `Source` that is none of the store's devices: nobody strikes it, hedges it or rebuilds for it.

    It has threads of its own, and whoever waits longer than *deadline_s*, for one of them too, goes on with an error;
    the thread keeps its slot until the call returns. While the service fails, reads are refused at once (`Breaker`).
    Lives on the loop.
    """

    in_doubt = False

    def __init__(self, ident: DeviceId, label: str, shards: ShardReader, deadline_s: float) -> None:
        self.id, self.label, self.shards = ident, label, shards
        self.reads = self.failures = 0
        self._deadline_s = deadline_s
        self._threads = trio.CapacityLimiter(REMOTE_THREADS)
        self._waiting = 0
        self._breaker, self._reason = Breaker(), ""

    def stalled(self, after_s: float) -> bool:
        return False

    async def read(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Raises: ColdUnavailable, DeviceUnasked; StoreBusy where too many wait already; ShardCorrupt, ShardMissing."""
        if self._waiting >= REMOTE_READS_WAITING_MAX:
            raise StoreBusy(f"{self._waiting} reads wait for {self.label} already")
        if (rest_s := self._breaker.refuses_s(trio.current_time())) > 0:
            raise ColdUnavailable(f"{self._reason}; it is asked again in {rest_s:.0f} s")
        tried = self._breaker.begin()
        self._waiting += 1
        self.reads += 1
        try:
            with trio.move_on_after(self._deadline_s):
                found = await in_thread(fn, *args, limiter=self._threads, abandon_on_cancel=True)
                self._breaker.answered()
                return found
            raise self._failed(f"{self.label} has not answered within {self._deadline_s:.0f} s", tried)
        except DeviceUnasked:
            raise
        except DeviceError as error:
            raise self._failed(str(error), tried) from error
        except DataError:
            self._breaker.answered()
            raise
        finally:
            self._waiting -= 1
            self._breaker.left(tried)

    def _failed(self, reason: str, tried: bool) -> ColdUnavailable:
        self.failures += 1
        self._reason = reason
        self._breaker.failed(trio.current_time(), tried)
        return ColdUnavailable(reason)


class LockedSource:
    """A `Source` of what cannot be read, for want of a key."""

    in_doubt = False
    reads = failures = 0

    def __init__(self, reason: str) -> None:
        self._reason = reason

    @property
    def shards(self) -> ShardReader:
        raise ColdUnavailable(self._reason)

    def stalled(self, after_s: float) -> bool:
        return False

    async def read(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        raise ColdUnavailable(self._reason)


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
