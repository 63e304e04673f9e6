"""How many losses data survives now: by rows, by which devices are up, and by what looks at these have found."""

from collections.abc import Collection, Iterable, Sequence

from stratumfs.catalog.volumes import OPEN, SEALED, VolumeRow, volumes
from stratumfs.ids import CellIndex, DeviceId
from stratumfs.limits import ANSWER_WAIT_S, TRANSACTION_ROWS_MAX
from stratumfs.repair.rows import volume_info
from stratumfs.store.store import Store
from stratumfs.volumes.presence import Present, shards_present
from stratumfs.volumes.survival import Shards, Survival, survival

Good = tuple[int, frozenset[DeviceId]]
"""k of a volume, and the devices whose shards of it are counted upon. Many volumes are alike."""


def good_shards(store: Store, row: VolumeRow, missing: Collection[CellIndex], away: Collection[DeviceId] = ()) -> Good:
    """Of one volume: those whose device is up and not *away*, that are not *missing*, and not known to be damaged."""
    counted = store.fleet.counted()
    return row.k, frozenset(
        device
        for cell, device in enumerate(row.devices)
        if device in counted
        and device not in away
        and cell not in missing
        and (row.id, CellIndex(cell)) not in store.damaged
    )


async def look_for(
    store: Store, rows: Sequence[VolumeRow], wait_s: float, silent: Collection[DeviceId] = ()
) -> tuple[Present, set[DeviceId]]:
    """As `shards_present`, of devices that are not struck; those that are *silent* are not asked."""
    asked = {ident: device for ident, device in store.fleet.counted().items() if ident not in silent}
    return await shards_present(asked, [volume_info(row) for row in rows if row.placed], wait_s)


async def survives_by_asking(store: Store) -> Survival:
    """Of all volumes with data on the store's devices, by what these say now of the files of each; one that does not
    say is lost."""
    found, silent = set[Good](), set[DeviceId]()
    for state in (OPEN, SEALED):
        after = b""
        while rows := await store.catalog.read(volumes, state, after, TRANSACTION_ROWS_MAX):
            after = rows[-1].id
            present, mute = await look_for(store, rows, ANSWER_WAIT_S, silent)
            silent |= mute
            for row in filter(lambda each: each.live and not each.remote, rows):
                cells = range(row.k + row.m)
                missing = {CellIndex(cell) for cell in cells if cell not in present.get(row.id, ())}
                found.add(good_shards(store, row, missing, silent))
    return survives(store, found, silent)


def survives(store: Store, good: Iterable[Good], away: Collection[DeviceId] = ()) -> Survival:
    """Of these volumes, beside the catalog. Where there are none: what the next one of the store survives."""
    disks = {ident: device.disk for ident, device in store.fleet.counted().items()}
    found = [Shards(k, tuple(disks[device] for device in devices if device in disks)) for k, devices in good]
    if not found:
        up = [device.disk for device in store.fleet.up(store.tier) if device.id not in away][: store.code.n]
        found.append(Shards(max(1, len(up) - store.code.m), tuple(up)))
    return survival(found, store.catalog.disks or (None,))
