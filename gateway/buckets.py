"""Calls on buckets, and the list of all."""

from gateway import xml, xml_requests
from gateway.call import Call
from gateway.errors import S3Error
from gateway.limits import REQUEST_XML_SETTING_MAX
from gateway.numbers import bounded
from gateway.operations import Operation
from gateway.owner import OWNER
from gateway.paging import after_token, token_of
from gateway.response import Response, xml_response
from stratumfs.limits import BUCKETS_LIST_MAX
from stratumfs.values import Conditions

FORCE = "x-amz-stratum-force-delete"
"""``true`` empties a bucket before it is deleted. The prefix is S3's because all such headers must be signed."""


async def list_buckets(call: Call) -> None:
    """In the order of names, a page at a time where ``max-buckets`` asks for pages."""
    query = call.request.query
    prefix, region = query.get("prefix"), query.get("bucket-region") or call.region
    limit = bounded(query, "max-buckets", BUCKETS_LIST_MAX, BUCKETS_LIST_MAX)
    after = after_token(query.get("continuation-token", "")).decode(errors="replace")
    found = [
        bucket
        for bucket in sorted(await call.store.objects.buckets(), key=lambda bucket: bucket.name)
        if bucket.name > after and bucket.name.startswith(prefix or "") and region == call.region
    ]
    page = found[:limit]
    token = token_of(page[-1].name.encode()) if page and len(found) > limit else None
    await call.send(xml_response(xml.list_buckets(page, OWNER, call.region, prefix, token)))


async def create_bucket(call: Call) -> None:
    region = xml_requests.parse_create_bucket(await call.body.read(REQUEST_XML_SETTING_MAX))
    if region not in (None, call.region):
        raise S3Error("InvalidLocationConstraint", LocationConstraint=region or "")
    await call.store.objects.create_bucket(call.bucket, call.now_ns)
    await call.send(Response(200, {"location": f"/{call.bucket}"}))


async def delete_bucket(call: Call) -> None:
    if call.request.headers.get(FORCE, "").lower() == "true":
        await _empty(call)
    await call.store.objects.delete_bucket(call.bucket)
    await call.send(Response(204))


async def _empty(call: Call) -> None:
    """Delete all objects, a page at a time. Who stops it finds some deleted, never one by half.

    What only the mount shows, such as symbolic links, stays, and then so does the bucket.
    Raises: what the first object that cannot be deleted is refused with.
    """
    found = await call.store.objects.list(call.bucket)
    while found.objects:
        for item in found.objects:
            call.require(Operation.DELETE_OBJECT, call.bucket, item.key)
        wanted = [(item.key, Conditions()) for item in found.objects]
        for outcome in await call.store.objects.delete_many(call.bucket, wanted, call.now_ns):
            if outcome.error is not None:
                raise outcome.error
        found = await call.store.objects.list(call.bucket)


async def head_bucket(call: Call) -> None:
    await call.store.objects.bucket(call.bucket)
    headers = {"content-type": "application/xml", "x-amz-bucket-region": call.region}
    await call.send(Response(200, {**headers, "x-amz-access-point-alias": "false"}))


async def get_bucket_location(call: Call) -> None:
    await call.store.objects.bucket(call.bucket)
    await call.send(xml_response(xml.location(call.region)))


async def get_bucket_versioning(call: Call) -> None:
    """Never versioned: without a status."""
    await call.store.objects.bucket(call.bucket)
    await call.send(xml_response(xml.versioning(None)))


async def put_bucket_versioning(call: Call) -> None:
    """Refused: to accept it would promise versions that nobody keeps."""
    xml_requests.parse_versioning(await call.body.read(REQUEST_XML_SETTING_MAX))
    await call.store.objects.bucket(call.bucket)
    raise S3Error("NotImplemented", "Versioning is not implemented.")
