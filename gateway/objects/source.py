"""The source of a copy: which object, which version, under which conditions."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote_to_bytes

from gateway.call import Call
from gateway.conditions import source_conditions
from gateway.errors import S3Error
from gateway.operations import Operation
from stratumfs.errors import NoSuchObject, NotModified, PreconditionFailed, WriteConflict
from stratumfs.values import ObjectInfo, ReadConditions

HEADER = "x-amz-copy-source"
_ATTEMPTS = 4
"""A source that is replaced while it is copied is looked at again this often."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """An object as a copy found it. *unchanged*: the condition that it is still the same."""

    bucket: str
    key: bytes
    info: ObjectInfo

    @property
    def unchanged(self) -> ReadConditions:
        return ReadConditions(if_match=(self.info.etag,))


async def from_source(call: Call, action: Callable[[Source], Awaitable[T]]) -> T:
    """Find the source of a copy and let *action* copy it, from the beginning if the source was replaced meanwhile.

    *action* demands ``source.unchanged``, so that what it decided by the source's size and metadata fits the bytes.
    Raises: what *action* raises; S3Error PreconditionFailed, NoSuchVersion, InvalidArgument, OperationAborted;
    NoSuchBucket, NoSuchObject.
    """
    source = await _find(call)
    for _ in range(_ATTEMPTS):
        try:
            return await action(source)
        except WriteConflict:
            source = await _find(call)  # the mount wrote to it while it was read
        except (PreconditionFailed, NoSuchObject):
            found = await _find(call)
            if found.info.etag == source.info.etag:
                raise  # it was a condition on the target
            source = found
    raise S3Error("OperationAborted")


async def _find(call: Call) -> Source:
    bucket, key, version = parse_source(call.request.headers[HEADER])
    call.require(Operation.GET_OBJECT, bucket, key)
    if version not in (None, "null"):
        await call.store.objects.bucket(bucket)
        raise S3Error("NoSuchVersion", VersionId=version or "")
    try:
        info = await call.store.objects.info(bucket, key, source_conditions(call.request.headers))
    except NotModified:
        # A copy has no 304: there is nothing that the caller could have already.
        raise S3Error("PreconditionFailed", Condition="x-amz-copy-source-If-None-Match") from None
    return Source(bucket, key, info)


def parse_source(value: str) -> tuple[str, bytes, str | None]:
    """Bucket, key and version id of ``[/]bucket/key[?versionId=id]``, percent-encoded.

    The question mark counts before decoding: a key may have one, encoded. Raises: S3Error InvalidArgument.
    """
    path, mark, query = value.partition("?")
    if mark and not query.startswith("versionId="):
        raise _invalid(value)
    raw = unquote_to_bytes(path).removeprefix(b"/")
    bucket, slash, key = raw.partition(b"/")
    try:
        key.decode()
        name = bucket.decode()
    except UnicodeDecodeError:
        raise _invalid(value) from None
    if not (name and slash and key) or b"\0" in raw or name.startswith("arn:"):
        raise _invalid(value)
    return name, key, query.removeprefix("versionId=") if mark else None


def _invalid(value: str) -> S3Error:
    message = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey"
    return S3Error("InvalidArgument", message, ArgumentName=HEADER, ArgumentValue=value)
