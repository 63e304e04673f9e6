"""HeadObject: what GetObject would say, without the bytes."""

from gateway.call import Call
from gateway.conditions import read_conditions
from gateway.headers import not_modified_headers
from gateway.objects.restore import restore_headers
from gateway.objects.selection import select
from gateway.response import Response
from stratumfs.errors import NotModified


async def head_object(call: Call) -> None:
    await call.only_version()
    try:
        info = await call.store.objects.info(call.bucket, call.key, read_conditions(call.request.headers))
    except NotModified as same:
        await call.send(Response(304, not_modified_headers(same.args[0])))
        return
    chosen = select(call.request, info)
    headers = {**chosen.headers, **call.version_headers, **restore_headers(call, info)}
    await call.send(Response(chosen.status, headers, length=chosen.stop - chosen.start))
