"""In which tier the bytes of an object are, and until when it was asked to be kept in the fastest."""

from stratumfs.catalog.transaction import Transaction
from stratumfs.ids import InodeNo
from stratumfs.values import ObjectInfo

RESTORED = b"user.stratum.restored"
"""An attribute of the store's own: nanoseconds since 1970, in digits, until which somebody wants to have the object at
hand. It goes with the inode: what replaces the object was not restored."""
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
    return info._replace(tier=slowest_tier(tx, info.ino), restored_ns=int(row[0]) if row is not None else 0)


def keep_restored(tx: Transaction, ino: InodeNo, until_ns: int) -> None:
    tx.run("delete from xattr where ino = ? and name = ?", (ino, RESTORED))
    tx.run("insert into xattr values (?, ?, ?)", (ino, RESTORED, str(until_ns).encode()))
    tx.touch_inode(ino)
