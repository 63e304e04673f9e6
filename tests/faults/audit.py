"""Whether the rows of a catalog agree with each other and with what lies on the devices."""

from collections.abc import Mapping
from pathlib import Path

import trio

from stratumfs.catalog.engine import Catalog, Transaction
from stratumfs.catalog.extents import COLUMNS, checked
from stratumfs.catalog.volumes import FREED, OPEN, SEALED, VolumeRow, readable_extents_in, volumes
from stratumfs.erasure.code import Code
from stratumfs.errors import StratumError
from stratumfs.ids import CellIndex, DeviceId
from stratumfs.repair.verify import verify_volume
from stratumfs.shards.layout import ShardName, parse_file_name
from stratumfs.store.store import Store
from stratumfs.volumes.append import toc_holders
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.format import StripeAt, VolumeInfo, stripes_of
from stratumfs.volumes.walk import read_toc

_HIDDEN = (
    "exists (select 1 from void where void.ino = extent.ino"
    " and extent.offset >= start and extent.offset < stop and extent.id <= upto)"
)
"""Of an extent: a large truncate or overwrite has voided it, and its row is not cleared yet."""

_NONE: Mapping[str, str] = {
    "entries of missing inodes": "select parent, name from entry where inode not in (select ino from inode)",
    "entries of missing directories": "select parent, name from entry where parent not in (select ino from inode)",
    "extents of missing inodes": "select id, ino from extent where ino not in (select ino from inode)",
    "extents in missing volumes": (
        "select id from extent where volume is not null and volume not in (select id from volume)"
    ),
    "extents in freed volumes": "select e.id from extent e join volume v on v.id = e.volume where v.state = 'freed'",
    "attributes of missing inodes": "select ino, name from xattr where ino not in (select ino from inode)",
    "sizes of parts of missing inodes": "select ino from parts where ino not in (select ino from inode)",
    "voids of missing inodes": "select ino from void where ino not in (select ino from inode)",
    "moves of missing inodes that were recorded": "select ino from moved where ino not in (select ino from inode)",
    "inodes that no move took along": "select ino from moved where move not in (select id from move)",
    "orphans without an inode": "select ino from orphan where ino not in (select ino from inode)",
    "orphans with a name": "select ino from orphan where ino in (select inode from entry)",
    "parts of missing uploads": "select upload, number from part where upload not in (select id from upload)",
    "parts of missing inodes": "select upload, number from part where ino not in (select ino from inode)",
    "uploads of missing buckets": (
        "select id from upload where state = 'open' and bucket not in (select ino from bucket)"
    ),
    "buckets without a name": "select ino from bucket where ino not in (select inode from entry where parent = 1)",
    "inodes that nothing names": (
        "select ino from inode where ino != 1 and ino not in (select inode from entry where inode is not null)"
        " and ino not in (select body from inode where body is not null)"
        " and ino not in (select ino from part) and ino not in (select ino from orphan)"
    ),
    "files with a wrong number of links": (
        "select ino, nlink from inode i where mode & 61440 != 16384 and nlink !="
        " (select count(*) from entry where inode = i.ino) + (select count(*) from inode where body = i.ino)"
    ),
    "directories with a wrong number of children": (
        "select ino, live from inode i where mode & 61440 = 16384 and ino not in (select ino from orphan) and live !="
        " (select count(*) from entry e join inode c on c.ino = e.inode where e.parent = i.ino"
        " and (c.mode & 61440 != 16384 or c.live > 0 or c.explicit))"
    ),
    "directories with a wrong number of links": (
        "select ino, nlink from inode i where mode & 61440 = 16384 and ino not in (select ino from orphan)"
        " and nlink != 2 + (select count(*) from entry e join inode c on c.ino = e.inode where e.parent = i.ino"
        " and c.mode & 61440 = 16384 and (c.live > 0 or c.explicit))"
    ),
    "volumes with a wrong count of live bytes": (
        "select hex(id), live from volume v"
        " where live != (select coalesce(sum(length), 0) from extent where volume = v.id)"
    ),
    "a wrong count of inline bytes": (
        "select value from counter where name = 'inline_bytes'"
        " and value != (select coalesce(sum(length), 0) from extent where volume is null)"
    ),
    "a wrong count of bytes of uploads": (
        "select value from counter where name = 'upload_bytes' and value != (select coalesce(sum(size), 0) from part)"
    ),
    "inode numbers that will come again": (
        "select max(ino) from inode having max(ino) >= (select value from catalog_state where key = 'next_inode')"
    ),
    "cookies that will come again": (
        "select max(cookie) from entry"
        " having max(cookie) >= (select value from catalog_state where key = 'next_cookie')"
    ),
    "extent ids that will come again": (
        "select max(id) from extent having max(id) >= (select value from catalog_state where key = 'next_extent')"
    ),
    "volumes with a wrong number of shards": (
        "select hex(id) from volume v where k + m != (select count(*) from shard where volume = v.id)"
    ),
    "shards of missing volumes": "select hex(volume) from shard where volume not in (select id from volume)",
    "extents behind the end of a sealed volume": (
        "select e.id from extent e join volume v on v.id = e.volume where v.state = 'sealed' and e.position >= v.length"
    ),
}
"""Queries that find nothing in a catalog that is right, at any time."""

