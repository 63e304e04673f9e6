"""What the scrubber remembers: how far its pass is, what it found, and when each shard was last found whole."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace
from enum import StrEnum

from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.volumes import VolumeRow, with_devices
from stratumfs.config import COLD
from stratumfs.ids import CellIndex, DeviceId, ExtentId, VolumeId
from stratumfs.limits import TRANSACTION_ROWS_MAX

PASSES_KEPT = 20
COUNT_ROWS = 5000
"""That are counted at once, by an index: a fraction of a millisecond."""
DONE, SUPERSEDED = "done", "superseded"


class Stage(StrEnum):
    """Of a pass, in this order."""

    ROWS = "rows"
    COPIES = "copies"
    VOLUMES = "volumes"


@dataclass(frozen=True, slots=True)
class Pass:
    """A row of ``scrub``."""

    id: int
    began_ns: int
    ended_ns: int | None = None
    outcome: str = ""
    stage: Stage = Stage.ROWS
    position: bytes = b""
    rows: int = 0
    bad_rows: int = 0
    copies: int = 0
    bad_copies: int = 0
    volumes: int = 0
    shards: int = 0
    bad_shards: int = 0
    bytes: int = 0


def last_passes(tx: Transaction, limit: int = PASSES_KEPT) -> list[Pass]:
    """The newest first."""
    return [_pass(row) for row in tx.all("select * from scrub order by id desc limit ?", (limit,))]


def begin_pass(tx: Transaction, now_ns: int) -> Pass:
    """A new one; one that has not ended is superseded, and old ones are forgotten."""
    tx.run("update scrub set ended_ns = ?, outcome = ? where ended_ns is null", (now_ns, SUPERSEDED))
    row = tx.one("select coalesce(max(id), 0) + 1 from scrub")
    assert row is not None
    found = Pass(row[0], now_ns)
    tx.run("delete from scrub where id <= ?", (found.id - PASSES_KEPT,))
    tx.run(f"insert into scrub values ({', '.join('?' * 14)})", astuple(found))  # noqa: S608
    return found


Found = tuple[VolumeId, CellIndex, DeviceId]
"""A shard that was found whole, and where it was read."""


def save_pass(tx: Transaction, found: Pass, whole: Sequence[Found] = (), at_ns: int = 0) -> Pass:
    """How far it is, and which shards it has found whole; of one that lies elsewhere now nobody knows that. A pass that
    was superseded stays as it was."""
    tx.run(
        "update scrub set ended_ns = ?, outcome = ?, stage = ?, position = ?, rows = ?, bad_rows = ?, copies = ?,"
        " bad_copies = ?, volumes = ?, shards = ?, bad_shards = ?, bytes = ? where id = ? and ended_ns is null",
        (*astuple(found)[2:], found.id),
    )
    for volume, cell, device in whole:
        save_verified(tx, volume, cell, device, at_ns)
    return found


def save_verified(tx: Transaction, volume: VolumeId, cell: CellIndex, device: DeviceId, at_ns: int) -> None:
    """A shard was found whole, if it lies there still."""
    if tx.one("select 1 from shard where volume = ? and cell = ? and device = ?", (volume, cell, device)):
        tx.run("delete from verified where volume = ? and cell = ?", (volume, cell))
        tx.run("insert into verified values (?, ?, ?)", (volume, cell, at_ns))


def unverified_behind(
    tx: Transaction, tier: str, after: VolumeId, before_ns: int, limit: int = TRANSACTION_ROWS_MAX
) -> tuple[list[VolumeRow], VolumeId | None]:
    """Of a chunk of sealed volumes behind an id those of a tier that were neither sealed nor found whole since then;
    and where it ends, None at the end of all."""
    rows = tx.all(
        "select v.*, coalesce((select at_ns from verified d where d.volume = v.id and d.cell = 0), v.changed_ns)"
        " from volume v where v.state = 'sealed' and v.id > ? order by v.id limit ?",
        (after, limit),
    )
    found = [row[:-1] for row in rows if row[1] == tier and row[-1] < before_ns]
    return with_devices(tx, found), VolumeId(rows[-1][0]) if len(rows) == limit else None


def looked_at(tx: Transaction, tier: str) -> int | None:
    """When all objects of a tier in somebody's S3 were looked at last, in seconds."""
    row = tx.one("select value from counter where name = ?", (f"{tier}_looked",))
    return int(row[0]) if row is not None else None


def save_looked(tx: Transaction, tier: str, now_s: int) -> None:
    if not tx.run("update counter set value = ? where name = ?", (now_s, f"{tier}_looked")):
        tx.run("insert into counter values (?, ?)", (f"{tier}_looked", now_s))


def row_position(found: Pass) -> ExtentId:
    return ExtentId(int.from_bytes(found.position, "big"))


def at_row(found: Pass, ident: ExtentId) -> Pass:
    return replace(found, position=ident.to_bytes(8, "big"))


def verified_at(tx: Transaction, volume: VolumeId) -> dict[CellIndex, int]:
    """Of those shards that were ever found whole where they are: when last, in ns."""
    rows = tx.all("select cell, at_ns from verified where volume = ?", (volume,))
    return {CellIndex(cell): at_ns for cell, at_ns in rows}


def count_rows(tx: Transaction, after: ExtentId) -> tuple[int, ExtentId | None]:
    """How many extents a chunk behind an id has, and where it ends; None: at the end of all."""
    row = tx.one(
        "select count(*), max(id) from (select id from extent where id > ? order by id limit ?)", (after, COUNT_ROWS)
    )
    assert row is not None
    return row[0], ExtentId(row[1]) if row[0] == COUNT_ROWS else None


@dataclass(frozen=True, slots=True)
class Looks:
    """Of a chunk of sealed volumes, those of the cold tier left out. bytes: of their shards; never: shards that were
    never found whole; oldest_ns: when the one was that was seen last longest ago; last: where the chunk ends, None at
    the end of all."""

    bytes: int
    never: int
    oldest_ns: int | None
    last: VolumeId | None


def looks(tx: Transaction, after: VolumeId | bytes = b"", limit: int = TRANSACTION_ROWS_MAX) -> Looks:
    row = tx.one(
        "with some as (select id, length * (k + m) * (tier != ?) as size from volume where state = 'sealed' and id > ?"
        " order by id limit ?) select count(*), max(id), coalesce(sum(size), 0),"
        " (select count(*) from some join shard s on s.volume = some.id where some.size > 0 and not exists"
        " (select 1 from verified d where d.volume = s.volume and d.cell = s.cell)),"
        " (select min(d.at_ns) from some join verified d on d.volume = some.id where some.size > 0) from some",
        (COLD, after, limit),
    )
    assert row is not None
    count, last, size, never, oldest = row
    return Looks(size, never, oldest, VolumeId(last) if count == limit else None)


def _pass(row: tuple[object, ...]) -> Pass:
    ident, began, ended, outcome, stage, *rest = row
    return Pass(ident, began, ended, outcome, Stage(str(stage)), *rest)  # type: ignore[arg-type]  # as the table says
