"""GetExplanation, which S3 has not: where the bytes of an object are and why, of a bucket, or of all below ``key/``."""

from gateway.call import Call
from gateway.errors import S3Error
from gateway.response import Response


async def explain(call: Call) -> None:
    explainer = call.store.files.explainer
    if explainer is None:
        raise S3Error("NotImplemented", "This store has nobody who explains.")
    text = await explainer.explanation_of(call.bucket, call.request.key or b"")
    await call.send(Response(200, {"content-type": "application/json"}, text.encode()))
