"""Multipart uploads: begin, upload and copy parts, list, abort. Their completion is in ``gateway/completion.py``."""

import re
from collections.abc import Sequence

from gateway import checksums, xml
from gateway.call import Call
from gateway.checksums import Algorithm
from gateway.errors import S3Error
from gateway.headers import checksum_headers, object_spec
from gateway.numbers import bounded, part_number
from gateway.objects.put import admitted_length
from gateway.objects.source import Source, from_source
from gateway.owner import OWNER
from gateway.paging import asked_page, url_encoded
from gateway.ranges import parse_copy_range
from gateway.response import Response, xml_response
from stratumfs.ids import UploadId
from stratumfs.limits import LIST_MAX, PART_MAX, PARTS_MAX
from stratumfs.threads import in_thread
from stratumfs.values import Checksum, PartInfo, UploadInfo, UploadListing

_UPLOAD_ID = re.compile("[0-9a-f]{32}")
_ALGORITHM = "x-amz-checksum-algorithm"


async def create_upload(call: Call) -> None:
    headers = call.request.headers
    key, spec = call.new_key, object_spec(headers)
    algorithm, composite = None, False
    if _ALGORITHM in headers:
        algorithm = checksums.algorithm_named(headers[_ALGORITHM])
        composite = not checksums.full_object(headers, algorithm)
    elif "x-amz-checksum-type" in headers:
        raise S3Error("InvalidRequest", "The x-amz-checksum-type header needs an x-amz-checksum-algorithm beside it.")
    upload = await call.store.uploads.create(call.bucket, key, spec, algorithm, composite, call.now_ns)
    answer = {}
    if algorithm is not None:
        answer = {_ALGORITHM: algorithm.value, "x-amz-checksum-type": "COMPOSITE" if composite else "FULL_OBJECT"}
    await call.send(xml_response(xml.create_upload(call.bucket, key, upload.id.hex()), headers=answer))


async def upload_part(call: Call) -> None:
    ident, number = upload_id(call), part_number(call.request.query["partNumber"])
    length = admitted_length(call)
    upload = await call.store.uploads.get(call.bucket, call.key, ident)
    _agree_on_checksum(call, upload)
    async with call.uploads.turn(length), call.store.uploads.part(call.bucket, call.key, ident, length) as writer:
        await writer.fill(call.body, length)
        written = await writer.finish()
        call.body.check_md5(written.md5)
        part = await writer.commit(number, call.body.checksum, call.now_ns)
    await call.send(Response(200, {"etag": f'"{part.etag}"', **_part_checksum(part.checksum)}))


def _agree_on_checksum(call: Call, upload: UploadInfo) -> None:
    """A part's checksum must be of the upload's kind, or the whole could not have one.

    A part sent without one gets it computed; S3 would refuse it, in some cases, with no gain for anybody.
    Raises: S3Error InvalidRequest.
    """
    if upload.checksum_algorithm is None:
        return
    algorithm, declared = Algorithm(upload.checksum_algorithm), call.body.declared
    if declared is not None and declared is not algorithm:
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {algorithm.lower()}, "
            f"actual checksum Type: {declared.lower()}",
        )
    call.body.expect(algorithm)


def _part_checksum(checksum: Checksum | None) -> dict[str, str]:
    """Of a part: S3 names no type beside it."""
    headers = checksum_headers(checksum)
    headers.pop("x-amz-checksum-type", None)
    return headers


async def upload_part_copy(call: Call) -> None:
    ident, number = upload_id(call), part_number(call.request.query["partNumber"])
    wanted = parse_copy_range(call.request.headers.get("x-amz-copy-source-range"))
    upload = await call.store.uploads.get(call.bucket, call.key, ident)

    async def copy(source: Source) -> PartInfo:
        start, stop = _within(source, wanted)
        if upload.checksum_algorithm is not None:
            return await _copy_bytes(call, upload, number, source, start, stop)
        return await call.store.uploads.copy_part(
            call.bucket,
            call.key,
            ident,
            number,
            source.bucket,
            source.key,
            source.unchanged,
            start,
            stop,
            call.now_ns,
        )

    part = await from_source(call, copy)
    await call.send(xml_response(xml.copy_part(part.etag, part.modified_ns, part.checksum)))


