"""Answers in S3's XML: formatted strings, because a listing of 1,000 keys takes six times as long through a tree.

Every function returns a whole UTF-8 document. Where a client asked for ``encoding-type=url``, *url* is true and keys,
prefixes, markers and delimiters are percent-encoded; else characters that XML 1.0 cannot hold are written as character
references, as S3 does, which strict parsers refuse: that is why clients ask. Where nobody can ask, and the text only
repeats what the request said, they are replaced.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from time import gmtime, strftime
from typing import cast
from urllib.parse import quote

from gateway.checksums import Algorithm
from gateway.errors import S3Error
from gateway.request import RequestIds
from gateway.tiers import shown_class
from stratumfs.values import BucketInfo, Checksum, ListedObject, PartInfo, UploadInfo

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SPECIAL = re.compile('[&<>"\x00-\x1f\x7f\ufffe\uffff]')
_PLAIN = bytes(set(range(0x20, 0x7F)) - set(b'&<>"'))
"""Bytes that are never escaped, whatever is beside them."""
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
"""What XML 1.0 cannot hold, not even as a reference."""
_NAMED = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}


@dataclass(frozen=True, slots=True)
class Owner:
    id: str
    name: str

    def xml(self, element: str = "Owner") -> str:
        return f"<{element}><ID>{escape(self.id)}</ID><DisplayName>{escape(self.name)}</DisplayName></{element}>"


@dataclass(frozen=True, slots=True)
class Page:
    """What all listings of a bucket repeat of the request.

    limit      max-keys or max-uploads, as it was applied
    truncated  whether there is more
    """

    bucket: str
    prefix: bytes
    delimiter: bytes
    limit: int
    truncated: bool
    url: bool


def escape(text: str) -> str:
    """*text* as element content or attribute."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(lambda match: _NAMED.get(match[0]) or f"&#x{ord(match[0]):X};", text)


def legible(text: str) -> str:
    """*text* as element content that every parser takes: what XML cannot hold is replaced. For what the client knows
    anyway; a document that it cannot parse would keep the rest from it."""
    return escape(_NO_TEXT.sub("\ufffd", text))


