"""ListObjects, ListObjectsV2 and ListObjectVersions: a bucket's keys, a page at a time."""

from gateway import xml
from gateway.call import Call
from gateway.errors import S3Error
from gateway.owner import OWNER
from gateway.paging import Asked, after_token, asked_page, token_of
from gateway.response import xml_response
from stratumfs.values import Listing

_NOTHING = Listing((), (), None)


async def list_objects(call: Call) -> None:
    query = call.request.query
    asked, marker = asked_page(query, "max-keys"), query.get("marker", "").encode()
    found = await _listing(call, asked, marker)
    # Without a delimiter the last key says where to go on, and S3 does not repeat it.
    next_marker = found.next_after if asked.delimiter else None
    page = asked.page(call.bucket, truncated=found.next_after is not None)
    await call.send(xml_response(xml.list_objects(page, found.objects, found.prefixes, OWNER, marker, next_marker)))


async def list_objects_v2(call: Call) -> None:
    query = call.request.query
    asked, token, start_after = asked_page(query, "max-keys"), query.get("continuation-token"), query.get("start-after")
    after = after_token(token) if token else (start_after or "").encode()
    found = await _listing(call, asked, after)
    page = asked.page(call.bucket, truncated=found.next_after is not None)
    document = xml.list_objects_v2(
        page,
        found.objects,
        found.prefixes,
        owner=OWNER if query.get("fetch-owner", "").lower() == "true" else None,
        start_after=start_after.encode() if start_after else None,
        token=token,
        next_token=token_of(found.next_after) if found.next_after is not None else None,
    )
    await call.send(xml_response(document))


async def list_object_versions(call: Call) -> None:
    """Of a bucket that never had versions: each object is one, called ``null``."""
    query = call.request.query
    asked, marker = asked_page(query, "max-keys"), query.get("key-marker", "").encode()
    version = query.get("version-id-marker", "")
    if version and not marker:
        message = "A version-id marker cannot be specified without a key marker."
        raise S3Error("InvalidArgument", message, ArgumentName="version-id-marker", ArgumentValue=version)
    found = await _listing(call, asked, marker)
    page = asked.page(call.bucket, truncated=found.next_after is not None)
    document = xml.list_versions(page, found.objects, found.prefixes, OWNER, marker, version, found.next_after)
    await call.send(xml_response(document))


async def _listing(call: Call, asked: Asked, after: bytes) -> Listing:
    if asked.limit == 0:
        await call.store.objects.bucket(call.bucket)
        return _NOTHING
    return await call.store.objects.list(call.bucket, asked.prefix, asked.delimiter, after, asked.limit)