def _within(source: Source, wanted: tuple[int, int] | None) -> tuple[int, int]:
    """Start and stop (exclusive) of what is copied. Raises: S3Error InvalidRange, InvalidRequest."""
    size = source.info.size
    start, stop = (0, size) if wanted is None else (wanted[0], wanted[1] + 1)
    if stop > size:
        raise S3Error("InvalidRange", f"Range specified is not valid for source object of size: {size}")
    if stop - start > PART_MAX:
        message = f"The specified copy source is larger than the maximum allowable size for a copy source: {PART_MAX}"
        raise S3Error("InvalidRequest", message)
    return start, stop


async def _copy_bytes(call: Call, upload: UploadInfo, number: int, source: Source, start: int, stop: int) -> PartInfo:
    """Copy a part by reading it, because a checksum of just these bytes is wanted."""
    algorithm = Algorithm(upload.checksum_algorithm or "")
    hasher = checksums.hasher(algorithm)
    async with (
        call.uploads.turn(stop - start),
        call.store.objects.open(source.bucket, source.key, source.unchanged) as reader,
        call.store.uploads.part(call.bucket, call.key, upload.id, stop - start) as writer,
    ):
        async for chunk in reader.chunks(start, stop):
            await in_thread(hasher.update, chunk, limiter=call.hashing)
            await writer.write(chunk)
        await writer.finish()
        checksum = Checksum(algorithm.value, checksums.encode(hasher.digest()))
        return await writer.commit(number, checksum, call.now_ns)


async def abort_upload(call: Call) -> None:
    await call.store.uploads.abort(call.bucket, call.key, upload_id(call))
    await call.send(Response(204))


async def list_parts(call: Call) -> None:
    query = call.request.query
    marker = bounded(query, "part-number-marker", 0, PARTS_MAX)
    limit, url = bounded(query, "max-parts", LIST_MAX, LIST_MAX), url_encoded(query)
    ident = upload_id(call)
    upload = await call.store.uploads.get(call.bucket, call.key, ident)
    parts: Sequence[PartInfo] = ()
    more = False
    if limit:
        parts, more = await call.store.uploads.parts(call.bucket, call.key, ident, marker, limit)
    document = xml.list_parts(call.bucket, upload, ident.hex(), parts, OWNER, marker, limit, more, url)
    await call.send(xml_response(document))


async def list_uploads(call: Call) -> None:
    query = call.request.query
    asked = asked_page(query, "max-uploads")
    key_marker = query.get("key-marker", "").encode()
    # Without a key beside it, an upload id marks nothing, says S3.
    id_marker = query.get("upload-id-marker", "") if key_marker else ""
    id_after = parse_upload_id(id_marker)
    if id_marker and id_after is None:
        message = "Invalid uploadId marker"
        raise S3Error("InvalidArgument", message, ArgumentName="upload-id-marker", ArgumentValue=id_marker)
    found = UploadListing((), (), None)
    if asked.limit:
        place = (asked.prefix, asked.delimiter, key_marker, id_after or b"", asked.limit)
        found = await call.store.uploads.list(call.bucket, *place)
    else:
        await call.store.objects.bucket(call.bucket)
    next_key, next_id = found.next_after or (None, b"")
    document = xml.list_uploads(
        asked.page(call.bucket, truncated=found.next_after is not None),
        [(upload.id.hex(), upload) for upload in found.uploads],
        found.prefixes,
        OWNER,
        key_marker,
        id_marker,
        next_key,
        next_id.hex() or None,
    )
    await call.send(xml_response(document))


def upload_id(call: Call) -> UploadId:
    """Raises: S3Error NoSuchUpload for what no upload was ever called."""
    ident = parse_upload_id(call.request.query["uploadId"])
    if ident is None:
        raise S3Error("NoSuchUpload", UploadId=call.request.query["uploadId"])
    return ident


def parse_upload_id(text: str) -> UploadId | None:
    """None for what no upload is called."""
    return UploadId(bytes.fromhex(text)) if _UPLOAD_ID.fullmatch(text) else None
