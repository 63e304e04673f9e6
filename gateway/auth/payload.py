"""What a request's headers say of its body, and the body that holds it to that."""

import re

import trio

from gateway import checksums
from gateway.asgi import Receive, ReceivedInto, ReceiveInto
from gateway.auth.chunked import ChunkedReader, ChunkVerifier
from gateway.auth.sigv4 import ChunkSigner
from gateway.auth.verified import Checks, Framing, PlainReader, VerifiedBody
from gateway.checksums import Algorithm
from gateway.errors import S3Error
from gateway.operations import Operation
from gateway.request import Request
from stratumfs.limits import PART_MAX
from stratumfs.values import Checksum

HEADER = "x-amz-content-sha256"
UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_CHUNKS_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

_STREAMING = (SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER)
_WITH_TRAILER = (SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER)
_LENGTH_REQUIRED = (Operation.PUT_OBJECT, Operation.UPLOAD_PART)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BODILESS = ("GET", "HEAD")
_PLAIN = PlainReader()


def payload_of(request: Request) -> str:
    """The payload's hash or type, as it is signed."""
    return request.headers.get(HEADER, UNSIGNED)


def open_body(
    request: Request,
    receive: Receive,
    signer: ChunkSigner | None,
    limiter: trio.CapacityLimiter,
    receive_into: ReceiveInto | None = None,
    received_into: ReceivedInto | None = None,
) -> VerifiedBody:
    """The body of an authenticated *request*; hashing runs in threads of *limiter*. Without *signer* no chunk of it can
    be signed.

    Raises: S3Error if headers contradict each other, have no sound form, or promise what is too large.
    """
    payload = payload_of(request)
    if request.method in _BODILESS and payload not in _STREAMING:
        return VerifiedBody(receive, 0, _PLAIN, Checks(_sha256(payload)), limiter)  # and nobody reads it
    framing: Framing = _PLAIN
    chunks = None
    if payload in _STREAMING:
        signed = payload != UNSIGNED_CHUNKS_TRAILER
        framing = ChunkedReader(signed=signed)
        if signed and signer is None:
            raise S3Error("InvalidRequest", "Signed chunks need a request that is signed by AWS4-HMAC-SHA256.")
        chunks = ChunkVerifier(signer, trailers=payload == SIGNED_CHUNKS_TRAILER) if signed and signer else None
    trailer = _trailer(request, allowed=payload in _WITH_TRAILER)
    checks = Checks(
        sha256=_sha256(payload),
        chunks=chunks,
        declared=_declared(request, trailer),
        trailer=trailer,
        md5=checksums.content_md5(request.headers),
    )
    length = _length(request, payload)
    return VerifiedBody(receive, length, framing, checks, limiter, receive_into, received_into)


def _sha256(payload: str) -> str | None:
    if payload == UNSIGNED or payload in _STREAMING:
        return None
    if payload.startswith("STREAMING-"):
        raise S3Error("NotImplemented", f"The payload type {payload} is not implemented.")
    if not _SHA256.fullmatch(payload):
        raise S3Error(
            "InvalidArgument",
            f"{HEADER} must be UNSIGNED-PAYLOAD, a STREAMING- type, or a valid sha256 value.",
            ArgumentName=HEADER,
            ArgumentValue=payload,
        )
    return payload


def _trailer(request: Request, *, allowed: bool) -> Algorithm | None:
    """The algorithm of the one trailer that x-amz-trailer announces."""
    names = [name.strip().lower() for name in request.headers.get("x-amz-trailer", "").split(",") if name.strip()]
    if not names:
        return None
    if not allowed or len(names) > 1 or names[0] not in checksums.BY_HEADER:
        raise S3Error("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
    return checksums.BY_HEADER[names[0]]


def _declared(request: Request, trailer: Algorithm | None) -> Checksum | None:
    """The checksum header of the body. Of a completion such headers describe the whole object, and not the list of
    parts that is its body."""
    if request.operation is Operation.COMPLETE_MULTIPART_UPLOAD:
        return None
    declared = checksums.declared(request.headers)
    if declared is None and trailer is None:
        _check_sdk_algorithm(request)
    elif declared is not None and (declared.composite or trailer is not None):
        raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header or trailer of the body.")
    return declared


def _check_sdk_algorithm(request: Request) -> None:
    name = request.headers.get("x-amz-sdk-checksum-algorithm")
    if name is None or request.method not in ("PUT", "POST"):
        return
    checksums.algorithm_named(name)
    if request.operation is not Operation.CREATE_MULTIPART_UPLOAD:
        raise S3Error(
            "InvalidRequest",
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers "
            "were found.",
        )


def _length(request: Request, payload: str) -> int | None:
    """Decoded bytes; 0 if there is no body, None if only its end will tell."""
    streaming = payload in _STREAMING
    text = request.headers.get("x-amz-decoded-content-length" if streaming else "content-length")
    if text is None:
        if streaming or request.operation in _LENGTH_REQUIRED:
            raise S3Error("MissingContentLength")
        return None if "transfer-encoding" in request.headers else 0
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise S3Error("InvalidArgument", "The length of the body is not a number.", ArgumentValue=text)
    if int(text) > PART_MAX:
        raise S3Error("EntityTooLarge", ProposedSize=int(text), MaxSizeAllowed=PART_MAX)
    return int(text)
