"""CopyObject: an object under another key or with other metadata, without its bytes passing the client."""

from collections.abc import Mapping
from dataclasses import replace

from gateway import checksums, xml
from gateway.call import Call
from gateway.checksums import Algorithm
from gateway.conditions import write_conditions
from gateway.errors import S3Error
from gateway.headers import REDIRECT, object_spec, storage_class
from gateway.objects.source import Source, from_source
from gateway.response import xml_response
from gateway.tiers import STANDARD
from stratumfs.threads import in_thread
from stratumfs.values import Checksum, ObjectInfo, ObjectSpec

_ALGORITHM = "x-amz-checksum-algorithm"


async def copy_object(call: Call) -> None:
    headers = call.request.headers
    key, conditions = call.new_key, write_conditions(headers)
    replacing = _replaces(headers, "x-amz-metadata-directive", "metadata")
    _replaces(headers, "x-amz-tagging-directive", "tagging")
    algorithm = checksums.algorithm_named(headers[_ALGORITHM]) if _ALGORITHM in headers else None
    given = object_spec(headers)  # checked before the source is looked for

    async def copy(source: Source) -> ObjectInfo:
        if not replacing:
            _refuse_nothing_new(call, source, algorithm)
        checksum = await _checksum(call, source, algorithm)
        spec = (given if replacing else _kept(source.info.spec, headers)).with_checksum(checksum)
        return await call.store.objects.copy(
            source.bucket, source.key, source.unchanged, call.bucket, key, spec, conditions, call.now_ns
        )

    info = await from_source(call, copy)
    await call.send(xml_response(xml.copy_object(info.etag, info.modified_ns, info.spec.checksum)))


def _replaces(headers: Mapping[str, str], name: str, what: str) -> bool:
    """Whether a directive says REPLACE. Raises: S3Error InvalidArgument."""
    directive = headers.get(name, "COPY")
    if directive not in ("COPY", "REPLACE"):
        raise S3Error("InvalidArgument", f"Unknown {what} directive.", ArgumentName=name, ArgumentValue=directive)
    return directive == "REPLACE"


def _refuse_nothing_new(call: Call, source: Source, algorithm: Algorithm | None) -> None:
    changes = algorithm is not None or not {"x-amz-storage-class", REDIRECT}.isdisjoint(call.request.headers)
    if (source.bucket, source.key) == (call.bucket, call.key) and not changes:
        raise S3Error(
            "InvalidRequest",
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes.",
        )


def _kept(spec: ObjectSpec, headers: Mapping[str, str]) -> ObjectSpec:
    """What a copy keeps of its source: all but storage class and redirect, which S3 wants to be said anew."""
    kept = {name: value for name, value in spec.headers.items() if name != REDIRECT}
    if REDIRECT in headers:
        kept[REDIRECT] = headers[REDIRECT]
    return replace(spec, headers=kept, storage_class=storage_class(headers) or STANDARD)


async def _checksum(call: Call, source: Source, algorithm: Algorithm | None) -> Checksum | None:
    """The source's checksum, or one by the algorithm that the request names: that one reads all bytes."""
    known = source.info.spec.checksum
    if algorithm is None or (known is not None and known.algorithm == algorithm and not known.composite):
        return known
    hasher = checksums.hasher(algorithm)
    async with (
        call.downloads.turn(source.info.size),
        call.store.objects.open(source.bucket, source.key, source.unchanged) as reader,
    ):
        async for chunk in reader.chunks(0, source.info.size):
            await in_thread(hasher.update, chunk, limiter=call.hashing)
    return Checksum(algorithm.value, checksums.encode(hasher.digest()))