_TIDY: Mapping[str, str] = {
    "orphans": "select ino from orphan",
    "voids": "select ino from void",
    "moves that have not ended": "select path from move where ended_ns is null",
    "parts of uploads that are done": (
        "select p.upload from part p join upload u on u.id = p.upload where u.state = 'done'"
    ),
    "empty volumes that are not freed": "select hex(id) from volume where state = 'sealed' and live = 0",
}
"""The same once everything is tidied, if nobody holds anything."""


async def audit_rows(store: Store, *, tidy: bool = False) -> list[str]:
    """What is wrong with the rows, a line each. *tidy*: all was reaped, cleared and freed, and nothing is held."""
    return await store.catalog.read(_rows, {**_NONE, **(_TIDY if tidy else {})}) + await store.catalog.read(_extents)


async def audit_shards(store: Store, tables_missing: int = 0) -> list[str]:
    """What is wrong on the devices: every cell that a row names is read. *tables_missing*: so many tables of contents
    of each sealed volume may be missing; m+1 were written, and one is enough. A volume that was sealed by a strike has
    none."""
    wrong = []
    for state in (OPEN, SEALED):
        for row in await store.catalog.read(volumes, state):
            wrong += await _verify(store, row)
            struck = any(store.devices[each].struck for each in row.devices)
            tables = _wrong_tables(store, row) if row.state == SEALED and not struck else []
            wrong += tables if len(tables) > tables_missing else []
    written = {ident: device for ident, device in store.devices.items() if not device.struck}
    return wrong + await _shards(store.catalog, written)


def _rows(tx: Transaction, queries: Mapping[str, str]) -> list[str]:
    wrong = [f"{what}: {rows}" for what, query in queries.items() if (rows := tx.all(query))]
    integrity = tx.all("pragma integrity_check(1)")
    return wrong if integrity == [("ok",)] else [*wrong, f"integrity_check: {integrity}"]


def _extents(tx: Transaction) -> list[str]:
    """Each agrees with its own sum; those that no void hides do not overlap."""
    wrong = []
    ends: dict[int, int] = {}
    for row in tx.all(f"select {COLUMNS} from extent where not {_HIDDEN} order by ino, offset"):
        try:
            extent = checked(row)
        except StratumError as error:
            wrong.append(str(error))
            continue
        if extent.offset < ends.get(extent.ino, 0):
            wrong.append(f"extents of inode {extent.ino} overlap at {extent.offset}")
        ends[extent.ino] = extent.offset + extent.length
    return wrong


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


def _wrong_tables(store: Store, row: VolumeRow) -> list[str]:
    wrong = []
    for index in toc_holders(VolumeInfo(row.id, row.tier, Code(row.k, row.m), row.devices)):
        try:
            read_toc(store.devices[row.devices[index]].shards, ShardName(row.id, index))
        except StratumError as error:
            wrong.append(f"volume {row.id.hex()}: {error}")
    return wrong


async def _shards(catalog: Catalog, devices: Mapping[DeviceId, AttachedDevice]) -> list[str]:
    """Each volume has its shards, and each shard a volume."""
    wanted, allowed = set(), set()
    for state in (OPEN, SEALED, FREED):
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
