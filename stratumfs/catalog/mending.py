"""Mends rows that contradict each other: each function takes one row of a query of `invariants`, and says what it did.

No bytes and no names are given up where they can be kept: what has lost its name gets one in the bucket `FOUND`, and
of two counts the one that can be counted wins. What is dropped are rows that say something of what is not there.
"""

import stat
from collections.abc import Callable
from typing import Any

from stratumfs.catalog.buckets import DIR_MODE, FILE_MODE
from stratumfs.catalog.extents import COLUMNS, END, checked, cut_out
from stratumfs.catalog.state import GET_STATE, SET_STATE
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import insert_entry, insert_inode, is_directory_name
from stratumfs.errors import CatalogCorrupt
from stratumfs.ids import ROOT_INODE, Cookie, ExtentId, InodeNo

Row = tuple[Any, ...]

FOUND = "lost-found"
"""The bucket of what nothing names any more: ``inode-<number>``."""
FOUND_MODE = 0o700
_FILE_MODE = 0o600


def name_as_bytes(tx: Transaction, row: Row, _: int) -> str:
    parent, cookie, name = row
    spelled = name.encode() if isinstance(name, str) else str(name).encode()
    if _taken(tx, parent, spelled):
        return ""
    tx.run("update entry set name = ? where parent = ? and cookie = ?", (spelled, parent, cookie))
    return "made bytes of it"


def drop_orphan(tx: Transaction, row: Row, _: int) -> str:
    tx.run("delete from orphan where ino = ?", (row[0],))
    return "it is no orphan any more"


def make_file(tx: Transaction, row: Row, now_ns: int) -> str:
    """Found again by its extents, of which it has nothing else."""
    ino, size = row
    insert_inode(tx, InodeNo(ino), stat.S_IFREG | _FILE_MODE, 0, 0, now_ns, nlink=0, size=min(int(size), END))
    return "made an inode for them"


def make_directory(tx: Transaction, row: Row, now_ns: int) -> str:
    insert_inode(tx, InodeNo(row[0]), stat.S_IFDIR | FOUND_MODE, 0, 0, now_ns, nlink=2, explicit=True)
    return "made the directory"


def drop_entry(tx: Transaction, row: Row, _: int) -> str:
    """What it named, if it is there, is found again by what follows."""
    parent, name, ino = row
    tx.touch_name(parent, name)
    tx.run("delete from entry where parent = ? and name = ? and inode = ?", (parent, name, ino))
    return "took the name away"


def spell_anew(tx: Transaction, row: Row, _: int) -> str:
    """The name of a directory ends in a slash, and no other does: the inode says what it is."""
    parent, name, ino = row
    segment = name.removesuffix(b"/")
    new = segment if is_directory_name(name) else segment + b"/"
    if not new or _taken(tx, parent, new):
        return drop_entry(tx, row, 0)
    tx.run("update entry set name = ? where parent = ? and name = ? and inode = ?", (new, parent, name, ino))
    return "spelled it anew"


def drop_bucket(tx: Transaction, row: Row, _: int) -> str:
    tx.run("delete from bucket where ino = ?", (row[0],))
    return "it is no bucket any more"


def name_bucket(tx: Transaction, row: Row, _: int) -> str:
    ino, name = row
    spelled = name.encode() + b"/"
    if _taken(tx, ROOT_INODE, spelled):
        return drop_bucket(tx, row, 0)
    insert_entry(tx, ROOT_INODE, spelled, ino, Cookie(_next(tx, "next_cookie")))
    return "named it"


def make_bucket(tx: Transaction, row: Row, now_ns: int) -> str:
    ino, name = row
    if not is_directory_name(name):
        return drop_entry(tx, (ROOT_INODE, name, ino), now_ns)
    text = name.removesuffix(b"/").decode("utf-8", "replace")
    if tx.one("select 1 from bucket where name = ?", (text,)) is not None:
        return ""
    tx.run("insert into bucket values (?, ?, ?, ?, ?, 1)", (ino, text, now_ns, FILE_MODE, DIR_MODE))
    return "made a bucket of it"


