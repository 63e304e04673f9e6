"""GetObject: an object's bytes, streamed and verified."""

from gateway.call import Call
from gateway.conditions import read_conditions
from gateway.headers import not_modified_headers
from gateway.objects.restore import restore_headers
from gateway.objects.selection import select
from gateway.response import Response
from stratumfs.errors import NotModified


async def get_object(call: Call) -> None:
    await call.only_version()
    try:
        await _send(call)
    except NotModified as same:
        await call.send(Response(304, not_modified_headers(same.args[0])))


async def _send(call: Call) -> None:
    """The object stays open while it is sent: what replaces it meanwhile has an inode of its own."""
    async with call.store.objects.open(call.bucket, call.key, read_conditions(call.request.headers)) as reader:
        chosen = select(call.request, reader.info)
        headers = {**chosen.headers, **call.version_headers, **restore_headers(call, reader.info)}
        length = chosen.stop - chosen.start
        async with call.downloads.turn(length):
            # Most objects are one chunk, and do without the generators, and the watch for a client that goes, of
            # streams.
            whole = await reader.whole(chosen.start, chosen.stop)
            body = reader.chunks(chosen.start, chosen.stop) if whole is None else whole
            await call.send(Response(chosen.status, headers, body, length))
