"""What the next owner does for one that crashed: seal the volumes that were left open, behind their last named stripe,
and move aside what no row knows.

Before the first door opens, and only where the store may be written to.
"""

from collections.abc import Mapping

import structlog
import trio

from stratumfs.catalog.engine import Catalog
from stratumfs.catalog.untold import note_untold
from stratumfs.catalog.volumes import OPEN, VolumeRow, readable_extents_in, volumes
from stratumfs.errors import DeviceFailed, StratumError
from stratumfs.ids import DeviceId, StoreId
from stratumfs.limits import CODING_THREADS, TRANSACTION_ROWS_MAX
from stratumfs.repair.quarantine import quarantine_unknown
from stratumfs.repair.rows import volume_info
from stratumfs.repair.seal import seal_left_open
from stratumfs.store.ledger import CatalogLedger
from stratumfs.volumes.attached import AttachedDevice

_log = structlog.get_logger(__name__)


async def mend(
    store: StoreId, catalog: Catalog, devices: Mapping[DeviceId, AttachedDevice]
) -> dict[DeviceId, DeviceFailed]:
    """Do all of it, on *devices*, which are those that are up. Returns who failed in this: they are to be struck.

    Raises: what the catalog raises.
    """
    failed = await _seal_volumes_left_open(store, catalog, devices)
    well = {ident: device for ident, device in devices.items() if ident not in failed}
    return failed | _failed(await quarantine_unknown(catalog, well))


async def _seal_volumes_left_open(
    store: StoreId, catalog: Catalog, devices: Mapping[DeviceId, AttachedDevice]
) -> dict[DeviceId, DeviceFailed]:
    threads = trio.CapacityLimiter(CODING_THREADS)
    ledger = CatalogLedger(catalog)
    count = 0
    failed: dict[DeviceId, DeviceFailed] = {}
    while rows := await catalog.read(volumes, OPEN, b"", TRANSACTION_ROWS_MAX):
        for row in rows:
            length, stripes = await _named_end(catalog, row)
            if row.remote:  # it was being made: nothing names it, and it goes as all that are empty
                await ledger.sealed(row.id, length, stripes)
                continue
            if not row.placed:
                _log.error("volume_sealed_without_a_table", volume=row.id.hex(), error="rows of its shards are lost")
                await catalog.commit(note_untold)
                await ledger.sealed(row.id, length, stripes)
                continue
            info = volume_info(row)
            failures = await seal_left_open(store, info, length, stripes, devices, ledger, threads)
            for error in failures.values():
                _log.warning("volume_sealed_without_a_table", volume=row.id.hex(), error=str(error))
            if len(failures) >= sum(each in devices for each in info.devices):
                await catalog.commit(note_untold)
            failed |= _failed(failures)
            count += 1
    if count:
        _log.info("volumes_sealed", count=count, reason="the last owner left them open")
    return failed


def _failed(errors: Mapping[DeviceId, StratumError]) -> dict[DeviceId, DeviceFailed]:
    """A full one has not."""
    return {ident: error for ident, error in errors.items() if isinstance(error, DeviceFailed)}


async def _named_end(catalog: Catalog, row: VolumeRow) -> tuple[int, int]:
    """Where, in each shard, the cells of the last stripe end that any extent names; and how many stripes that makes.

    All extents are asked, for one that begins earlier may reach further: copies of objects share their bytes.
    """
    length = stripes = 0
    after: tuple[int, int] | None = (-1, -1)
    while after is not None:
        chunk, after = await catalog.read(readable_extents_in, row.id, after, TRANSACTION_ROWS_MAX)
        for extent in chunk:
            assert extent.location is not None
            last = extent.location.advanced(extent.length - 1)
            length = max(length, last.position + last.stride)
            stripes = max(stripes, last.stripe + 1)
        await trio.lowlevel.checkpoint()
    return length, stripes
