"""Buckets: the directories of the root."""

import re
import stat

from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import add_entry, drop_entry, insert_inode, orphan
from stratumfs.errors import BucketExists, BucketNotEmpty, InvalidBucketName, NoSuchBucket
from stratumfs.ids import ROOT_INODE, Cookie, InodeNo
from stratumfs.values import BucketInfo

FILE_MODE, DIR_MODE = 0o644, 0o755
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIXES = ("xn--", "sthree-", "amzn-s3-demo-")
_SUFFIXES = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
_ADDRESS = re.compile(r"\d+\.\d+\.\d+\.\d+")


def check_bucket_name(name: str) -> None:
    """S3's rules for general purpose buckets. Raises: InvalidBucketName."""
    reserved = name.startswith(_PREFIXES) or name.endswith(_SUFFIXES)
    if not _NAME.fullmatch(name) or ".." in name or _ADDRESS.fullmatch(name) or reserved:
        raise InvalidBucketName(
            f"bucket name {name!r}: 3 to 63 of a-z, 0-9, '-' and '.', a letter or digit first and last,"
            " no two dots together, not an IP address, no prefix or suffix that S3 reserves"
        )


def bucket(tx: Transaction, name: str) -> BucketInfo:
    """Raises: NoSuchBucket."""
    tx.see_name(ROOT_INODE, name.encode(errors="surrogateescape") + b"/")
    row = tx.one("select name, ino, created_ns from bucket where name = ?", (name,))
    if row is None:
        raise NoSuchBucket(f"no bucket {name!r}")
    return BucketInfo(*row)


def buckets(tx: Transaction) -> list[BucketInfo]:
    tx.see_directory(ROOT_INODE)
    return [BucketInfo(*row) for row in tx.all("select name, ino, created_ns from bucket order by name")]


def create_bucket(
    tx: Transaction,
    name: str,
    ino: InodeNo,
    cookie: Cookie,
    now_ns: int,
    owner: tuple[int, int] | None = None,
    mode: int = DIR_MODE,
) -> BucketInfo:
    """*owner* (uid, gid) defaults to the root directory's. Raises: InvalidBucketName, BucketExists."""
    check_bucket_name(name)
    if tx.one("select 1 from bucket where name = ?", (name,)):
        raise BucketExists(f"bucket {name!r} exists")
    if owner is None:
        row = tx.one("select uid, gid from inode where ino = ?", (ROOT_INODE,))
        assert row is not None
        owner = row[0], row[1]
    insert_inode(tx, ino, stat.S_IFDIR | mode, *owner, now_ns, nlink=2, explicit=True)
    add_entry(tx, ROOT_INODE, name.encode() + b"/", ino, cookie, now_ns)
    tx.run("insert into bucket values (?, ?, ?, ?, ?, 0)", (ino, name, now_ns, FILE_MODE, DIR_MODE))
    return BucketInfo(name, ino, now_ns)


def delete_bucket(tx: Transaction, name: str, now_ns: int) -> InodeNo:
    """The bucket goes if no name is left in it; its unfinished uploads are reaped. Raises: BucketNotEmpty."""
    ino = bucket(tx, name).ino
    if tx.one("select 1 from entry where parent = ? limit 1", (ino,)):
        raise BucketNotEmpty(f"bucket {name!r} is not empty")
    drop_entry(tx, ROOT_INODE, name.encode() + b"/", now_ns, keep=False)
    orphan(tx, ino, now_ns)
    tx.run("delete from bucket where ino = ?", (ino,))
    tx.run("update upload set state = 'done', ino = null where bucket = ?", (ino,))
    return ino