def rename_bucket(tx: Transaction, row: Row, _: int) -> str:
    ino, name = row
    text = name.removesuffix(b"/").decode("utf-8", "replace")
    if tx.one("select 1 from bucket where name = ?", (text,)) is not None:
        return ""
    tx.run("update bucket set name = ? where ino = ?", (text, ino))
    return "gave the bucket its directory's name"


def make_explicit(tx: Transaction, row: Row, _: int) -> str:
    """Whoever made it is not known: it is kept."""
    tx.run("update inode set explicit = 1 where ino = ?", (row[0],))
    return "it is explicit now"


def dropping(table: str) -> Callable[[Transaction, Row, int], str]:
    """Of a table whose rows speak of an inode."""

    def drop(tx: Transaction, row: Row, _: int) -> str:
        tx.run(f"delete from {table} where ino = ?", (row[0],))  # noqa: S608 - our own names
        return "dropped them"

    return drop


def drop_part(tx: Transaction, row: Row, _: int) -> str:
    """Its bytes are found again."""
    tx.run("delete from part where upload = ? and number = ?", row)
    return "it is no part any more"


def drop_upload(tx: Transaction, row: Row, _: int) -> str:
    tx.run("delete from upload where id = ?", row)
    return "dropped it"


def drop_body(tx: Transaction, row: Row, _: int) -> str:
    tx.run("update inode set body = null where ino = ?", row)
    return "the directory's own key is empty now"


def find_again(tx: Transaction, row: Row, now_ns: int) -> str:
    """A name for what has none."""
    ino, mode = row
    parent = _found(tx, now_ns)
    name = found_name(ino) + (b"/" if stat.S_ISDIR(mode) else b"")
    insert_entry(tx, parent, name, ino, Cookie(_next(tx, "next_cookie")))
    if stat.S_ISDIR(mode):
        tx.run("update inode set explicit = 1 where ino = ?", (ino,))
    elif stat.S_ISREG(mode):
        tx.run("update inode set etag = ? where ino = ? and etag is null", (f"{ino:032x}-1".encode(), ino))
    return f"named it {FOUND}/{name.decode()}"


def found_name(ino: int) -> bytes:
    return f"inode-{ino}".encode()


def break_circle(tx: Transaction, row: Row, _: int) -> str:
    """From one directory in it, or below it, upward: the first that is met twice loses its name, and is found again."""
    seen: set[int] = set()
    ino = row[0]
    while True:
        place = tx.one("select parent, name from entry where inode = ?", (ino,))
        if place is None:
            return ""
        if ino in seen:
            return drop_entry(tx, (*place, ino), 0)
        seen.add(ino)
        ino = place[0]


def count_links(tx: Transaction, row: Row, _: int) -> str:
    tx.run(
        "update inode set nlink = (select count(*) from entry where inode = ?)"
        " + (select count(*) from inode where body = ?) where ino = ?",
        (row[0], row[0], row[0]),
    )
    return "counted"


def count_children(tx: Transaction, row: Row, _: int) -> str:
    tx.run(
        "update inode set live = (select count(*) from entry e join inode c on c.ino = e.inode where e.parent = ?"
        " and (c.mode & 61440 != 16384 or c.live > 0 or c.explicit)) where ino = ?",
        (row[0], row[0]),
    )
    return "counted"


def count_subdirectories(tx: Transaction, row: Row, _: int) -> str:
    tx.run(
        "update inode set nlink = 2 + (select count(*) from entry e join inode c on c.ino = e.inode where e.parent = ?"
        " and c.mode & 61440 = 16384 and (c.live > 0 or c.explicit)) where ino = ?",
        (row[0], row[0]),
    )
    return "counted"


