"""Moves between tiers that somebody asked for: what was named, who asked, why, and how far each came."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass

from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import find, split
from stratumfs.catalog.volumes import path_of_inode
from stratumfs.errors import NoSuchBucket, NoSuchObject, NotFound
from stratumfs.ids import ROOT_INODE, InodeNo

DONE, STOPPED, SUPERSEDED = "done", "stopped", "superseded"
"""Outcomes that are no failure."""


@dataclass(frozen=True, slots=True)
class MoveRow:
    """path: ``bucket/key`` at that time; outcome: empty until it ends; bytes: in the new place by it."""

    id: bytes
    ino: InodeNo
    path: bytes
    tier: str
    uid: int
    reason: str
    begun_ns: int
    ended_ns: int | None
    outcome: str
    bytes: int


@dataclass(frozen=True, slots=True)
class LastMove:
    """What took bytes of an inode along last. source: the tier that they came from."""

    move: MoveRow
    source: str
    at_ns: int


@dataclass(frozen=True, slots=True)
class Child:
    """One entry of a directory, by its stored name. body: the inode of the object that a directory's own key is."""

    name: bytes
    ino: InodeNo
    is_directory: bool
    body: InodeNo | None


def begin_move(tx: Transaction, ident: bytes, ino: InodeNo, tier: str, uid: int, reason: str, now_ns: int) -> MoveRow:
    """One of the same inode that has not ended is superseded: it would undo this one later. Raises: NotFound."""
    if tx.one("select 1 from inode where ino = ?", (ino,)) is None:
        raise NotFound(f"there is no inode {ino}")
    tx.run("update move set ended_ns = ?, outcome = ? where ino = ? and ended_ns is null", (now_ns, SUPERSEDED, ino))
    path = path_of_inode(tx, ino)
    tx.run("insert into move values (?, ?, ?, ?, ?, ?, ?, null, '', 0)", (ident, ino, path, tier, uid, reason, now_ns))
    return MoveRow(ident, ino, path, tier, uid, reason, now_ns, None, "", 0)


def end_move(tx: Transaction, ident: bytes, outcome: str, now_ns: int) -> None:
    """Not of one that was superseded."""
    tx.run("update move set ended_ns = ?, outcome = ? where id = ? and ended_ns is null", (now_ns, outcome, ident))


def unfinished_move(tx: Transaction, ident: bytes) -> MoveRow | None:
    """As it is now; None if it has ended, for it was superseded."""
    row = tx.one("select * from move where id = ? and ended_ns is null", (ident,))
    return MoveRow(*row) if row is not None else None


def unfinished_moves(tx: Transaction) -> list[MoveRow]:
    """Those that the next owner goes on with, oldest first."""
    return [MoveRow(*row) for row in tx.all("select * from move where ended_ns is null order by begun_ns limit 200")]


def moves_since(tx: Transaction, since_ns: int, limit: int, ino: InodeNo | None = None) -> list[MoveRow]:
    """Those that were asked for since then, newest first; of one inode if that is given."""
    rows = tx.all(
        "select * from move where begun_ns >= ? and ino = coalesce(?, ino) order by begun_ns desc limit ?",
        (since_ns, ino, limit),
    )
    return [MoveRow(*row) for row in rows]


def moved_since(tx: Transaction, since_ns: int) -> list[tuple[str, int, int]]:
    """Of those that were asked for since then and moved anything, of each tier that it went to: moves, bytes."""
    return tx.all(
        "select tier, count(*), sum(bytes) from move where begun_ns >= ? and bytes > 0 group by tier order by tier",
        (since_ns,),
    )


def record_moved(tx: Transaction, source: str, found: Mapping[InodeNo, int], move: bytes, now_ns: int) -> None:
    """So many bytes of each inode came from tier *source* by *move*; a batch of decisions is no row of `move`, and ends
    what was recorded: the log of decisions says why."""
    total = sum(found.values())
    if not total:
        return
    asked = tx.one("select 1 from move where id = ?", (move,)) is not None
    for ino, count in found.items():
        if count:
            tx.run("delete from moved where ino = ?", (ino,))
            if asked:
                tx.run("insert into moved values (?, ?, ?, ?)", (ino, move, source, now_ns))
    tx.run("update move set bytes = bytes + ? where id = ?", (total, move))


def last_move(tx: Transaction, ino: InodeNo) -> LastMove | None:
    row = tx.one("select move, source, at_ns from moved where ino = ?", (ino,))
    found = tx.one("select * from move where id = ?", (row[0],)) if row is not None else None
    return LastMove(MoveRow(*found), row[1], row[2]) if row is not None and found is not None else None


def may_have_moved(tx: Transaction, tier: str, after_ns: int, before_ns: int) -> bool:
    """Whether anything was under way to *tier* between the two times."""
    row = tx.one(
        "select 1 from move where tier = ? and begun_ns < ? and coalesce(ended_ns, ?) > ? limit 1",
        (tier, before_ns, before_ns, after_ns),
    )
    return row is not None


def children(tx: Transaction, directory: InodeNo, after: bytes, limit: int = 200) -> list[Child]:
    """A chunk of a directory by name, ghosts too."""
    rows = tx.all(
        "select e.name, i.ino, i.mode, i.body from entry e join inode i on i.ino = e.inode"
        " where e.parent = ? and e.name > ? order by e.name limit ?",
        (directory, after, limit),
    )
    return [Child(name, ino, stat.S_ISDIR(mode), body) for name, ino, mode, body in rows]


def child_itself(tx: Transaction, ino: InodeNo) -> Child:
    """An inode as if it were an entry. Raises: NotFound."""
    row = tx.one("select mode, body from inode where ino = ?", (ino,))
    if row is None:
        raise NotFound(f"there is no inode {ino}")
    return Child(b"", ino, stat.S_ISDIR(row[0]), row[1])


def named(tx: Transaction, bucket: str, key: bytes) -> InodeNo:
    """The object under a key, else the directory that all keys below ``key/`` share; without a key, the bucket.

    Raises: NoSuchBucket, NoSuchObject.
    """
    top = find(tx, ROOT_INODE, [bucket.encode() + b"/"])
    if top is None:
        raise NoSuchBucket(f"there is no bucket {bucket}")
    ino = find(tx, top, split(key)) if key else top
    if ino is None and not key.endswith(b"/"):
        ino = find(tx, top, split(key + b"/"))
    if ino is None:
        raise NoSuchObject(f"no object of bucket {bucket} is called {key.decode()}, or lies below it")
    return ino
