"""What holds in a catalog that is right, at any time: queries that find nothing, and what mends what they find.

They look at all rows and keep the loop for as long: for a store without doors. Queries give a number of rows, whose
columns say where the fault is; a mend is given one of them. Structure comes before counters, for mending the one
leaves the other to be counted anew; so they are gone through in order, and again, until nothing changes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stratumfs.catalog import mending
from stratumfs.catalog.transaction import Transaction

FOUND_MAX = 200
"""Of one kind, in one look, those that are known already not counted."""

Row = tuple[Any, ...]
Mend = Callable[[Transaction, Row, int], str]
"""Mends what one row found; the time is given. Returns what was done, in words; empty if nothing can be."""


@dataclass(frozen=True, slots=True)
class Invariant:
    """text: what is wrong where *query* finds a row; mend: None where nobody can know what would be right."""

    text: str
    query: str
    mend: Mend | None = None


INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "names that are no bytes",
        "select parent, cookie, name from entry where typeof(name) != 'blob'",
        mending.name_as_bytes,
    ),
    Invariant(
        "orphans without an inode",
        "select ino from orphan where ino not in (select ino from inode)",
        mending.drop_orphan,
    ),
    # Else they would be reaped.
    Invariant(
        "orphans that are in use",
        "select ino from orphan o where exists (select 1 from entry where inode = o.ino)"
        " or ino in (select body from inode where body is not null)",
        mending.drop_orphan,
    ),
    Invariant(
        "extents of missing inodes",
        "select ino, max(offset + length) from extent where ino not in (select ino from inode) group by ino",
        mending.make_file,
    ),
    Invariant(
        "entries of missing directories",
        "select distinct parent from entry where parent not in (select ino from inode)",
        mending.make_directory,
    ),
    Invariant(
        "entries of missing inodes",
        "select parent, name, inode from entry where inode is not null and inode not in (select ino from inode)",
        mending.drop_entry,
    ),
    Invariant(
        "entries of what is no directory",
        "select e.parent, e.name, e.inode from entry e join inode on ino = e.parent where not mode & 61440 = 16384",
        mending.drop_entry,
    ),
    Invariant(
        "names whose form is not that of what they name",
        "select e.parent, e.name, e.inode from entry e join inode on ino = e.inode"
        " where (mode & 61440 = 16384) != (substr(e.name, length(e.name)) = x'2f')",
        mending.spell_anew,
    ),
    Invariant(
        "directories with several names",
        "select e.parent, e.name, e.inode from entry e join inode i on i.ino = e.inode"
        " where i.mode & 61440 = 16384 and exists (select 1 from entry o where o.inode = e.inode"
        " and (o.parent, o.name) < (e.parent, e.name))",
        mending.drop_entry,
    ),
    Invariant(
        "buckets without an inode",
        "select ino from bucket where ino not in (select ino from inode)",
        mending.drop_bucket,
    ),
    Invariant(
        "buckets without a name",
        "select ino, name from bucket b where not exists (select 1 from entry where parent = 1 and inode = b.ino)",
        mending.name_bucket,
    ),
    Invariant(
        "directories of the root that are no buckets",
        "select e.inode, e.name from entry e where e.parent = 1 and e.inode not in (select ino from bucket)",
        mending.make_bucket,
    ),
    Invariant(
        "buckets with two names",
        "select b.ino, e.name from bucket b join entry e on e.inode = b.ino where e.parent = 1"
        " and e.name != cast(b.name || '/' as blob)",
        mending.rename_bucket,
    ),
    Invariant(
        "implied directories that nothing lies in",
        "select ino from inode i where mode & 61440 = 16384 and ino != 1 and not explicit and live = 0"
        " and not exists (select 1 from entry where parent = i.ino) and ino not in (select ino from orphan)"
        " and exists (select 1 from entry where inode = i.ino)",
        mending.make_explicit,
    ),
    *(
        Invariant(
            f"{what} of missing inodes",
            f"select distinct ino from {table} where ino not in (select ino from inode)",  # noqa: S608
            mending.dropping(table),
        )
        for table, what in (
            ("xattr", "attributes"),
            ("parts", "sizes of parts"),
            ("void", "voids"),
            ("moved", "records of moves"),
        )
    ),
    Invariant(
        "inodes that a missing move took along",
        "select ino from moved where move not in (select id from move)"
        " and move not in (select batch from decision where batch is not null)",
        mending.dropping("moved"),
    ),
    Invariant(
        "parts of missing inodes",
        "select upload, number from part where ino not in (select ino from inode)",
        mending.drop_part,
    ),
    Invariant(
        "parts of missing uploads",
        "select upload, number from part where upload not in (select id from upload)",
        mending.drop_part,
    ),
    Invariant(
        "uploads of missing buckets",
        "select id from upload where state = 'open' and bucket not in (select ino from bucket)",
        mending.drop_upload,
    ),
    Invariant(
        "bodies of directories that are no files",
        "select ino from inode where body is not null"
        " and body not in (select ino from inode where mode & 61440 = 32768)",
        mending.drop_body,
    ),
    Invariant(
        "inodes that nothing names",
        "select ino, mode from inode i where ino != 1 and not exists (select 1 from entry where inode = i.ino)"
        " and ino not in (select body from inode where body is not null)"
        " and ino not in (select ino from part) and ino not in (select ino from orphan)",
        mending.find_again,
    ),
    Invariant(
        "directories that lie in a circle, or below one",
        "with recursive reached(ino) as ("
        "select ino from inode i where mode & 61440 = 16384 and not exists (select 1 from entry where inode = i.ino)"
        " union select e.inode from reached r join entry e on e.parent = r.ino where e.inode is not null)"
        " select min(ino) from inode i where mode & 61440 = 16384 and ino not in (select ino from reached)"
        " having min(ino) is not null",
        mending.break_circle,
    ),
    Invariant(
        "files with a wrong number of links",
        "select ino, nlink from inode i where not mode & 61440 = 16384 and nlink !="
        " (select count(*) from entry where inode = i.ino) + (select count(*) from inode where body = i.ino)",
        mending.count_links,
    ),
    Invariant(
        "directories with a wrong number of children",
        "select ino, live from inode i where mode & 61440 = 16384 and ino not in (select ino from orphan) and live !="
        " (select count(*) from entry e join inode c on c.ino = e.inode where e.parent = i.ino"
        " and (not c.mode & 61440 = 16384 or c.live > 0 or c.explicit))",
        mending.count_children,
    ),
    Invariant(
        "directories with a wrong number of links",
        "select ino, nlink from inode i where mode & 61440 = 16384 and ino not in (select ino from orphan)"
        " and nlink != 2 + (select count(*) from entry e join inode c on c.ino = e.inode where e.parent = i.ino"
        " and c.mode & 61440 = 16384 and (c.live > 0 or c.explicit))",
        mending.count_subdirectories,
    ),
    Invariant(
        "files that are shorter than their extents",
        "select i.ino, max(e.offset + e.length) from extent e join inode i on i.ino = e.ino"
        " where i.mode & 61440 = 32768 and i.ino not in (select ino from part)"
        " and i.ino not in (select ino from orphan) and i.ino not in (select ino from void)"
        " group by i.ino having max(e.offset + e.length) > i.size",
        mending.lengthen,
    ),
    Invariant("volumes with an impossible geometry", "select hex(id) from volume where k < 1 or m < 0 or k + m > 255"),
    Invariant(
        "volumes in an unknown state",
        "select hex(id), state from volume where state not in ('open', 'sealed', 'image', 'freed')",
    ),
    Invariant(
        "extents in missing volumes",
        "select hex(volume), count(*) from extent where volume is not null"
        " and volume not in (select id from volume) group by volume",
    ),
    # Nothing is lost yet: its shards are still there, or these bytes are gone in any case.
    Invariant(
        "extents in freed volumes",
        "select id from volume v where state = 'freed' and exists (select 1 from extent where volume = v.id)",
        mending.seal_again,
    ),
    Invariant(
        "extents behind the end of a sealed volume",
        "select v.id, max(e.position + 128 + e.cell_size) from extent e join volume v on v.id = e.volume"
        " where v.state = 'sealed' and e.position + 128 + e.cell_size > v.length group by v.id",
        mending.move_mark,
    ),
    Invariant(
        "extents in stripes that a sealed volume has not",
        "select v.id, max(e.stripe) from extent e join volume v on v.id = e.volume"
        " where v.state = 'sealed' and e.stripe >= v.stripes group by v.id",
        mending.count_stripes,
    ),
    Invariant(
        "volumes with a wrong number of shards",
        "select hex(id), k + m from volume v where k + m !="
        " (select count(*) from shard where volume = v.id and cell >= 0 and cell < v.k + v.m)"
        " or exists (select 1 from shard where volume = v.id and (cell < 0 or cell >= v.k + v.m))",
    ),
    Invariant(
        "volumes with two shards on one device",
        "select hex(volume), hex(device) from shard group by volume, device having count(*) > 1",
    ),
    Invariant(
        "shards of missing volumes", "select hex(volume), cell from shard where volume not in (select id from volume)"
    ),
    Invariant(
        "damage of missing shards",
        "select volume, cell from damage d"
        " where not exists (select 1 from shard s where s.volume = d.volume and s.cell = d.cell)",
        mending.drop_damage,
    ),
    Invariant(
        "looks at missing shards",
        "select volume, cell from verified d"
        " where not exists (select 1 from shard s where s.volume = d.volume and s.cell = d.cell)",
        mending.drop_verified,
    ),
    Invariant(
        "volumes with a wrong count of live bytes",
        "select id, live from volume v where live != (select coalesce(sum(length), 0) from extent where volume = v.id)",
        mending.count_live,
    ),
    Invariant(
        "a wrong count of inline bytes",
        "select coalesce(sum(length), 0) from extent where volume is null having coalesce(sum(length), 0)"
        " is not (select value from counter where name = 'inline_bytes')",
        mending.counting("inline_bytes"),
    ),
    Invariant(
        "a wrong count of bytes of uploads",
        "select coalesce(sum(size), 0) from part having coalesce(sum(size), 0)"
        " is not (select value from counter where name = 'upload_bytes')",
        mending.counting("upload_bytes"),
    ),
    *(
        Invariant(
            f"{what} that will come again",
            f"select max({column}) from {table}"  # noqa: S608
            f" having max({column}) >= (select value from catalog_state where key = '{key}')",
            mending.jumping(key),
        )
        for what, table, column, key in (
            ("inode numbers", "inode", "ino", "next_inode"),
            ("cookies", "entry", "cookie", "next_cookie"),
            ("extent ids", "extent", "id", "next_extent"),
        )
    ),
)

LEFT: tuple[Invariant, ...] = (
    Invariant("volumes that were left open", "select hex(id) from volume where state = 'open'"),
    Invariant("inodes without a name that are to be reaped", "select ino from orphan"),
    Invariant("truncates that are to be cleared", "select distinct ino from void"),
    Invariant("moves that have not ended", "select path from move where ended_ns is null"),
    Invariant(
        "parts of uploads that are done",
        "select hex(p.upload), p.number from part p join upload u on u.id = p.upload where u.state = 'done'",
    ),
    Invariant(
        "volumes that are to be freed",
        "select hex(id) from volume v where (state = 'sealed' and live = 0"
        " and not exists (select 1 from extent where volume = v.id)) or state = 'freed'",
    ),
)
"""What a crash, or an ordinary end, leaves to the next owner: no faults."""


def look(tx: Transaction, invariant: Invariant, limit: int = FOUND_MAX) -> list[Row]:
    """Up to *limit* rows that should not be. Raises: CatalogCorrupt where the database itself is damaged."""
    return tx.all(f"select * from ({invariant.query}) limit ?", (limit,))  # noqa: S608


def integrity(tx: Transaction) -> list[str]:
    """What SQLite finds wrong with its own pages and indexes."""
    found = [str(row[0]) for row in tx.all("pragma integrity_check(10)")]
    return [] if found == ["ok"] else found


def index_anew(tx: Transaction) -> None:
    """Indexes say again what tables do."""
    tx.run("reindex")


def mend_row(tx: Transaction, mend: Mend, row: Sequence[Any], now_ns: int) -> str:
    return mend(tx, tuple(row), now_ns)