def timestamp(time_ns: int) -> str:
    """``2009-10-12T17:50:30.000Z``: whole seconds, so that listings agree with Last-Modified."""
    return _timestamp(time_ns // 1_000_000_000)


def _timestamps(times_ns: Sequence[int]) -> list[str]:
    """Of many, that have few seconds among them."""
    seconds = [time_ns // 1_000_000_000 for time_ns in times_ns]
    texts = {second: _timestamp(second) for second in set(seconds)}
    return list(map(texts.__getitem__, seconds))


@lru_cache(maxsize=8192)
def _timestamp(seconds: int) -> str:
    minute, second = divmod(seconds, 60)
    return f"{_minute(minute)}:{second:02}.000Z"


@lru_cache(maxsize=4096)
def _minute(minute: int) -> str:
    return strftime("%Y-%m-%dT%H:%M", gmtime(minute * 60))


def _document(root: str, content: str) -> bytes:
    return f'{_HEAD}<{root} xmlns="{NAMESPACE}">{content}</{root}>'.encode()


def _key_writer(url: bool) -> Callable[[bytes], str]:
    if url:
        return lambda key: quote(key, safe="/-_.~")
    return lambda key: escape(key.decode())


def _key_texts(keys: Sequence[bytes], url: bool) -> list[str]:
    """As ``_key_writer`` has them; where no key of the page holds anything special, that is found out once."""
    if url or b"/".join(keys).translate(None, _PLAIN):
        return list(map(_key_writer(url), keys))
    return b"\n".join(keys).decode().split("\n")


def _element(name: str, text: str | None) -> str:
    """An element; nothing for None."""
    return "" if text is None else f"<{name}>{text}</{name}>"


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _etag(etag: str) -> str:
    return f"<ETag>&quot;{escape(etag)}&quot;</ETag>"


def _checksum(checksum: Checksum | None, *, typed: bool) -> str:
    """The value, and where *typed* the type."""
    if checksum is None:
        return ""
    element = Algorithm(checksum.algorithm).element
    kind = f"<ChecksumType>{checksum_type(checksum.composite)}</ChecksumType>" if typed else ""
    return f"<{element}>{escape(checksum.value)}</{element}>{kind}"


def checksum_type(composite: bool) -> str:
    return "COMPOSITE" if composite else "FULL_OBJECT"


# Errors


def error(error: S3Error, resource: str, ids: RequestIds, bucket: str | None = None, key: bytes | None = None) -> bytes:
    """The error document; it alone has no namespace. resource: the path, as sent."""
    elements = {"Code": error.code, "Message": error.message, **error.elements}
    if bucket is not None:
        elements.setdefault("BucketName", bucket)
    if key is not None:
        elements.setdefault("Key", key.decode())
    elements |= {"Resource": resource, "RequestId": ids.request_id, "HostId": ids.host_id}
    content = "".join(f"<{name}>{legible(text)}</{name}>" for name, text in elements.items())
    return f"{_HEAD}<Error>{content}</Error>".encode()


# Buckets


def list_buckets(
    buckets: Iterable[BucketInfo], owner: Owner, region: str, prefix: str | None = None, token: str | None = None
) -> bytes:
    """ListAllMyBucketsResult; *token* continues a truncated list."""
    rows = "".join(
        f"<Bucket><Name>{escape(bucket.name)}</Name><CreationDate>{timestamp(bucket.created_ns)}</CreationDate>"
        f"<BucketRegion>{escape(region)}</BucketRegion></Bucket>"
        for bucket in buckets
    )
    tail = _element("Prefix", None if prefix is None else escape(prefix))
    tail += _element("ContinuationToken", None if token is None else escape(token))
    return _document("ListAllMyBucketsResult", f"{owner.xml()}<Buckets>{rows}</Buckets>{tail}")


def location(region: str) -> bytes:
    """LocationConstraint: empty for us-east-1, as it was before regions had names."""
    return _document("LocationConstraint", "" if region == "us-east-1" else escape(region))


def versioning(status: str | None) -> bytes:
    """VersioningConfiguration; None: never versioned."""
    return _document("VersioningConfiguration", _element("Status", status))


# Objects of a bucket


def list_objects(
    page: Page,
    objects: Sequence[ListedObject],
    prefixes: Iterable[bytes],
    owner: Owner,
    marker: bytes,
    next_marker: bytes | None,
) -> bytes:
    """ListBucketResult of version 1; every object has its owner."""
    key = _key_writer(page.url)
    head = f"<Marker>{key(marker)}</Marker>" + _element("NextMarker", None if next_marker is None else key(next_marker))
    return _listing(page, head, objects, prefixes, owner)


def list_objects_v2(
    page: Page,
    objects: Sequence[ListedObject],
    prefixes: Sequence[bytes],
    owner: Owner | None,
    start_after: bytes | None,
    token: str | None,
    next_token: str | None,
) -> bytes:
    """ListBucketResult of version 2; *owner* is None unless fetch-owner asked for it."""
    key = _key_writer(page.url)
    head = f"<KeyCount>{len(objects) + len(prefixes)}</KeyCount>"
    head += _element("ContinuationToken", None if token is None else escape(token))
    head += _element("NextContinuationToken", None if next_token is None else escape(next_token))
    head += _element("StartAfter", key(start_after) if start_after else None)
    return _listing(page, head, objects, prefixes, owner)


def _listing(
    page: Page, head: str, objects: Sequence[ListedObject], prefixes: Iterable[bytes], owner: Owner | None
) -> bytes:
    key = _key_writer(page.url)
    content = f"{_page(page, 'MaxKeys', key)}{head}{_contents(objects, page.url, owner)}{_prefixes(prefixes, key)}"
    return _document("ListBucketResult", content)


def _contents(objects: Sequence[ListedObject], url: bool, owner: Owner | None) -> str:
    if not objects:
        return ""
    keys, sizes, etags, modified_ns, classes, checksums, tiers = zip(*objects, strict=True)
    if any(tiers):
        classes = tuple(map(shown_class, classes, tiers))
    # ETags are hex digits with perhaps a hyphen: nothing in them is to be escaped.
    return _repeated(
        "<Contents><Key>",
        _key_texts(keys, url),
        "</Key><LastModified>",
        _timestamps(modified_ns),
        "</LastModified><ETag>&quot;",
        etags,
        "&quot;</ETag>",
        list(map(_checksum_kind, checksums)) if any(checksums) else "",
        "<Size>",
        list(map(str, sizes)),
        f"</Size>{owner.xml() if owner else ''}<StorageClass>",
        classes if len(set(classes)) > 1 else classes[0],
        "</StorageClass></Contents>",
    )


def _repeated(*parts: str | Sequence[str]) -> str:
    """All *parts* again and again; of those that are no text there is one for each time. No step of Python's for each:
    a page has a thousand."""
    texts: list[str] = []
    columns: dict[int, Sequence[str]] = {}
    for text, group in groupby(parts, lambda part: isinstance(part, str)):
        for part in group if not text else ["".join(cast(Iterable[str], group))]:
            if not text:
                columns[len(texts)] = part
            texts.append(part if isinstance(part, str) else "")
    rows = texts * len(next(iter(columns.values())))
    for at, column in columns.items():
        rows[at :: len(texts)] = column
    return "".join(rows)


def list_versions(
    page: Page,
    objects: Iterable[ListedObject],
    prefixes: Iterable[bytes],
    owner: Owner,
    key_marker: bytes,
    version_id_marker: str,
    next_key_marker: bytes | None,
) -> bytes:
    """ListVersionsResult of a bucket that was never versioned: each object is its own latest version, ``null``."""
    key = _key_writer(page.url)
    owned = owner.xml()
    rows = [
        f"<Version><Key>{key(item.key)}</Key><VersionId>null</VersionId><IsLatest>true</IsLatest>"
        f"<LastModified>{timestamp(item.modified_ns)}</LastModified>{_etag(item.etag)}"
        f"{_checksum_kind(item.checksum)}<Size>{item.size}</Size>{owned}"
        f"<StorageClass>{shown_class(item.storage_class, item.tier)}</StorageClass></Version>"
        for item in objects
    ]
    head = f"<KeyMarker>{key(key_marker)}</KeyMarker><VersionIdMarker>{escape(version_id_marker)}</VersionIdMarker>"
    if next_key_marker is not None:
        head += f"<NextKeyMarker>{key(next_key_marker)}</NextKeyMarker><NextVersionIdMarker>null</NextVersionIdMarker>"
    content = f"{_page(page, 'MaxKeys', key)}{head}{''.join(rows)}{_prefixes(prefixes, key)}"
    return _document("ListVersionsResult", content)


def _page(page: Page, limit: str, key: Callable[[bytes], str]) -> str:
    name = "Bucket" if limit == "MaxUploads" else "Name"
    delimiter = f"<Delimiter>{key(page.delimiter)}</Delimiter>" if page.delimiter else ""
    return (
        f"<{name}>{escape(page.bucket)}</{name}><Prefix>{key(page.prefix)}</Prefix>{delimiter}"
        f"<{limit}>{page.limit}</{limit}>{'<EncodingType>url</EncodingType>' if page.url else ''}"
        f"<IsTruncated>{_bool(page.truncated)}</IsTruncated>"
    )


def _prefixes(prefixes: Iterable[bytes], key: Callable[[bytes], str]) -> str:
    return "".join(f"<CommonPrefixes><Prefix>{key(prefix)}</Prefix></CommonPrefixes>" for prefix in prefixes)


def _checksum_kind(checksum: Checksum | None) -> str:
    """Listings name algorithm and type, not the value."""
    return "" if checksum is None else _kind(checksum.algorithm, checksum.composite)


@lru_cache(maxsize=64)
def _kind(algorithm: str, composite: bool) -> str:
    kind = checksum_type(composite)
    return f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm><ChecksumType>{kind}</ChecksumType>"


def delete_result(deleted: Iterable[bytes], failed: Iterable[tuple[bytes, S3Error]]) -> bytes:
    """DeleteResult; in quiet mode *deleted* is empty."""
    rows = [f"<Deleted><Key>{escape(key.decode())}</Key></Deleted>" for key in deleted]
    rows += [
        f"<Error><Key>{escape(key.decode())}</Key><Code>{problem.code}</Code>"
        f"<Message>{escape(problem.message)}</Message></Error>"
        for key, problem in failed
    ]
    return _document("DeleteResult", "".join(rows))


def copy_object(etag: str, modified_ns: int, checksum: Checksum | None) -> bytes:
    """CopyObjectResult."""
    return _document("CopyObjectResult", _copied(etag, modified_ns, _checksum(checksum, typed=True)))


def copy_part(etag: str, modified_ns: int, checksum: Checksum | None) -> bytes:
    """CopyPartResult."""
    return _document("CopyPartResult", _copied(etag, modified_ns, _checksum(checksum, typed=False)))


def _copied(etag: str, modified_ns: int, checksum: str) -> str:
    return f"<LastModified>{timestamp(modified_ns)}</LastModified>{_etag(etag)}{checksum}"


# Multipart uploads


def create_upload(bucket: str, key: bytes, upload_id: str) -> bytes:
    """InitiateMultipartUploadResult."""
    content = f"<Bucket>{escape(bucket)}</Bucket><Key>{legible(key.decode())}</Key><UploadId>{upload_id}</UploadId>"
    return _document("InitiateMultipartUploadResult", content)


def complete_upload(location: str, bucket: str, key: bytes, etag: str, checksum: Checksum | None) -> bytes:
    """CompleteMultipartUploadResult. location: URL of the object."""
    content = (
        f"<Location>{escape(location)}</Location><Bucket>{escape(bucket)}</Bucket>"
        f"<Key>{legible(key.decode())}</Key>{_etag(etag)}{_checksum(checksum, typed=True)}"
    )
    return _document("CompleteMultipartUploadResult", content)


def list_parts(
    bucket: str,
    upload: UploadInfo,
    upload_id: str,
    parts: Sequence[PartInfo],
    owner: Owner,
    marker: int,
    limit: int,
    truncated: bool,
    url: bool = False,
) -> bytes:
    """ListPartsResult; parts in ascending order, behind number *marker*."""
    rows = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber><LastModified>{timestamp(part.modified_ns)}</LastModified>"
        f"{_etag(part.etag)}<Size>{part.size}</Size>{_checksum(part.checksum, typed=False)}</Part>"
        for part in parts
    )
    key = _key_writer(url)(upload.key) if url else legible(upload.key.decode())
    content = (
        f"<Bucket>{escape(bucket)}</Bucket><Key>{key}</Key><UploadId>{upload_id}</UploadId>"
        f"{owner.xml('Initiator')}{owner.xml()}<StorageClass>{escape(upload.spec.storage_class)}</StorageClass>"
        f"<PartNumberMarker>{marker}</PartNumberMarker>"
        f"<NextPartNumberMarker>{parts[-1].number if parts else marker}</NextPartNumberMarker>"
        f"<MaxParts>{limit}</MaxParts>{'<EncodingType>url</EncodingType>' if url else ''}"
        f"<IsTruncated>{_bool(truncated)}</IsTruncated>{_upload_checksum(upload)}{rows}"
    )
    return _document("ListPartsResult", content)


def list_uploads(
    page: Page,
    uploads: Iterable[tuple[str, UploadInfo]],
    prefixes: Iterable[bytes],
    owner: Owner,
    key_marker: bytes,
    upload_id_marker: str,
    next_key_marker: bytes | None,
    next_upload_id_marker: str | None,
) -> bytes:
    """ListMultipartUploadsResult; each upload with its id as clients write it."""
    key = _key_writer(page.url)
    rows = "".join(
        f"<Upload><Key>{key(upload.key)}</Key><UploadId>{upload_id}</UploadId>{owner.xml('Initiator')}{owner.xml()}"
        f"<StorageClass>{escape(upload.spec.storage_class)}</StorageClass>"
        f"<Initiated>{timestamp(upload.created_ns)}</Initiated>{_upload_checksum(upload)}</Upload>"
        for upload_id, upload in uploads
    )
    head = f"<KeyMarker>{key(key_marker)}</KeyMarker><UploadIdMarker>{escape(upload_id_marker)}</UploadIdMarker>"
    head += _element("NextKeyMarker", None if next_key_marker is None else key(next_key_marker))
    head += _element("NextUploadIdMarker", next_upload_id_marker)
    content = f"{_page(page, 'MaxUploads', key)}{head}{rows}{_prefixes(prefixes, key)}"
    return _document("ListMultipartUploadsResult", content)


def _upload_checksum(upload: UploadInfo) -> str:
    if upload.checksum_algorithm is None:
        return ""
    kind = checksum_type(upload.checksum_composite)
    return f"<ChecksumAlgorithm>{upload.checksum_algorithm}</ChecksumAlgorithm><ChecksumType>{kind}</ChecksumType>"
