"""The store: what both doors are given."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import structlog
import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.volumes import VolumeRow
from stratumfs.erasure.code import Code
from stratumfs.errors import DeviceError, StoreReadOnly
from stratumfs.ids import CellIndex, DeviceId, StoreId, VolumeId
from stratumfs.shards.layout import ShardName
from stratumfs.store.changes import Changes
from stratumfs.store.committer import Committer
from stratumfs.store.ledger import CatalogLedger
from stratumfs.store.locks import InodeLocks
from stratumfs.store.maintenance import Maintenance
from stratumfs.store.multipart import Uploads
from stratumfs.store.namespace import Namespace
from stratumfs.store.objects import Objects
from stratumfs.store.observer import AccessObserver, NullObserver
from stratumfs.store.reader import Reader
from stratumfs.store.space import Space
from stratumfs.store.writer import Writer
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.reader import VolumeReader
from stratumfs.volumes.writer import VolumeWriter

_log = structlog.get_logger(__name__)


class Store:
    """Catalog and volumes of one tier, and the two ways to use them: ``objects`` and ``uploads``, and ``files``.

    Made by ``opened_store`` and used on its loop. ``read_only`` is why nothing is written, once there is a reason.
    """

    def __init__(
        self,
        ident: StoreId,
        catalog: Catalog,
        code: Code,
        tier: str,
        devices: Mapping[DeviceId, AttachedDevice],
        nursery: trio.Nursery,
        observer: AccessObserver,
    ) -> None:
        self.id, self.tier, self.code, self.devices = ident, tier, code, devices
        self.catalog, self.observer = catalog, observer
        self.damaged: set[tuple[VolumeId, CellIndex]] = set()
        self.volume_writer = VolumeWriter(ident, tier, code, devices, CatalogLedger(catalog), self._failed)
        self.volume_reader = VolumeReader(ident, devices, self._damaged)
        self.space = Space(devices, code, catalog.folder, nursery)
        self.writer = Writer(self.volume_writer, self.space, nursery)
        self.reader = Reader(catalog, self.volume_reader, nursery)
        self.changes = Changes(nursery)
        self.locks = InodeLocks()
        self.maintenance = Maintenance(catalog, self.writer, self._free_shards)
        self.holds = self.maintenance.holds
        self.objects = Objects(
            Committer(catalog, self.changes, self.maintenance.wake), self.writer, self.reader, self.holds, observer
        )
        self.uploads = Uploads(self.objects)
        self.files = Namespace(catalog, self.writer, self.locks, self.maintenance)

    @property
    def read_only(self) -> str | None:
        return self.writer.read_only or self.catalog.failure

    def refuse_writes(self, reason: str) -> None:
        """From now on the store is read-only. The first reason stays."""
        if self.writer.read_only is None:
            _log.error("the store is read-only from now on", reason=reason)
            self.writer.read_only = reason

    async def serve(self) -> None:
        """Background tasks, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.space.serve)
            nursery.start_soon(self.maintenance.serve)

    def _failed(self, device: DeviceId, error: DeviceError) -> None:
        label = self.devices[device].label if device in self.devices else device.hex()
        self.refuse_writes(f"device {label} failed: {error}")

    def _damaged(self, volume: VolumeId, index: CellIndex, reason: str) -> None:
        if (volume, index) not in self.damaged:
            self.damaged.add((volume, index))
            _log.warning("a shard is damaged and was read around", volume=volume.hex(), cell=index, reason=reason)

    async def _free_shards(self, row: VolumeRow) -> bool:
        if self.reader.in_use(row.id):
            return False
        for cell, ident in enumerate(row.devices):
            device = self.devices.get(ident)
            if device is None:
                return False
            await device.write(device.shards.unlink, ShardName(row.id, CellIndex(cell)))
        return True


@asynccontextmanager
async def opened_store(
    ident: StoreId,
    catalog: Catalog,
    code: Code,
    tier: str,
    devices: Mapping[DeviceId, AttachedDevice],
    *,
    observer: AccessObserver | None = None,
    read_only: str | None = None,
) -> AsyncIterator[Store]:
    """Run a store over an open catalog whose ``serve`` runs already, and over the devices that are up.

    *read_only* is the reason why nothing may be written, if there is one; fewer than n devices are one by themselves.
    At the end open volumes are sealed; the catalog is the caller's to close, afterwards.
    """
    async with trio.open_nursery() as nursery:
        store = Store(ident, catalog, code, tier, devices, nursery, observer or NullObserver())
        if len(devices) < code.n and read_only is None:
            read_only = f"{len(devices)} of {code.n} devices of tier {tier} are there"
        if read_only is not None:
            store.refuse_writes(read_only)
        await store.space.refresh()
        nursery.start_soon(store.serve)
        try:
            yield store
        finally:
            nursery.cancel_scope.shield = True
            if store.read_only is None:
                with trio.CancelScope(shield=True):
                    try:
                        await store.volume_writer.close()
                    except (DeviceError, StoreReadOnly) as error:
                        _log.error("a volume was left for the next start to seal", error=str(error))
            nursery.cancel_scope.cancel()
