"""RestoreObject: what lies in the cold tier is brought to the fastest one, and x-amz-restore says how far that is."""

from gateway.call import Call
from gateway.errors import S3Error
from gateway.headers import http_date
from gateway.limits import REQUEST_XML_SETTING_MAX
from gateway.response import Response
from gateway.tiers import is_cold
from gateway.xml_requests import parse_restore
from stratumfs.values import ObjectInfo

_DAY_NS = 86_400 * 10**9


async def restore_object(call: Call) -> None:
    """202 where bytes are to come; 200 where they are at hand, and are wanted for longer.

    S3 refuses to restore what is in no archive. Here objects move by themselves: one that has come back since its
    class was listed is what the caller asked for.
    """
    await call.only_version()
    days = parse_restore(await call.body.read(REQUEST_XML_SETTING_MAX))
    info = await call.store.objects.info(call.bucket, call.key)
    if _comes(call, info):
        raise S3Error("RestoreAlreadyInProgress")
    # As S3 does it: until the midnight that follows.
    until_ns = ((call.now_ns + days * _DAY_NS) // _DAY_NS + 1) * _DAY_NS
    info = await call.store.objects.keep_restored(call.bucket, call.key, until_ns)
    if not is_cold(info.tier):
        await call.send(Response(200))
        return
    if call.restorer is None:
        raise S3Error("NotImplemented", "This door has nobody who could restore objects.")
    await call.restorer.restore(info.ino, f"RestoreObject until {http_date(until_ns)}")
    await call.send(Response(202))


def restore_headers(call: Call, info: ObjectInfo) -> dict[str, str]:
    """x-amz-restore, of an object that somebody has restored: it comes, or it has come and is wanted until then."""
    if not info.restored_ns:
        return {}
    if is_cold(info.tier):
        return {"x-amz-restore": 'ongoing-request="true"'} if _comes(call, info) else {}
    if info.restored_ns <= call.now_ns:
        return {}
    return {"x-amz-restore": f'ongoing-request="false", expiry-date="{http_date(info.restored_ns)}"'}


def _comes(call: Call, info: ObjectInfo) -> bool:
    return is_cold(info.tier) and call.restorer is not None and call.restorer.restoring(info.ino)
