"""The source of a copy: which object, which version, which of its bytes."""

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from gateway.call import Call
from gateway.conditions import source_conditions
from gateway.errors import S3Error
from stratumfs.errors import NotModified
from stratumfs.values import ObjectInfo, ReadConditions

HEADER = "x-amz-copy-source"


@dataclass(frozen=True, slots=True)
class Source:
    """An object as a copy found it. *unchanged*: the condition that it is still the same."""

    bucket: str
    key: bytes
    info: ObjectInfo

    @property
    def unchanged(self) -> ReadConditions:
        return ReadConditions(if_match=(self.info.etag,))


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


async def find_source(call: Call) -> Source:
    """The object that a copy reads, its conditions met.

    Raises: S3Error PreconditionFailed, NoSuchVersion, InvalidArgument; NoSuchBucket, NoSuchObject.
    """
    bucket, key, version = parse_source(call.request.headers[HEADER])
    if version not in (None, "null"):
        await call.store.objects.bucket(bucket)
        raise S3Error("NoSuchVersion", VersionId=version or "")
    try:
        info = await call.store.objects.info(bucket, key, source_conditions(call.request.headers))
    except NotModified:
        # A copy has no 304: there is nothing that the caller could have already.
        raise S3Error("PreconditionFailed", Condition="x-amz-copy-source-If-None-Match") from None
    return Source(bucket, key, info)


def _invalid(value: str) -> S3Error:
    message = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey"
    return S3Error("InvalidArgument", message, ArgumentName=HEADER, ArgumentValue=value)
