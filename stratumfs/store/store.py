"""The store: what both doors are given."""

from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager

import structlog
import trio

from stratumfs.catalog.engine import Catalog, Touched
from stratumfs.catalog.reap import reusable_bytes
from stratumfs.catalog.vacated import Vacated
from stratumfs.catalog.volumes import VolumeRow
from stratumfs.erasure.code import Code
from stratumfs.errors import DeviceError, StratumError
from stratumfs.ids import CellIndex, DeviceId, StoreId, VolumeId
from stratumfs.limits import SCRUB_PERIOD_S
from stratumfs.repair.fleet import Folders
from stratumfs.repair.remaking import Remaking
from stratumfs.repair.repairer import Repairer
from stratumfs.repair.scrub import Scrubber
from stratumfs.repair.usage import UsageWalk
from stratumfs.shards.layout import ShardName
from stratumfs.store.changes import Changes
from stratumfs.store.committer import Committer
from stratumfs.store.compact import Compactor
from stratumfs.store.compact_remote import RemoteCompactor
from stratumfs.store.defragment import Defragmenter
from stratumfs.store.fleet import Fleet
from stratumfs.store.heirs import Heirs
from stratumfs.store.imager import Imager
from stratumfs.store.landing import Writers
from stratumfs.store.ledger import CatalogLedger
from stratumfs.store.locks import InodeLocks
from stratumfs.store.maintenance import Maintenance
from stratumfs.store.multipart import Uploads
from stratumfs.store.namespace import Namespace
from stratumfs.store.naming import Naming
from stratumfs.store.objects import Objects
from stratumfs.store.observer import AccessObserver, Foreground, NullObserver
from stratumfs.store.pace import Pace
from stratumfs.store.pack import Packer
from stratumfs.store.reader import Reader
from stratumfs.store.relocate import Relocator
from stratumfs.store.remote_tier import Everywhere, Offsite
from stratumfs.store.remotes import Remotes
from stratumfs.store.space import SPACE_FIRST_S, Space
from stratumfs.store.target import RepackTarget
from stratumfs.store.writer import Writer
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import VolumeInfo
from stratumfs.volumes.reader import VolumeReader
from stratumfs.volumes.writer import VolumeWriter

_log = structlog.get_logger(__name__)


