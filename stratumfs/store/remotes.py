"""The tiers of a store that lie in somebody's S3, each with what watches over it."""

from collections.abc import Callable, Mapping

import structlog
import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.volumes import VolumeRow
from stratumfs.errors import ShardCorrupt, ShardMissing, StratumError
from stratumfs.ids import StoreId, VolumeId
from stratumfs.store.compact_remote import Gain
from stratumfs.store.heirs import Heirs
from stratumfs.store.naming import Naming
from stratumfs.store.observer import Foreground
from stratumfs.store.reader import Reader
from stratumfs.store.recall_left import KeptBudget
from stratumfs.store.remake_remote import RemoteRemaker
from stratumfs.store.remote_scrub import RemoteScrubber, now_s
from stratumfs.store.remote_tier import Offsite, RemoteTier
from stratumfs.store.target import RepackTarget
from stratumfs.store.writer import Writer
from stratumfs.volumes.format import VolumeInfo

_log = structlog.get_logger(__name__)


class Remotes:
    """Used on the store's loop. *tiers*, *scrubbers* and *targets* are by the tier's name; *targets* are what they are
    compacted into. *nursery* runs what they do by themselves."""

    def __init__(
        self,
        store: StoreId,
        catalog: Catalog,
        naming: Naming,
        heirs: Heirs,
        observer: Foreground,
        scrub_period_s: float,
        nursery: trio.Nursery,
    ) -> None:
        self._store, self._catalog, self._naming, self._heirs = store, catalog, naming, heirs
        self._observer, self._scrub_period_s, self._nursery = observer, scrub_period_s, nursery
        self.tiers: dict[str, RemoteTier] = {}
        self.scrubbers: dict[str, RemoteScrubber] = {}
        self.targets: dict[str, tuple[RepackTarget, Gain]] = {}
        self._budgets: dict[str, KeptBudget] = {}

    def add(
        self, offsite: Offsite, reader: Reader, writers: Mapping[str, Writer], turn: Callable[[], trio.Lock]
    ) -> RemoteTier:
        """One more. What is damaged there is made anew from what *reader* finds for *writers*, in the *turn* of
        maintenance."""
        name, inline = offsite.tier, next(iter(writers.values())).inline
        tier = RemoteTier(self._store, self._catalog, offsite, inline, self._naming, self._nursery, self._heirs)
        remake = RemoteRemaker(self._catalog, reader, writers, turn).remake
        self.tiers[name], self.targets[name] = tier, (tier, offsite.gain)
        self.scrubbers[name] = RemoteScrubber(tier, self._catalog, self._observer, self._scrub_period_s, remake)
        self._budgets[name] = KeptBudget(name, self._catalog, offsite.budget)
        for serve in (tier.serve, self.scrubbers[name].serve, self._budgets[name].serve):
            self._nursery.start_soon(serve)
        return tier

    def damaged(self, volume: VolumeInfo, error: StratumError) -> None:
        """A reader has met *error* in a volume of one of them."""
        bad, reason = self.tiers[volume.tier].bad, str(error)
        if isinstance(error, ShardCorrupt):
            new = bad.meet(volume.id, reason, now_s())
        else:
            new = isinstance(error, ShardMissing) and bad.miss(volume.id, reason)
        if new:
            _log.error("a volume elsewhere is damaged", volume=volume.id.hex(), reason=reason)
            self.scrubbers[volume.tier].met()

    def free(self, row: VolumeRow) -> bool:
        """Whether the volume's object is gone; if it is not, it will be deleted by and by."""
        return row.tier in self.tiers and self.tiers[row.tier].free(row)

    def unnamed(self) -> frozenset[VolumeId]:
        """Volumes that are made just now, which no extent names."""
        return frozenset[VolumeId]().union(*(tier.unnamed() for tier in self.tiers.values()))

    async def resume_budgets(self) -> None:
        """Go on with what the last owner left of the budgets of recall. Raises: StratumError."""
        for budget in self._budgets.values():
            await budget.resume()

    async def save_budgets(self) -> None:
        for budget in self._budgets.values():
            await budget.save()

    def close(self) -> None:
        for tier in self.tiers.values():
            tier.close()
