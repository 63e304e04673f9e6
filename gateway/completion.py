"""CompleteMultipartUpload: parts become one object."""

from collections.abc import Mapping, Sequence

from gateway import checksums, xml, xml_requests
from gateway.call import Call
from gateway.checksums import Algorithm
from gateway.conditions import write_conditions
from gateway.errors import S3Error
from gateway.limits import REQUEST_XML_MAX
from gateway.multipart import upload_id
from gateway.response import xml_response
from stratumfs.errors import NoSuchUpload
from stratumfs.ids import UploadId
from stratumfs.limits import LIST_MAX, OBJECT_MAX
from stratumfs.threads import in_thread
from stratumfs.values import Checksum, CompletedPart, PartInfo, UploadInfo

_SIZE = "x-amz-mp-object-size"


async def complete_upload(call: Call) -> None:
    ident, conditions = upload_id(call), write_conditions(call.request.headers)
    declared = checksums.declared(call.request.headers)
    document = await call.body.read(REQUEST_XML_MAX)
    # 10,000 parts take 13 ms to parse: in a thread, the others go on.
    listed = await in_thread(xml_requests.parse_complete, document, limiter=call.hashing)
    checksum = await _check_whole(call, ident, listed, declared)
    info = await call.store.uploads.complete(call.bucket, call.key, ident, listed, checksum, conditions, call.now_ns)
    location = f"{'https' if call.request.secure else 'http'}://{call.request.host}{call.request.raw_path.decode()}"
    await call.send(xml_response(xml.complete_upload(location, call.bucket, call.key, info.etag, info.spec.checksum)))


async def _check_whole(
    call: Call, ident: UploadId, listed: Sequence[CompletedPart], declared: Checksum | None
) -> Checksum | None:
    """The checksum of the whole, made of those of its parts, and compared with what the client says of the whole.

    What the client says of each part is compared by the store: a part that changes after this look has another ETag,
    and the completion is refused. Raises: S3Error BadDigest, InvalidRequest.
    """
    try:
        upload = await call.store.uploads.get(call.bucket, call.key, ident)
        known = await _parts(call, ident)
    except NoSuchUpload:
        return None  # perhaps done already: then the store repeats its answer
    parts = [known[part.number] for part in listed if part.number in known]
    if len(parts) != len(listed):
        return None  # the store says which is missing
    _check_size(call.request.headers, parts)
    checksum = whole_checksum(upload, parts)
    if declared is not None:
        _compare(declared, checksum, call.request.headers)
    return checksum


async def _parts(call: Call, ident: UploadId) -> dict[int, PartInfo]:
    found: dict[int, PartInfo] = {}
    after, more = 0, True
    while more:
        page, more = await call.store.uploads.parts(call.bucket, call.key, ident, after, LIST_MAX)
        found.update((part.number, part) for part in page)
        after = page[-1].number if page else after
    return found


def whole_checksum(upload: UploadInfo, parts: Sequence[PartInfo]) -> Checksum | None:
    """The checksum of an upload's object; None where its parts do not all have one of one kind."""
    kinds = {part.checksum.algorithm if part.checksum else None for part in parts}
    name = upload.checksum_algorithm or next(iter(kinds), None)
    if name is None or kinds != {name}:
        return None
    algorithm = Algorithm(name)
    values = [(part.checksum.value, part.size) for part in parts if part.checksum]
    if upload.checksum_composite:
        return checksums.composite(algorithm, [value for value, _ in values])
    return checksums.combined(algorithm, values) if algorithm.is_crc else None


def _check_size(headers: Mapping[str, str], parts: Sequence[PartInfo]) -> None:
    """Raises: S3Error EntityTooLarge, InvalidRequest."""
    size = sum(part.size for part in parts)
    if size > OBJECT_MAX:
        raise S3Error("EntityTooLarge", ProposedSize=str(size), MaxSizeAllowed=str(OBJECT_MAX))
    if _SIZE in headers and headers[_SIZE] != str(size):
        raise S3Error(
            "InvalidRequest",
            f"The provided '{_SIZE}' header value {headers[_SIZE]} does not match what was computed: {size}",
        )


def _compare(declared: Checksum, checksum: Checksum | None, headers: Mapping[str, str]) -> None:
    if checksum is None or declared.algorithm != checksum.algorithm:
        raise S3Error(
            "InvalidRequest", f"The upload was not created with the {declared.algorithm.lower()} checksum algorithm."
        )
    kind = "COMPOSITE" if checksum.composite else "FULL_OBJECT"
    if headers.get("x-amz-checksum-type", kind).upper() != kind:
        raise S3Error("InvalidRequest", f"The upload was created with the {kind} checksum type.")
    # Of a composite checksum, clients send the value with the number of parts behind it or without.
    if declared.value.partition("-")[0] != checksum.value.partition("-")[0]:
        raise S3Error("BadDigest", f"The {declared.algorithm} you specified did not match the calculated checksum.")
