"""PutObject: a body becomes an object, whole or not at all."""

from gateway.call import Call
from gateway.conditions import write_conditions
from gateway.errors import S3Error
from gateway.headers import checksum_headers, object_spec
from gateway.response import Response
from stratumfs.errors import StoreFull
from stratumfs.limits import PART_MAX


async def put_object(call: Call) -> None:
    headers = call.request.headers
    key, conditions, spec = call.new_key, write_conditions(headers), object_spec(headers)
    admit_body(call)
    async with call.store.objects.put(call.bucket, key, spec) as writer:
        await writer.fill(call.body, call.body.length or 0)
        written = await writer.finish()
        call.body.check_md5(written.md5)
        info = await writer.commit(key, spec.with_checksum(call.body.checksum), conditions, call.now_ns)
    await call.send(Response(200, {"etag": f'"{info.etag}"', **checksum_headers(info.spec.checksum)}))


def admit_body(call: Call) -> None:
    """Before a byte is taken: what is sent in one request, an object or a part, has one bound, and must fit.

    Raises: S3Error EntityTooLarge; StoreReadOnly, StoreFull.
    """
    length = call.body.length or 0
    if length > PART_MAX:
        raise S3Error("EntityTooLarge", ProposedSize=str(length), MaxSizeAllowed=str(PART_MAX))
    call.store.writer.check_writable()
    free = call.store.space.now.free
    if length > free:
        # The store reserves stripe by stripe; who sends a gibibyte should not hear of it at the last one.
        raise StoreFull(f"{length} bytes do not fit into the {free} that are left for new data")
