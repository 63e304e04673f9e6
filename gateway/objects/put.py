"""PutObject: a body becomes an object, whole or not at all."""

from gateway.call import Call
from gateway.conditions import write_conditions
from gateway.errors import S3Error
from gateway.headers import checksum_headers, object_spec
from gateway.response import Response
from stratumfs.limits import PART_MAX


async def put_object(call: Call) -> None:
    headers = call.request.headers
    key, conditions, spec = call.new_key, write_conditions(headers), object_spec(headers)
    length = admitted_length(call)
    async with call.uploads.turn(length), call.store.objects.put(call.bucket, key, spec, length) as writer:
        await writer.fill(call.body, length)
        written = await writer.finish()
        call.body.check_md5(written.md5)
        info = await writer.commit(key, spec.with_checksum(call.body.checksum), conditions, call.now_ns)
    await call.send(Response(200, {"etag": f'"{info.etag}"', **checksum_headers(info.spec.checksum)}))


def admitted_length(call: Call) -> int:
    """Of a body of which no byte is taken yet: an object or a part. Raises: S3Error EntityTooLarge."""
    length = call.body.length or 0
    if length > PART_MAX:
        raise S3Error("EntityTooLarge", ProposedSize=str(length), MaxSizeAllowed=str(PART_MAX))
    return length
