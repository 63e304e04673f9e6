"""In which tiers the bytes of files are, and what their owners said of them: facts for whoever chooses tiers."""

import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from stratumfs.catalog.placed import RESTORED, Restored, restored
from stratumfs.catalog.records import unpack_spec
from stratumfs.catalog.schema import PAYLOAD
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import find_each, split
from stratumfs.catalog.xattrs import PIN
from stratumfs.ids import ROOT_INODE, InodeNo
from stratumfs.limits import VOLUMES_SUMMED
from stratumfs.values import ObjectSpec

EXTENTS_LOOKED = 500
"""Of a file with more, so many speak for all."""
_DEPTH_MAX = 1000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Residence:
    """One inode that has a name.

    name      the last segment of one of its names, as it is stored; empty for the object of a directory's own key
    tiers     bytes in volumes of each tier; what is inline is in none
    size      their sum; the file's own size where only a part of its extents was looked at
    own_pin   the attribute ``user.stratum.pin`` of itself
    restored  until when somebody wants to have it at hand; None: nobody does
    """

    ino: InodeNo
    is_directory: bool
    name: bytes = b""
    tiers: Mapping[str, int] = field(default_factory=dict)
    size: int = 0
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"
    own_pin: bytes | None = None
    restored: Restored | None = None

    @property
    def tier(self) -> str | None:
        """That has most of its bytes."""
        return max(self.tiers, key=lambda name: self.tiers[name], default=None)


def residences(tx: Transaction, inos: Sequence[InodeNo]) -> list[Residence]:
    """Of some 25 inodes, those that have a name and are files or directories."""
    found = []
    for ino in inos:
        row = tx.one("select mode, nlink, size, object from inode where ino = ?", (ino,))
        if row is not None and (each := _residence(tx, ino, *row)) is not None:
            found.append(each)
    return found


def residences_behind(tx: Transaction, after: InodeNo, limit: int = 25) -> tuple[list[Residence], InodeNo | None]:
    """A chunk of all, by inode number, and behind which to go on; None at the end."""
    rows = tx.all("select ino, mode, nlink, size, object from inode where ino > ? order by ino limit ?", (after, limit))
    found = [each for row in rows if (each := _residence(tx, *row)) is not None]
    return found, InodeNo(rows[-1][0]) if len(rows) == limit else None


def pin_above(tx: Transaction, ino: InodeNo) -> bytes | None:
    """What the nearest directory above says that says anything."""
    for _ in range(_DEPTH_MAX):
        row = tx.one("select parent from entry where inode = ? limit 1", (ino,))
        if row is None or row[0] == ROOT_INODE:
            return None
        ino = row[0]
        if (pin := _pin(tx, ino)) is not None:
            return pin
    return None


def pin_of_key(tx: Transaction, bucket: InodeNo, key: bytes) -> bytes | None:
    """What the nearest directory on the way of a key says that says anything: of the key itself too, if it is one."""
    way = [bucket, *find_each(tx, bucket, split(key)[:_DEPTH_MAX])]
    found = None
    for ino in way:
        if ino is not None and (pin := _pin(tx, ino)) is not None:
            found = pin
    return found


def tier_bytes_behind(
    tx: Transaction, after: bytes, limit: int = VOLUMES_SUMMED
) -> tuple[dict[str, tuple[int, int]], bytes | None]:
    """Of each tier: payload bytes that extents point at, and those that nothing points at and that are still there.

    A chunk of the volumes, by id, and behind which to go on; None at the end.
    """
    rows = tx.all(
        "select id, tier, case when state != 'freed' then live else 0 end,"  # noqa: S608 - our own words
        f" case when state in ('sealed', 'freed') then max(0, {PAYLOAD} - live) else 0 end"
        " from volume where id > ? order by id limit ?",
        (after, limit),
    )
    found: dict[str, tuple[int, int]] = {}
    for _, tier, live, dead in rows:
        before = found.get(tier, (0, 0))
        found[tier] = before[0] + live, before[1] + dead
    return found, rows[-1][0] if len(rows) == limit else None


def _residence(
    tx: Transaction, ino: InodeNo, mode: int, nlink: int, size: int, described: bytes | None
) -> Residence | None:
    if nlink <= 0:
        return None
    if stat.S_ISDIR(mode):
        return Residence(ino, True, own_pin=_pin(tx, ino))
    if not stat.S_ISREG(mode):
        return None
    rows = tx.all(
        "select v.tier, sum(e.length), count(*) from"
        " (select volume, length from extent where ino = ? and volume is not null limit ?) e"
        " join volume v on v.id = e.volume group by v.tier",
        (ino, EXTENTS_LOOKED),
    )
    if not rows:
        return Residence(ino, False)
    tiers = {tier: count for tier, count, _ in rows}
    whole = sum(number for _, _, number in rows) < EXTENTS_LOOKED
    name = tx.one("select name from entry where inode = ? limit 1", (ino,))
    spec = _spec(ino, described)
    said = dict(tx.all("select name, value from xattr where ino = ? and name in (?, ?)", (ino, PIN, RESTORED)))
    return Residence(
        ino,
        False,
        bytes(name[0]) if name is not None else b"",
        tiers,
        sum(tiers.values()) if whole else size,
        spec.content_type,
        spec.metadata,
        spec.storage_class,
        said.get(PIN),
        restored(said[RESTORED]) if RESTORED in said else None,
    )


def _spec(ino: InodeNo, described: bytes | None) -> ObjectSpec:
    """What cannot be read says nothing: a single damaged row does not hide the others from whoever goes through all."""
    try:
        return unpack_spec(described)
    except (msgspec.DecodeError, TypeError, ValueError) as error:
        _log.warning("a description cannot be read", inode=ino, error=str(error))
        return unpack_spec(None)


def _pin(tx: Transaction, ino: InodeNo) -> bytes | None:
    row = tx.one("select value from xattr where ino = ? and name = ?", (ino, PIN))
    return bytes(row[0]) if row is not None else None
