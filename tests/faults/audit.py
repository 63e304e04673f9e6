"""Whether the rows of a catalog agree with each other and with what lies on the devices."""

from collections.abc import Mapping
from pathlib import Path

import trio

from stratumfs.catalog.engine import Catalog, Transaction
from stratumfs.catalog.invariants import INVARIANTS, integrity, look
from stratumfs.catalog.rowcheck import look_at_extents, overlapping
from stratumfs.catalog.vacated import vacated
from stratumfs.catalog.volumes import FREED, IMAGE, OPEN, SEALED, VolumeRow, readable_extents_in, volumes
from stratumfs.erasure.code import Code
from stratumfs.errors import StratumError
from stratumfs.ids import CellIndex, DeviceId, ExtentId
from stratumfs.repair.verify import verify_volume
from stratumfs.shards.layout import ShardName, parse_file_name
from stratumfs.shards.remote_shards import folder, object_name
from stratumfs.store.store import Store
from stratumfs.volumes.append import toc_holders
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import StripeAt, VolumeInfo, stripes_of
from stratumfs.volumes.walk import read_toc
from tests.faults.service import UNKNOWN_VOLUME

_TIDY: Mapping[str, str] = {
    "orphans": "select ino from orphan",
    "voids": "select ino from void",
    "moves that have not ended": "select path from move where ended_ns is null",
    "parts of uploads that are done": (
        "select p.upload from part p join upload u on u.id = p.upload where u.state = 'done'"
    ),
    "empty volumes that are not freed": (
        "select hex(id) from volume where state = 'sealed' and live = 0"
        " and not exists (select 1 from clean where cold = volume.id)"
    ),
}
"""Queries that find nothing once everything is tidied, if nobody holds anything; at any time the product's own do."""


async def audit_rows(store: Store, *, tidy: bool = False) -> list[str]:
    """What is wrong with the rows, a line each. *tidy*: all was reaped, cleared and freed, and nothing is held."""
    return await store.catalog.read(_rows, _TIDY if tidy else {}) + await store.catalog.read(_extents)


async def audit_shards(store: Store, tables_missing: int = 0) -> list[str]:
    """What is wrong on the devices: every cell that a row names is read. *tables_missing*: so many tables of contents
    of each sealed volume may be missing; m+1 were written, and one is enough. A volume that was sealed by a strike has
    none."""
    wrong = []
    for state in (OPEN, SEALED):
        for row in await store.catalog.read(volumes, state):
            if row.remote:
                wrong += await _verify_remote(store, row)
                continue
            wrong += await _verify(store, row)
            struck = any(store.devices[each].struck for each in row.devices)
            tables = _wrong_tables(store, row) if row.state == SEALED and not struck else []
            wrong += tables if len(tables) > tables_missing else []
    wrong += await _objects(store)
    written = {ident: device for ident, device in store.devices.items() if not device.struck}
    return wrong + await _shards(store.catalog, written)


def _rows(tx: Transaction, queries: Mapping[str, str]) -> list[str]:
    wrong = [f"{each.text}: {rows}" for each in INVARIANTS if (rows := look(tx, each))]
    wrong += [f"{what}: {rows}" for what, query in queries.items() if (rows := tx.all(query))]
    return wrong + [f"integrity_check: {line}" for line in integrity(tx)]


def _extents(tx: Transaction) -> list[str]:
    """Each agrees with its own sum; those that no void hides do not overlap."""
    looked = look_at_extents(tx, ExtentId(0), 1 << 30)
    overlaps, _ = overlapping(tx, limit=1 << 30)
    return [bad.reason for bad in looked.bad] + [f"extents of inode {row[0]} overlap at {row[1]}" for row in overlaps]


async def _verify(store: Store, row: VolumeRow) -> list[str]:
    """All cells of all stripes that rows name."""
    code = Code(row.k, row.m)
    info = VolumeInfo(row.id, row.tier, code, row.devices)
    stripes: set[StripeAt] = set()
    extents, more = await store.catalog.read(readable_extents_in, row.id, (-1, -1), 10_000)
    assert more is None
    for extent in extents:
        assert extent.location is not None
        stripes.update(stripes_of(extent.location, extent.length))
    ordered = sorted(stripes, key=lambda at: at.position)
    damage = await verify_volume(store.id, info, ordered, store.devices, trio.CapacityLimiter(1))
    return [f"volume {row.id.hex()}: {each}" for each in damage]


async def _verify_remote(store: Store, row: VolumeRow) -> list[str]:
    """All bytes that rows name, and the table of contents, from where they are."""
    wrong: list[str] = []
    extents, more = await store.catalog.read(readable_extents_in, row.id, (-1, -1), 10_000)
    assert more is None
    try:
        for extent in extents:
            assert extent.location is not None
            await store.reader.run(extent.location, extent.length)
        source = store.remotes[row.tier].source
        await source.read(read_toc, source.shards, ShardName(row.id, CellIndex(0)))
    except StratumError as error:
        wrong.append(f"volume {row.id.hex()}: {error}")
    return wrong


async def _objects(store: Store) -> list[str]:
    """Each object of the cold tier is a volume's."""
    wrong = []
    for tier in store.remotes.values():
        offsite = tier.offsite
        assert offsite.master is not None
        rows = [row for state in (OPEN, SEALED, FREED) for row in await store.catalog.read(volumes, state, b"", 10_000)]
        known = {object_name(store.id, offsite.master, row.id) for row in rows if row.tier == tier.tier}
        known.add(object_name(store.id, offsite.master, UNKNOWN_VOLUME))  # left to the next look
        there = {name for name in offsite.remote.names(folder(store.id)) if "/volumes/" in name}
        wrong += [f"{tier.label}: no row knows {name}" for name in there - known]
    return wrong


def _wrong_tables(store: Store, row: VolumeRow) -> list[str]:
    wrong = []
    for index in toc_holders(VolumeInfo(row.id, row.tier, Code(row.k, row.m), row.devices)):
        try:
            read_toc(store.devices[row.devices[index]].shards, ShardName(row.id, index))
        except StratumError as error:
            wrong.append(f"volume {row.id.hex()}: {error}")
    return wrong


async def _shards(catalog: Catalog, devices: Mapping[DeviceId, AttachedDevice]) -> list[str]:
    """Each volume has its shards, and each shard a volume, or a row that says that it is to go."""
    wanted = set()
    allowed = {(each.device, ShardName(each.volume, each.cell)) for each in await catalog.read(vacated, None, 10_000)}
    for state in (OPEN, SEALED, IMAGE, FREED):
        for row in await catalog.read(volumes, state, b"", 10_000):
            names = {(device, ShardName(row.id, CellIndex(cell))) for cell, device in enumerate(row.devices)}
            allowed |= names
            if state != FREED:
                wanted |= names
    found = {(ident, name) for ident, device in devices.items() for name in _names(Path(device.label))}
    missing = [f"{devices[ident].label}: {name} is missing" for ident, name in wanted - found if ident in devices]
    unknown = [f"{devices[ident].label}: no row knows {name}" for ident, name in found - allowed]
    return missing + unknown


def _names(device: Path) -> list[ShardName]:
    """As ``ShardBackend.names``, for few shards."""
    names = [parse_file_name(path.name) for path in device.glob("volumes/*/*")]
    assert None not in names
    return [name for name in names if name is not None]
