"""Unfinished uploads: parts are extents of invisible inodes until completion."""

import stat
from collections.abc import Sequence

from stratumfs.catalog.extents import insert_extents
from stratumfs.catalog.objects import NewObject, put_object, unstage
from stratumfs.catalog.records import (
    pack_checksum,
    pack_etag,
    pack_spec,
    unpack_checksum,
    unpack_etag,
    unpack_spec,
)
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.tree import insert_inode, orphan
from stratumfs.errors import InvalidPart, NoSuchBucket, NoSuchUpload, WriteConflict
from stratumfs.ids import ExtentId, InodeNo, UploadId
from stratumfs.values import Checksum, CompletedPart, Conditions, NewExtent, ObjectInfo, PartInfo, UploadInfo

OPEN, DONE = "open", "done"
_COLUMNS = "id, key, created_ns, object, algorithm, composite"


def create_upload(
    tx: Transaction, bucket: InodeNo, ident: UploadId, key: bytes, upload: UploadInfo, now_ns: int
) -> None:
    """Raises: NoSuchBucket."""
    if tx.one("select 1 from bucket where ino = ?", (bucket,)) is None:
        raise NoSuchBucket("the bucket was deleted")
    tx.touch_inode(bucket)
    tx.run(
        "insert into upload values (?, ?, ?, ?, ?, ?, ?, ?, null)",
        (
            ident,
            bucket,
            key,
            now_ns,
            pack_spec(upload.spec),
            upload.checksum_algorithm,
            upload.checksum_composite,
            OPEN,
        ),
    )


def upload(tx: Transaction, bucket: InodeNo, key: bytes, ident: UploadId) -> UploadInfo:
    """Raises: NoSuchUpload."""
    tx.see_inode(bucket)
    row = tx.one(
        f"select {_COLUMNS} from upload where id = ? and bucket = ? and key = ? and state = ?",  # noqa: S608
        (ident, bucket, key, OPEN),
    )
    if row is None:
        raise NoSuchUpload("no such upload")
    return _upload(row)


def finished_upload(tx: Transaction, bucket: InodeNo, key: bytes, ident: UploadId) -> InodeNo | None:
    """The object that a completed upload became: a repeated completion gets the same answer."""
    row = tx.one(
        "select ino from upload where id = ? and bucket = ? and key = ? and state = ?", (ident, bucket, key, DONE)
    )
    return row[0] if row else None


def uploads(
    tx: Transaction, bucket: InodeNo, key_from: bytes, key_after: bytes, id_after: bytes, limit: int
) -> list[UploadInfo]:
    """A chunk of the open uploads, by key from *key_from* on and id, behind (*key_after*, *id_after*)."""
    tx.see_inode(bucket)
    rows = tx.all(
        f"select {_COLUMNS} from upload where bucket = ? and state = ? and key >= ? and (key, id) > (?, ?)"  # noqa: S608
        " order by key, id limit ?",
        (bucket, OPEN, key_from, key_after, id_after, limit),
    )
    return [_upload(row) for row in rows]


def put_part(
    tx: Transaction,
    ident: UploadId,
    part: PartInfo,
    ino: InodeNo,
    extents: Sequence[NewExtent],
    first_id: ExtentId,
    now_ns: int,
    staged: bool,
) -> None:
    """A part replaces an older one of its number. Raises: NoSuchUpload."""
    if tx.one("select 1 from upload where id = ? and state = ?", (ident, OPEN)) is None:
        raise NoSuchUpload("no such upload")
    if staged:
        unstage(tx, ino)
    else:
        insert_inode(tx, ino, stat.S_IFREG | 0o600, 0, 0, now_ns, nlink=0, size=part.size)
        insert_extents(tx, ino, extents, first_id, fresh=True)
    old = tx.one("select ino, size from part where upload = ? and number = ?", (ident, part.number))
    if old is not None:
        orphan(tx, old[0], now_ns)
        tx.run("delete from part where upload = ? and number = ?", (ident, part.number))
    tx.touch_inode(ino)
    _count(tx, part.size - (old[1] if old else 0))
    tx.run(
        "insert into part values (?, ?, ?, ?, ?, ?, ?)",
        (ident, part.number, ino, part.size, pack_etag(part.etag), part.modified_ns, pack_checksum(part.checksum)),
    )


def parts(tx: Transaction, ident: UploadId, after: int, limit: int) -> list[PartInfo]:
    rows = tx.all(
        "select number, size, etag, modified_ns, checksum, ino from part where upload = ? and number > ?"
        " order by number limit ?",
        (ident, after, limit),
    )
    for row in rows:
        tx.see_inode(row[5])
    return [PartInfo(n, size, unpack_etag(etag), ns, unpack_checksum(sum_)) for n, size, etag, ns, sum_, _ in rows]


