"""Whose the objects at a remote are: a marker there names the store, and a random number that the catalog knows.

An owner takes a new number before its first upload or delete, and looks again before each of them. So of two stores
that were one, a copy or what a backup brought back, the second to write finds a number that it does not know, and
deletes nothing any more: the objects may be the other's. A copy that would be the first finds that none of its folders
is one that the marker was written from. Only a whole machine that is copied is not told apart.
"""

import math
import secrets

import msgspec
import trio

from stratumfs.catalog.claims import Claims, announce_claim, claimed_since, claims, confirm_claim, renew_claim
from stratumfs.catalog.engine import Catalog
from stratumfs.errors import DeviceError, ShardMissing, StoreReadOnly
from stratumfs.ids import StoreId
from stratumfs.shards.remote import Remote
from stratumfs.shards.remote_shards import folder
from stratumfs.threads import in_thread

_MARKER = "owner"
_NUMBER_BITS = 63


class Marker(msgspec.Struct, frozen=True):
    """What lies beside the volumes of a store.

    number  drawn by the owner that may delete there
    places  its store folder and devices, see `Offsite`
    """

    store: str
    number: int
    places: tuple[str, ...] = ()


class Claim:
    """One a remote tier, on the loop. ``lost`` is why nothing is written or deleted there, once that is so."""

    def __init__(
        self,
        store: StoreId,
        tier: str,
        catalog: Catalog,
        remote: Remote,
        places: frozenset[str],
        threads: trio.CapacityLimiter,
    ) -> None:
        self.lost: str | None = None
        self._store, self._tier, self._catalog, self._remote = store, tier, catalog, remote
        self._places, self._threads = places, threads
        self._number: int | None = None
        self._turn = trio.Lock()

    async def check(self, *, take: bool = False) -> None:
        """Return when the marker is ours, as of now. *take*: whatever it says, for an administrator says so.

        Raises: StoreReadOnly if it is another's; DeviceError if nobody could look.
        """
        async with self._turn:
            known = await self._catalog.read(claims, self._tier)
            found = await in_thread(self._found, limiter=self._threads, abandon_on_cancel=True)
            self.lost = None if take else self._doubt(known, found)
            if self.lost is not None:
                raise StoreReadOnly(self.lost)
            if self._number is None or take or found is None:
                if found is not None and found.number == known.next:
                    # It lies there, whatever became of who wrote it; the next one takes its place in the catalog.
                    await self._catalog.commit(confirm_claim, self._tier, found.number)
                if take:
                    await self._catalog.commit(renew_claim, self._tier)
                await self._take()

    def _doubt(self, known: Claims, found: Marker | None) -> str | None:
        """Why what lies there may be another's."""
        label = self._remote.label
        if found is None:
            if known.kept is None:
                return None
            return f"nothing at {label} says any more whose the objects there are: the marker of this store is gone"
        if found.store != self._store.hex() or found.number not in (known.kept, known.next):
            return (
                f"what lies at {label} is another's by now: a copy of this store, or what a backup of it brought back, "
                f"has written there"
            )
        if self._places.isdisjoint(found.places):
            return (
                f"what lies at {label} may be another's: this store was copied or moved, for it was written from other "
                f"folders or by another machine"
            )
        return None

    async def _take(self) -> None:
        number = secrets.randbits(_NUMBER_BITS)
        await self._catalog.commit(announce_claim, self._tier, number)
        marker = msgspec.json.encode(Marker(self._store.hex(), number, tuple(sorted(self._places))))
        name = f"{folder(self._store)}{_MARKER}"
        await in_thread(self._remote.put, name, marker, limiter=self._threads)
        put_s = None
        if await self._catalog.read(claimed_since, self._tier) is None:
            put_s = await in_thread(self._put_s, name, limiter=self._threads, abandon_on_cancel=True)
        await self._catalog.commit(confirm_claim, self._tier, number, put_s)
        self._number = number

    def _put_s(self, name: str) -> int | None:
        """When, by the clock of the service; None if it does not say: what no row knows is kept then. Blocking."""
        try:
            times = [each.put_s for each in self._remote.listed(name) if each.name == name]
        except DeviceError:
            return None
        return math.ceil(times[0]) if times and times[0] > 0 else None

    def _found(self) -> Marker | None:
        name = f"{folder(self._store)}{_MARKER}"
        try:
            return msgspec.json.decode(self._remote.get(name, 0, self._remote.size(name)), type=Marker)
        except ShardMissing:
            return None
        except msgspec.DecodeError as error:
            raise DeviceError(f"{self._remote.label}: {name} is damaged: {error}", self._remote.label) from error
