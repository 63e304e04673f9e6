"""What catalog, store and doors tell one another: frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from stratumfs.ids import Cookie, ExtentId, InodeNo, UploadId
from stratumfs.location import Location


@dataclass(frozen=True, slots=True)
class Attributes:
    """What stat(2) shows of an inode.

    content  counts the content commits of the inode: pages that the kernel cached under the same number are right
    """

    ino: InodeNo
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    content: int


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """What chmod, chown and utimens change; None leaves a column as it is. Size is changed by a truncate alone."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Name:
    """A name in a directory, as a segment of an S3 key without a trailing slash.

    segment   UTF-8 bytes; may be what no POSIX name can be (empty, ``.``, over 255 bytes)
    shadowed  means the object beside a directory of the same segment: ``a`` where ``a/`` is visible too
    digest    of a segment over 255 bytes, where only that is known (``catalog.tree.digest``); ``segment`` is empty then
    """

    segment: bytes
    shadowed: bool = False
    digest: bytes | None = None


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    """One entry of readdir: where it stands, what it is called, what it is."""

    cookie: Cookie
    name: Name
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class FileSystemSpace:
    """For statfs, bytes: what fits in all, what is free for new data."""

    total: int
    free: int
    files: int


@dataclass(frozen=True, slots=True)
class BucketInfo:
    name: str
    ino: InodeNo
    created_ns: int


class Checksum(NamedTuple):
    """algorithm: CRC32, CRC32C, CRC64NVME, SHA1, SHA256; value: base64, ``-N`` behind it if composite."""

    algorithm: str
    value: str
    composite: bool = False


@dataclass(frozen=True, slots=True)
class ObjectSpec:
    """What a writer says of an object beside its bytes.

    headers   stored and echoed headers, lowercase names: cache-control, content-disposition, content-encoding,
              content-language, expires, x-amz-website-redirect-location
    metadata  user metadata, lowercase names without their prefix
    """

    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    storage_class: str = "STANDARD"
    checksum: Checksum | None = None

    def with_checksum(self, checksum: Checksum | None) -> "ObjectSpec":
        return ObjectSpec(self.content_type, self.headers, self.metadata, self.storage_class, checksum)


class ObjectInfo(NamedTuple):
    """One object as a reader sees it. A tuple, as what else is made for each request: three times as fast to make.

    etag         without quotes: MD5 in hex, or 32 hex digits, ``-`` and a number
    modified_ns  time of the last content commit
    part_sizes   bytes of each part of a multipart object, in order; empty otherwise
    content      counts the content commits of the inode: a mount rewrites files in place
    tier         the slowest that any of its bytes lies in; empty if none lies in a volume, or the store has one tier
    restored_ns  until then somebody has asked for it to be at hand; 0: nobody has
    """

    ino: InodeNo
    size: int
    etag: str
    modified_ns: int
    spec: ObjectSpec
    part_sizes: tuple[int, ...] = ()
    content: int = 0
    tier: str = ""
    restored_ns: int = 0


class ListedObject(NamedTuple):
    """One of a page. tier: as of `ObjectInfo`."""

    key: bytes
    size: int
    etag: str
    modified_ns: int
    storage_class: str
    checksum: Checksum | None = None
    tier: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of a bucket: objects and common prefixes, each in byte order.

    next_after  the last key or common prefix of the page, to go on behind; None at the end
    """

    objects: tuple[ListedObject, ...]
    prefixes: tuple[bytes, ...]
    next_after: bytes | None


class Conditions(NamedTuple):
    """Of a write, decided inside its transaction. ETags without quotes; ``*`` stands for any object.

    if_match       the object must exist with one of these ETags (or at all, for ``*``)
    if_none_match  the object must not exist (``*``) or have none of these ETags
    """

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ReadConditions:
    """Of a read or of a copy's source; times in whole seconds since the epoch."""

    if_match: tuple[str, ...] | None = None
    if_none_match: tuple[str, ...] | None = None
    if_modified_since_s: int | None = None
    if_unmodified_since_s: int | None = None


@dataclass(frozen=True, slots=True)
class Deleted:
    """Outcome for one key of a batch delete: None, or the error that the key met."""

    key: bytes
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class UploadInfo:
    """One unfinished upload; ``checksum_algorithm`` and ``composite`` as asked for when it was created."""

    id: UploadId
    key: bytes
    created_ns: int
    spec: ObjectSpec
    checksum_algorithm: str | None
    checksum_composite: bool


@dataclass(frozen=True, slots=True)
class PartInfo:
    number: int
    size: int
    etag: str
    modified_ns: int
    checksum: Checksum | None


@dataclass(frozen=True, slots=True)
class UploadListing:
    """A page of a bucket's unfinished uploads by key and id. next_after: (key, id) to go on behind; None at the end."""

    uploads: tuple[UploadInfo, ...]
    prefixes: tuple[bytes, ...]
    next_after: tuple[bytes, bytes] | None


@dataclass(frozen=True, slots=True)
class CompletedPart:
    """A part as the client lists it at completion."""

    number: int
    etag: str
    checksum: Checksum | None = None


class Written(NamedTuple):
    """What the store knows of a body once all of it is on stable storage: bytes, and its MD5 (16 bytes)."""

    size: int
    md5: bytes


class NewExtent(NamedTuple):
    """Bytes that are about to become part of an inode: a run in a volume, or inline bytes.

    Exactly one of ``location`` and ``data`` is set; whoever names a location has synced its stripes.
    """

    offset: int
    length: int
    location: Location | None = None
    data: bytes | None = None

    def continued_by(self, other: "NewExtent") -> bool:
        """Whether *other* begins where this ends, in the file and in the volume: then one row can name both."""
        return (
            self.location is not None
            and other.location is not None
            and self.offset + self.length == other.offset
            and self.location.continues(self.length, other.location)
        )


class Extent(NamedTuple):
    """One extent row as it was read and checked."""

    id: ExtentId
    ino: InodeNo
    offset: int
    length: int
    location: Location | None
    data: bytes | None


@dataclass(frozen=True, slots=True)
class MovedRun:
    """*length* bytes of a volume, from *source* on, that lie at *target* too, on stable storage."""

    source: Location
    length: int
    target: Location


@dataclass(frozen=True, slots=True)
class PackedExtent:
    """An inline extent whose bytes lie at *target* too, on stable storage. hash: BLAKE3 of what lies there."""

    id: ExtentId
    ino: InodeNo
    offset: int
    length: int
    hash: bytes
    target: Location


@dataclass(frozen=True, slots=True)
class Publication:
    """All that is pending of an inode, to become visible in one transaction.

    cut      smallest size that the file had since the last publication, if it was truncated; applied first
    extents  in write order: later ones win
    size     of the file afterwards
    etag     MD5 in hex where all bytes were written from 0 in order in one life of the buffer; None: an opaque new one
    ctime_ns of the last write, which stat has shown already; None: the time of the publication
    """

    cut: int | None
    extents: tuple[NewExtent, ...]
    size: int
    mtime_ns: int
    etag: str | None = None
    ctime_ns: int | None = None