def lengthen(tx: Transaction, row: Row, _: int) -> str:
    """Bytes that are there are shown."""
    ino, size = row
    tx.touch_inode(ino)
    tx.run("update inode set size = ?, content = content + 1 where ino = ?", (size, ino))
    return "made it as long as they reach"


def seal_again(tx: Transaction, row: Row, now_ns: int) -> str:
    tx.run("update volume set state = 'sealed', changed_ns = ? where id = ? and state = 'freed'", (now_ns, row[0]))
    return "it is not to be freed"


def move_mark(tx: Transaction, row: Row, _: int) -> str:
    ident, end = row
    tx.run("update volume set length = ? where id = ?", (end, ident))
    return "moved the volume's mark behind them"


def count_stripes(tx: Transaction, row: Row, _: int) -> str:
    ident, last = row
    tx.run("update volume set stripes = ? where id = ?", (last + 1, ident))
    return "counted"


def drop_damage(tx: Transaction, row: Row, _: int) -> str:
    tx.run("delete from damage where volume = ? and cell = ?", row)
    return "dropped it"


def drop_verified(tx: Transaction, row: Row, _: int) -> str:
    tx.run("delete from verified where volume = ? and cell = ?", row)
    return "dropped it"


def count_live(tx: Transaction, row: Row, _: int) -> str:
    tx.run(
        "update volume set live = (select coalesce(sum(length), 0) from extent where volume = ?) where id = ?",
        (row[0], row[0]),
    )
    return "counted"


def counting(name: str) -> Callable[[Transaction, Row, int], str]:
    def count(tx: Transaction, row: Row, _: int) -> str:
        tx.run("delete from counter where name = ?", (name,))
        tx.run("insert into counter values (?, ?)", (name, row[0]))
        return "counted"

    return count


def jumping(key: str) -> Callable[[Transaction, Row, int], str]:
    def jump(tx: Transaction, row: Row, _: int) -> str:
        tx.run(SET_STATE, (row[0] + 1, key))
        return "the next ones begin behind"

    return jump


def part_extents(tx: Transaction, one: int, other: int) -> str:
    """Of two extents that overlap the later one lies above, as it would if it had been inserted as it should."""
    rows = [tx.one(f"select {COLUMNS} from extent where id = ?", (ident,)) for ident in sorted((one, other))]  # noqa: S608
    if None in rows:
        return ""
    below, above = (checked(row) for row in rows if row is not None)
    ids = iter([ExtentId(_next(tx, "next_extent")) for _ in range(2)])
    tx.move_inode(below.ino)  # also if nothing of it is left
    cut_out(tx, below, above.offset, above.offset + above.length, ids)
    return "the later one lies above"


def _taken(tx: Transaction, parent: int, name: bytes) -> bool:
    return tx.one("select 1 from entry where parent = ? and name = ?", (parent, name)) is not None


def _next(tx: Transaction, key: str) -> int:
    """An id behind all that this owner, or an earlier one, may hand out."""
    row = tx.one(GET_STATE, (key,))
    if row is None:
        raise CatalogCorrupt(f"the catalog has lost its {key}")
    tx.run(SET_STATE, (row[0] + 1, key))
    return int(row[0])


def _found(tx: Transaction, now_ns: int) -> InodeNo:
    """The bucket `FOUND`, made if it is not there."""
    row = tx.one("select ino from bucket where name = ?", (FOUND,))
    if row is not None:
        return InodeNo(row[0])
    ino = InodeNo(_next(tx, "next_inode"))
    insert_inode(tx, ino, stat.S_IFDIR | FOUND_MODE, 0, 0, now_ns, nlink=2, explicit=True)
    insert_entry(tx, ROOT_INODE, FOUND.encode() + b"/", ino, Cookie(_next(tx, "next_cookie")))
    tx.run("insert into bucket values (?, ?, ?, ?, ?, 0)", (ino, FOUND, now_ns, FILE_MODE, DIR_MODE))
    return ino