class Store:
    """Catalog and volumes, and the two ways to use them: ``objects`` and ``uploads``, and ``files``.

    Made by ``opened_store`` and used on its loop. ``read_only`` is why nothing is written, once there is a reason. New
    data goes to the tier whose name, code, space and writer are attributes here, unless ``landing`` says otherwise;
    ``writers`` has those of all tiers, and a tier that cannot be written to is no reason for the store. ``remotes`` are
    tiers on none of its devices, and ``targets`` all that bytes may be moved to.
    """

    def __init__(
        self,
        ident: StoreId,
        catalog: Catalog,
        tier: str,
        fleet: Fleet,
        nursery: trio.Nursery,
        observer: AccessObserver,
        folders: Folders | None = None,
        scrub_period_s: float = SCRUB_PERIOD_S,
        offsite: Offsite | None = None,
    ) -> None:
        self.id, self.tier, self.code, self.fleet, self.devices = ident, tier, fleet.codes[tier], fleet, fleet.devices
        self.catalog, self.observer = catalog, Foreground(observer)
        self._away: dict[VolumeId, frozenset[DeviceId]] = {}  # of volumes that are freed, where they are not gone yet
        self.naming = Naming()
        self.heirs = Heirs()
        self.offsite = Remotes(ident, catalog, self.naming, self.heirs, self.observer, scrub_period_s, nursery)
        self.remotes, self.remote_scrubbers = self.offsite.tiers, self.offsite.scrubbers
        self.volume_reader = VolumeReader(ident, Everywhere(fleet.devices, self.remotes), self._damaged)
        self.writers = {name: self._writer(name, nursery) for name in fleet.codes}
        self.writer = self.writers[tier]
        self.volume_writer, self.space = self.writer.volumes, self.writer.space
        for each in self.writers.values():
            each.inline = self.writer.inline  # of all that is in the catalog, whoever wrote it
        self.landing = Writers(self.writers, self.writer)
        self.targets: dict[str, RepackTarget] = {**self.writers}
        self._nursery = nursery
        self.reader = Reader(catalog, self.volume_reader, nursery)
        if offsite is not None:
            self.add_remote(offsite)
        remaking = Remaking()
        self.repairer = Repairer(
            ident,
            catalog,
            fleet,
            CatalogLedger(catalog),
            remaking=remaking,
            seal=self._seal,
            moved=self.reader.forget,
            folders=folders,
            accesses=lambda: self.observer.accesses,
            kept_since_ns=lambda: self.maintenance.kept_since_ns,
        )
        fleet.listeners.append(self.repairer.heed)
        self.scrubber = Scrubber(
            ident,
            catalog,
            fleet.devices,
            CatalogLedger(catalog),
            damaged=self.repairer.damaged,
            restored=self._announce,
            pace=Pace(self.observer, self._scrubbed),
            period_s=scrub_period_s,
        )
        self.repairer.seen.listeners.append(self.scrubber.made_anew)
        self.usage = UsageWalk(catalog, Pace(self.observer, lambda _: None))
        self.relocator = Relocator(ident, catalog, fleet, remaking, self._unnamed, self._relocated, self._reserve)
        self.packer = Packer(catalog, self.reader, self.writer, self.observer)
        self.compactor = Compactor(catalog, self.reader, fleet, self.writers, self.observer, self._seal, self._unnamed)
        self.remote_compactor = RemoteCompactor(catalog, self.reader, self.offsite.targets, self.observer)
        self.defragmenter = Defragmenter(catalog, self.reader, self.writer, self.writers, self.observer)
        self.changes = Changes(nursery)
        self.locks = InodeLocks()
        self.maintenance = Maintenance(
            catalog,
            self.reader,
            self.writer,
            self.writers.values(),
            self._free_shards,
            self._unlink_vacated,
            self.repairer.forget,
            self._unnamed,
            self.heirs,
        )
        self.imager = Imager(ident, catalog, fleet, self.writer, self.observer, self.maintenance.keep_not, self.naming)
        self.imager.named, self.maintenance.want_image = self.heirs.imaged, self._want_image
        self.holds = self.maintenance.holds
        self.objects = Objects(
            Committer(catalog, self.changes, self.maintenance.wake),
            self.writer,
            self.reader,
            self.holds,
            self.observer,
            landing=self.landing,
            tiered=lambda: len(self.targets) > 1,
        )
        self.uploads = Uploads(self.objects)
        self.files = Namespace(
            catalog, self.writer, self.locks, self.maintenance, self.defragmenter.note, lambda: self.landing.full
        )

    @property
    def read_only(self) -> str | None:
        return self.writer.read_only or self.catalog.failure

    @property
    def damaged(self) -> Set[tuple[VolumeId, CellIndex]]:
        """Shards with a cell that was found bad, and not mended yet."""
        return self.repairer.known

    def add_remote(self, offsite: Offsite) -> None:
        """A tier in somebody's S3, from now on."""
        self.targets[offsite.tier] = self.offsite.add(offsite, self.reader, self.writers, lambda: self.maintenance.turn)
        for writer in self.writers.values():
            writer.clean_s = offsite.clean_s

    async def add_tier(self, tier: str, code: Code) -> None:
        """A tier on devices, from now on; those are the fleet's to join."""
        self.fleet.add_tier(tier, code)
        writer = self._writer(tier, self._nursery)
        writer.clean_s = self.writer.clean_s
        writer.inline = self.writer.inline
        self.writers[tier] = self.targets[tier] = writer
        await writer.space.refresh(SPACE_FIRST_S)
        self._nursery.start_soon(writer.space.serve)

    def refuse_writes(self, reason: str) -> None:
        """From now on the store is read-only. The first reason stays."""
        _log.error("the store is read-only from now on", reason=reason)
        self.writer.refuse(reason)

    async def wait_diverged(self) -> str:
        """Return why, when what was shown is lost: whoever let others keep any of it must end."""
        return await self.catalog.wait_diverged()

    async def serve(self) -> None:
        """Background tasks, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.fleet.watch)
            for writer in self.writers.values():
                nursery.start_soon(writer.space.serve)
            nursery.start_soon(self.maintenance.serve)
            nursery.start_soon(self.repairer.serve)
            nursery.start_soon(self.scrubber.serve)
            nursery.start_soon(self.usage.serve)
            nursery.start_soon(self.packer.serve)
            nursery.start_soon(self.compactor.serve)
            nursery.start_soon(self.remote_compactor.serve)
            nursery.start_soon(self.defragmenter.serve)
            nursery.start_soon(self.imager.serve)

    def _announce(self, touched: Touched) -> None:
        self.changes.announce(touched)

    def _scrubbed(self, count: int) -> None:
        if self.scrubber.work is not None:
            self.scrubber.work.done = count

    def _writer(self, tier: str, nursery: trio.Nursery) -> Writer:
        code = self.fleet.codes[tier]
        volumes = VolumeWriter(self.id, tier, code, self.fleet, CatalogLedger(self.catalog))
        self.fleet.writers.append(volumes)
        catalog = self.catalog
        space = Space(self.fleet, tier, code, lambda: catalog.folders, lambda: catalog.read(reusable_bytes), nursery)
        return Writer(volumes, space, self.fleet, nursery, self.heirs)

    async def _seal(self, volume: VolumeId) -> None:
        for writer in self.writers.values():
            await writer.volumes.seal(volume)

    def _damaged(self, volume: VolumeInfo, index: CellIndex, error: StratumError) -> None:
        if volume.tier in self.remotes:
            self.offsite.damaged(volume, error)
            return
        if self.repairer.damaged(volume.id, index, str(error)):
            _log.warning(
                "a shard is damaged and was read around", volume=volume.id.hex(), cell=index, reason=str(error)
            )
        if isinstance(error, DeviceError):
            self.fleet.suspect(volume.devices[index], str(error))

    def _relocated(self, volume: VolumeId) -> None:
        self.reader.forget(volume)
        self.repairer.forget(volume)

    def _reserve(self, tier: str, count: int) -> None:
        self.writers[tier].reserve(count)

    def _want_image(self) -> None:
        self.imager.wanted = True

    def _unnamed(self) -> frozenset[VolumeId]:
        found = frozenset[VolumeId]().union(*(writer.unnamed() for writer in self.writers.values()))
        return found | self.offsite.unnamed()

    async def _unlink_vacated(self, file: Vacated) -> bool:
        device = self.devices.get(file.device)
        if device is None or device.struck is not None:
            return self.fleet.gone(file.device)
        return await _unlink(device, ShardName(file.volume, file.cell))

    async def _free_shards(self, row: VolumeRow) -> bool:
        if row.remote:
            return self.offsite.free(row)
        up = {device.id: device for device in self.fleet.up(row.tier)}
        away = frozenset(each for each in row.devices if each not in up and not self.fleet.gone(each))
        if self._away.get(row.id) == away:
            return False  # nobody came back since it was tried
        all_gone = True
        for cell, ident in enumerate(row.devices):
            if ident in up:
                all_gone &= await _unlink(up[ident], ShardName(row.id, CellIndex(cell)))
        if all_gone and away:
            self._away[row.id] = away
        else:
            self._away.pop(row.id, None)
        return all_gone and not away


async def _unlink(device: AttachedDevice, name: ShardName) -> bool:
    """False if it is to be tried again: no other device waits for that."""
    try:
        await device.write(device.shards.unlink, name)
    except DeviceError as error:
        _log.warning("shard_not_removed", device=device.label, shard=str(name), error=str(error))
        return False
    return True


@asynccontextmanager
async def opened_store(
    ident: StoreId,
    catalog: Catalog,
    tier: str,
    fleet: Fleet,
    *,
    observer: AccessObserver | None = None,
    read_only: str | None = None,
    folders: Folders | None = None,
    scrub_period_s: float = SCRUB_PERIOD_S,
    offsite: Offsite | None = None,
) -> AsyncIterator[Store]:
    """Run a store over an open catalog whose ``serve`` runs already, and over the devices that are there.

    *tier* takes new data; what is moved to the others of the fleet lies there. *read_only* is the reason why nothing
    may be written, if there is one; fewer than 1 + m devices that are up are one by themselves, for their tier.
    *scrub_period_s*: in it all is read and verified once; *offsite*: a tier in somebody's S3. At the end open volumes
    are sealed; the catalog is the caller's to close, afterwards.
    """
    async with trio.open_nursery() as nursery:
        listening = observer if observer is not None else NullObserver()
        store = Store(ident, catalog, tier, fleet, nursery, listening, folders, scrub_period_s, offsite)
        if read_only is not None:
            store.refuse_writes(read_only)
        await store.offsite.resume_budgets()
        for writer in store.writers.values():
            await writer.space.refresh(SPACE_FIRST_S)
        nursery.start_soon(store.serve)
        try:
            yield store
        finally:
            nursery.cancel_scope.shield = True
            store.offsite.close()
            if store.read_only is None:
                await store.offsite.save_budgets()
                for writer in store.writers.values():
                    await _close(writer)
                await _close_volumes(store.imager.volumes)
            nursery.cancel_scope.cancel()


async def _close(writer: Writer) -> None:
    if writer.read_only is not None:
        return
    await _close_volumes(writer.volumes)


async def _close_volumes(volumes: VolumeWriter) -> None:
    with trio.CancelScope(shield=True):
        try:
            await volumes.close()
        except StratumError as error:
            _log.error("a volume was left for the next start to seal", error=str(error))