def part_inodes(tx: Transaction, ident: UploadId, listed: Sequence[CompletedPart]) -> list[tuple[InodeNo, PartInfo]]:
    """A chunk of the parts that a client lists, in its order and ascending.

    Raises: InvalidPart if one is missing or another one.
    """
    rows = tx.all(
        "select number, size, etag, modified_ns, checksum, ino from part where upload = ? and number between ? and ?",
        (ident, listed[0].number, listed[-1].number),
    )
    known = {row[0]: row for row in rows}
    found = []
    for asked in listed:
        row = known.get(asked.number)
        if row is None or unpack_etag(row[2]) != asked.etag:
            raise InvalidPart(f"part {asked.number} was not uploaded, or with another ETag")
        number, size, etag, ns, sum_, ino = row
        checksum = unpack_checksum(sum_)
        if asked.checksum is not None and not _agrees(asked.checksum, checksum):
            raise InvalidPart(f"part {asked.number} has another checksum")
        found.append((InodeNo(ino), PartInfo(number, size, unpack_etag(etag), ns, checksum)))
    return found


def parts_state(tx: Transaction, ident: UploadId) -> tuple[int, ...]:
    """Other numbers for any other set of parts: their inodes are never used twice."""
    row = tx.one("select count(*), coalesce(max(ino), 0), coalesce(sum(ino), 0) from part where upload = ?", (ident,))
    assert row is not None
    return row


def complete_upload(
    tx: Transaction,
    bucket: InodeNo,
    key: bytes,
    ident: UploadId,
    parts_seen: tuple[int, ...],
    new: NewObject,
    conditions: Conditions,
    now_ns: int,
) -> ObjectInfo:
    """The staged object appears and the upload is done, in one step; its parts are reaped afterwards.

    *parts_seen* is what ``parts_state`` was before the parts were looked at.
    Raises: NoSuchUpload; WriteConflict if a part came or was replaced meanwhile; what ``put_object`` raises.
    """
    upload(tx, bucket, key, ident)
    if parts_state(tx, ident) != parts_seen:
        raise WriteConflict("a part was uploaded during the completion")
    info = put_object(tx, bucket, key, new, conditions, now_ns)
    tx.run("update upload set state = ?, ino = ?, created_ns = ? where id = ?", (DONE, info.ino, now_ns, ident))
    return info


def abort_upload(tx: Transaction, bucket: InodeNo, key: bytes, ident: UploadId) -> None:
    """No part can be added from now on. Raises: NoSuchUpload."""
    upload(tx, bucket, key, ident)
    tx.touch_inode(bucket)
    tx.run("update upload set state = ?, ino = null where id = ?", (DONE, ident))


def drop_parts(tx: Transaction, ident: UploadId, now_ns: int, limit: int = 100) -> bool:
    """Orphan a chunk of a done upload's parts. True if there are more."""
    rows = tx.all("select number, ino, size from part where upload = ? limit ?", (ident, limit + 1))
    for number, ino, size in rows[:limit]:
        orphan(tx, ino, now_ns)
        tx.run("delete from part where upload = ? and number = ?", (ident, number))
        _count(tx, -size)
    return len(rows) > limit


def stale_uploads(tx: Transaction, limit: int = 50) -> list[UploadId]:
    """Done ones that have parts left: an owner that starts goes on with them."""
    rows = tx.all(
        "select id from upload where state = ? and exists (select 1 from part where upload = id) limit ?",
        (DONE, limit),
    )
    return [UploadId(ident) for (ident,) in rows]


def old_uploads(tx: Transaction, done_before_ns: int, limit: int = 100) -> list[UploadId]:
    """Done uploads are remembered for a while, to answer a repeated completion: those that were for long enough."""
    rows = tx.all(
        "select id from upload where state = ? and created_ns < ?"
        " and not exists (select 1 from part where upload = id) limit ?",
        (DONE, done_before_ns, limit),
    )
    return [UploadId(ident) for (ident,) in rows]


def forget_uploads(tx: Transaction, idents: Sequence[UploadId]) -> None:
    for ident in idents:
        tx.run("delete from upload where id = ?", (ident,))


def _agrees(asked: Checksum, known: Checksum | None) -> bool:
    return known is not None and (asked.algorithm, asked.value) == (known.algorithm, known.value)


def _upload(row: tuple[object, ...]) -> UploadInfo:
    ident, key, created_ns, spec, algorithm, composite = row
    return UploadInfo(ident, key, created_ns, unpack_spec(spec), algorithm, bool(composite))  # type: ignore[arg-type] # the columns' types are the schema's


def _count(tx: Transaction, size: int) -> None:
    tx.run("update counter set value = value + ? where name = 'upload_bytes'", (size,))
