"""One epoch after the other: which is in force, how the next one is begun, and who may count at the next opening."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from stratumfs.catalog import chains
from stratumfs.catalog.calls import Calls, Failures, blamed
from stratumfs.catalog.chains import Chain, Manifest
from stratumfs.catalog.epochs import Epoch, Named, may_begin, next_epoch
from stratumfs.catalog.identities import Identities
from stratumfs.catalog.places import Place
from stratumfs.errors import StoreReadOnly
from stratumfs.ids import PlaceId


class Succession:
    """Used under the rounds' turn.

    places  those that can be reached, kept by who calls this
    files   small files of the store folder that travel with the catalog, see `Manifest`
    """

    def __init__(
        self, calls: Calls, places: Mapping[PlaceId, Place], identities: Identities, files: Mapping[str, str]
    ) -> None:
        self._calls, self._places, self._identities, self._files = calls, places, identities, files
        self._may_count = self.epoch.members
        self.proven: Epoch | None = None
        """The one in force, once more than half of all places have said so here: of the one that an opening goes on
        from a single file may have known."""

    @property
    def epoch(self) -> Epoch:
        """The one in force."""
        return self._identities.epoch

    @property
    def may_count(self) -> frozenset[PlaceId]:
        """Whose chain the next opening may choose: members of the epoch in force, and of each that was begun since and
        may have a manifest, for that descends from it. Whatever is answered, all of them must hold."""
        return self._may_count

    async def begin(self, members: Mapping[PlaceId, Chain], listed: frozenset[PlaceId]) -> Failures:
        """See `epochs`: begun, manifests, in force. Returns places that failed in this: then another one is due.

        Raises: StoreReadOnly.
        """
        epoch = next_epoch(self.epoch, self._identities.all_known, members, listed)
        untold = await self._identities.change(self._places, lambda named: replace(named, begun=epoch))
        told = self._who_says(lambda named: named.begun, epoch)
        self.demand_majority(listed, told)
        self._may_count |= epoch.members
        if failed := await self._write_manifests(epoch, members):
            return failed
        for some in (told.intersection(members), told.difference(members)):  # see `epochs`
            untold |= await self._identities.change(some, lambda named: replace(named, begun=epoch, in_force=epoch))
        self.demand_majority(listed, self._who_says(lambda named: named.in_force, epoch))
        self._identities.epoch = self.proven = epoch
        self._may_count = epoch.members
        return blamed(untold)

    def demand_majority(self, listed: frozenset[PlaceId], told: Collection[PlaceId]) -> None:
        """Raises: StoreReadOnly if *told* are too few to begin an epoch with the places *listed*."""
        if not may_begin(self.epoch, listed, told):
            raise StoreReadOnly(
                f"{len(told)} of {len(listed)} places take writes, and more than half must: attach more devices"
            )

    def _who_says(self, what: Callable[[Named], Epoch], epoch: Epoch) -> frozenset[PlaceId]:
        """By their own files, and not by who was to be told: a place may come and go meanwhile."""
        return frozenset(place for place in self._places if what(self._identities.known(place)).id == epoch.id)

    async def _write_manifests(self, epoch: Epoch, members: Mapping[PlaceId, Chain]) -> dict[PlaceId, Exception]:
        async def one(place: PlaceId) -> None:
            chain = members[place]
            manifest = Manifest(epoch, chain.folder, chain.form, chain.salt, self._files)
            await self._calls.short(place, chains.write_manifest, self._places[place].folder, manifest)

        return await self._calls.each(members, one)
