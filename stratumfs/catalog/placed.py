"""In which tier the bytes of an object are, and until when it was asked to be kept in the fastest."""

from dataclasses import dataclass

from stratumfs.catalog.transaction import Transaction
from stratumfs.ids import InodeNo
from stratumfs.values import ObjectInfo

RESTORED = b"user.stratum.restored"
"""An attribute of the store's own: nanoseconds since 1970, in digits, until which somebody wants to have the object at
hand; in the row stands behind a space the tier that it is brought from, and goes back to, if that was needed. It goes
with the inode: what replaces the object was not restored."""
EXTENTS_LOOKED = 500
"""Of an object with more, so many speak for all."""
_SLOWEST_FIRST = ("cold", "warm", "hot")
_TIERS = (
    "select distinct v.tier from (select volume from extent where ino = ? and volume is not null limit ?) e"
    " join volume v on v.id = e.volume"
)


def slowest_tier(tx: Transaction, ino: InodeNo) -> str:
    """That any of its bytes lies in; empty if none lies in a volume."""
    found = [tier for (tier,) in tx.all(_TIERS, (ino, EXTENTS_LOOKED))]
    return min(found, key=_SLOWEST_FIRST.index, default="")


def placed(tx: Transaction, info: ObjectInfo) -> ObjectInfo:
    """With what a transaction of its own would not add to."""
    row = tx.one("select value from xattr where ino = ? and name = ?", (info.ino, RESTORED))
    until_ns = restored(row[0]).until_ns if row is not None else 0
    return info._replace(tier=slowest_tier(tx, info.ino), restored_ns=until_ns)


@dataclass(frozen=True, slots=True)
class Restored:
    """*back*: the tier that it is to go back to then; None if it was at hand."""

    until_ns: int
    back: str | None = None


def restored(value: bytes) -> Restored:
    """The attribute's value; what cannot be read is long over."""
    until, _, back = value.decode("ascii", "replace").partition(" ")
    return Restored(int(until) if until.isdecimal() else 0, back or None)


def keep_restored(tx: Transaction, ino: InodeNo, until_ns: int) -> None:
    """Restored once more it goes back to where it was before the first time."""
    row = tx.one("select value from xattr where ino = ? and name = ?", (ino, RESTORED))
    back = restored(row[0]).back if row is not None else None
    if back is None and slowest_tier(tx, ino) == _SLOWEST_FIRST[0]:
        back = _SLOWEST_FIRST[0]
    value = str(until_ns) + (f" {back}" if back is not None else "")
    tx.run("delete from xattr where ino = ? and name = ?", (ino, RESTORED))
    tx.run("insert into xattr values (?, ?, ?)", (ino, RESTORED, value.encode()))
    tx.touch_inode(ino)


def end_restored(tx: Transaction, ino: InodeNo, now_ns: int) -> None:
    """Unless it was restored once more meanwhile."""
    row = tx.one("select value from xattr where ino = ? and name = ?", (ino, RESTORED))
    if row is not None and restored(row[0]).until_ns <= now_ns:
        tx.run("delete from xattr where ino = ? and name = ?", (ino, RESTORED))
        tx.touch_inode(ino)
