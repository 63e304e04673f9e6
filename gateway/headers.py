"""Headers of objects: what of a request is stored with an object, and how an object's answer says it again."""

import re
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache

from gateway.checksums import Algorithm
from gateway.errors import S3Error
from gateway.tiers import STANDARD, shown_class
from stratumfs.limits import USER_METADATA_MAX
from stratumfs.values import Checksum, ObjectInfo, ObjectSpec

METADATA = "x-amz-meta-"
REDIRECT = "x-amz-website-redirect-location"
STORED = ("cache-control", "content-disposition", "content-encoding", "content-language", "expires", REDIRECT)
DEFAULT_TYPE = "binary/octet-stream"
"""S3's, for objects whose writer named none."""
STORAGE_CLASSES = frozenset(
    ("STANDARD", "STANDARD_IA", "REDUCED_REDUNDANCY", "INTELLIGENT_TIERING", "ONEZONE_IA", "GLACIER_IR")
)
"""Those whose objects can be read at once, which is true of ours; GLACIER and DEEP_ARCHIVE would promise a restore."""
ANSWERED_METADATA_MAX = 8 << 10
"""Bytes of user metadata that an answer carries; the mount can store more than clients take in headers."""

_OVERRIDES = {
    f"response-{name}": name
    for name in (
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    )
}
_DATES = 1024
"""Spelled dates that are remembered; they repeat where objects are read again, or were written together."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def object_spec(headers: Mapping[str, str], checksum: Checksum | None = None) -> ObjectSpec:
    """What the headers of a write say of its object.

    Raises: S3Error MetadataTooLarge, InvalidStorageClass, InvalidRedirectLocation.
    """
    stored = {name: headers[name] for name in STORED if headers.get(name)}
    if REDIRECT in stored and not stored[REDIRECT].startswith(("/", "http://", "https://")):
        raise S3Error("InvalidRedirectLocation")
    return ObjectSpec(
        content_type=headers.get("content-type") or None,
        headers=stored,
        metadata=_user_metadata(headers),
        storage_class=storage_class(headers) or STANDARD,
        checksum=checksum,
    )


def storage_class(headers: Mapping[str, str]) -> str | None:
    """The storage class asked for. Raises: S3Error InvalidStorageClass."""
    name = headers.get("x-amz-storage-class")
    if name is not None and name not in STORAGE_CLASSES:
        raise S3Error("InvalidStorageClass", StorageClassRequested=name)
    return name


def object_headers(info: ObjectInfo, overrides: Mapping[str, str] | None = None) -> dict[str, str]:
    """Headers of GET and HEAD alike, without length and checksum; *overrides* come from the query string."""
    spec = info.spec
    found = {
        "content-type": spec.content_type or DEFAULT_TYPE,
        **spec.headers,
        **(overrides or {}),
    }
    # What came in through the mount may be no header at all; a line break in one would be a header of its writer's.
    answer = {name: value for name, value in found.items() if not _CONTROL.search(value)}
    answer.setdefault("content-type", DEFAULT_TYPE)
    answer["accept-ranges"] = "bytes"
    answer["etag"] = f'"{info.etag}"'
    answer["last-modified"] = http_date(info.modified_ns)
    if (shown := shown_class(spec.storage_class, info.tier)) != STANDARD:
        answer["x-amz-storage-class"] = shown
    answer.update(_metadata_headers(spec.metadata))
    return answer


def not_modified_headers(info: ObjectInfo) -> dict[str, str]:
    """What a 304 repeats (RFC 9110, 15.4.5)."""
    headers = object_headers(info)
    return {name: headers[name] for name in ("etag", "last-modified", "cache-control", "expires") if name in headers}


def checksum_headers(checksum: Checksum | None) -> dict[str, str]:
    if checksum is None:
        return {}
    return {
        Algorithm(checksum.algorithm).header: checksum.value,
        "x-amz-checksum-type": "COMPOSITE" if checksum.composite else "FULL_OBJECT",
    }


def response_overrides(query: Mapping[str, str]) -> dict[str, str]:
    """Headers that ``response-*`` parameters set in place of the stored ones. Raises: S3Error InvalidArgument."""
    found = {header: query[name] for name, header in _OVERRIDES.items() if name in query}
    for header, value in found.items():
        if _CONTROL.search(value):
            raise S3Error("InvalidArgument", ArgumentName=f"response-{header}", ArgumentValue=value)
    return found


def http_date(time_ns: int) -> str:
    return _http_date(time_ns // 1_000_000_000)


@lru_cache(maxsize=_DATES)
def _http_date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _user_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    found = {name[len(METADATA) :]: value for name, value in headers.items() if name.startswith(METADATA)}
    size = sum(len(name.encode()) + len(value.encode()) for name, value in found.items())
    if size > USER_METADATA_MAX:
        raise S3Error("MetadataTooLarge", Size=str(size), MaxSizeAllowed=str(USER_METADATA_MAX))
    return found


def _metadata_headers(metadata: Mapping[str, str]) -> dict[str, str]:
    """User metadata as headers; those that no header can carry are counted in ``x-amz-missing-meta``, as S3 does."""
    answer: dict[str, str] = {}
    missing, room = 0, ANSWERED_METADATA_MAX
    for name, value in metadata.items():
        room -= len(name.encode()) + len(value.encode())
        if room < 0 or not _TOKEN.fullmatch(name) or _CONTROL.search(value):
            missing += 1
        else:
            answer[METADATA + name] = value
    if missing:
        answer["x-amz-missing-meta"] = str(missing)
    return answer
