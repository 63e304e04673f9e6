"""DeleteObject and DeleteObjects."""

from collections.abc import Sequence

from gateway import xml, xml_requests
from gateway.call import Call
from gateway.conditions import etag_list, write_conditions
from gateway.errors import S3Error, translate
from gateway.limits import REQUEST_XML_MAX
from gateway.operations import Operation
from gateway.response import Response, xml_response
from gateway.xml_requests import ToDelete
from stratumfs.threads import in_thread
from stratumfs.values import Conditions


async def delete_object(call: Call) -> None:
    """204 whether there was an object or not; but a condition needs one to hold."""
    await call.only_version()
    await call.store.objects.delete(call.bucket, call.key, write_conditions(call.request.headers), call.now_ns)
    await call.send(Response(204, call.version_headers))


async def delete_objects(call: Call) -> None:
    if "content-md5" not in call.request.headers and call.body.declared is None:
        raise S3Error("InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*")
    document = await call.body.read(REQUEST_XML_MAX)
    entries, quiet = await in_thread(xml_requests.parse_delete, document, limiter=call.hashing)
    deleted, failed = await _delete(call, entries)
    await call.send(xml_response(xml.delete_result([] if quiet else deleted, failed)))


async def _delete(call: Call, entries: Sequence[ToDelete]) -> tuple[list[bytes], list[tuple[bytes, S3Error]]]:
    """Each entry by itself, in order: what fails leaves the others. Raises: NoSuchBucket, StoreError."""
    failed: list[tuple[bytes, S3Error]] = []
    wanted: list[tuple[bytes, Conditions]] = []
    for entry in entries:
        try:
            wanted.append((entry.key, _conditions(call, entry)))
        except S3Error as error:
            failed.append((entry.key, error))
    outcomes = await call.store.objects.delete_many(call.bucket, wanted, call.now_ns)
    failed += [(outcome.key, translate(outcome.error)) for outcome in outcomes if outcome.error is not None]
    return [outcome.key for outcome in outcomes if outcome.error is None], failed


def _conditions(call: Call, entry: ToDelete) -> Conditions:
    """Raises: S3Error AccessDenied, NoSuchVersion; NotImplemented for conditions that only directory buckets have."""
    call.require(Operation.DELETE_OBJECT, call.bucket, entry.key)
    if entry.version_id not in (None, "null"):
        raise S3Error("NoSuchVersion")
    if entry.modified is not None or entry.size is not None:
        raise S3Error("NotImplemented")
    return Conditions(if_match=etag_list(entry.etag) if entry.etag is not None else None)
