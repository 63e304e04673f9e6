"""The gate: proves who sent a request, and alone hands out its body.

The order of the checks is S3's as far as its answers show it: form, key, scope, time, which headers are signed,
signature. Nothing of the body is asked for before all of them hold, so that a client that sent ``Expect: 100-continue``
is told to go on only then.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

import trio

from gateway import checksums
from gateway.auth import presign, sigv4
from gateway.auth.body import Receive
from gateway.auth.chunked import ChunkedReader, ChunkVerifier
from gateway.auth.principal import Authenticated, CredentialStore, Principal
from gateway.auth.sigv4 import ChunkSigner, Claim, MalformedError
from gateway.auth.verified import Checks, Framing, PlainReader, VerifiedBody
from gateway.checksums import Algorithm
from gateway.errors import S3Error
from gateway.operations import Operation
from gateway.request import Request
from stratumfs.limits import HASH_THREADS, PART_MAX, SIGNING_KEYS_MAX

SKEW_MAX_S = 15 * 60
UNSIGNED = "UNSIGNED-PAYLOAD"
SIGNED_CHUNKS = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_CHUNKS_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_CHUNKS_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_STREAMING = (SIGNED_CHUNKS, SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER)
_LENGTH_REQUIRED = (Operation.PUT_OBJECT, Operation.UPLOAD_PART)


class Gate:
    """One for the whole door; holds no state but caches.

    region  the only one whose signatures are accepted
    clock   seconds since the epoch
    """

    def __init__(
        self, credentials: CredentialStore, *, region: str = "us-east-1", clock: Callable[[], float] = time.time
    ) -> None:
        self._credentials = credentials
        self._region = region
        self._clock = clock
        self._derive_key = lru_cache(maxsize=SIGNING_KEYS_MAX)(sigv4.derive_key)
        self._limiter = trio.CapacityLimiter(HASH_THREADS)

    def authenticate(self, request: Request, receive: Receive) -> Authenticated:
        """Who sent *request*, and its body. Does no I/O; *receive* is called when the body is iterated.

        Raises: S3Error: AccessDenied for an anonymous request, else what is wrong with the authorisation.
        """
        in_query = presign.is_presigned(request.query)
        authorization = request.headers.get("authorization")
        if authorization is not None and in_query:
            raise S3Error(
                "InvalidArgument",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
                "parameter or the Authorization header should be specified",
                ArgumentName="Authorization",
            )
        if in_query:
            signer = self._check_presigned(request)
        elif authorization is not None:
            signer = self._check_header(request, authorization)
        else:
            raise _anonymous(request)
        access_key, chunk_signer = signer
        return Authenticated(Principal(access_key), self._body(request, receive, chunk_signer))

    def _check_header(self, request: Request, authorization: str) -> tuple[str, ChunkSigner]:
        algorithm = authorization.partition(" ")[0]
        if algorithm != sigv4.ALGORITHM:
            raise _unsupported(algorithm)
        try:
            claim = sigv4.parse_authorization(authorization)
        except MalformedError as error:
            raise S3Error("AuthorizationHeaderMalformed", f"The authorization header is malformed; {error}.") from None
        secret = self._secret(claim)
        self._check_scope(claim, "AuthorizationHeaderMalformed", "The authorization header is malformed")
        timestamp, signed_at = _signing_time(request)
        self._check_date(claim, timestamp, "AuthorizationHeaderMalformed")
        self._check_skew(timestamp, signed_at)
        if "x-amz-content-sha256" not in request.headers:
            raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        return self._check_signature(request, claim, secret, timestamp, request.query.pairs)

    def _check_presigned(self, request: Request) -> tuple[str, ChunkSigner]:
        presigned = presign.parse(request.query)
        claim = presigned.claim
        secret = self._secret(claim)
        self._check_scope(claim, "AuthorizationQueryParametersError", "Error parsing the X-Amz-Credential parameter")
        self._check_date(claim, presigned.timestamp, "AuthorizationQueryParametersError")
        now = self._clock()
        if presigned.signed_at - now > SKEW_MAX_S:
            raise S3Error("AccessDenied", "Request is not yet valid", ServerTime=_iso(now))
        if now > presigned.expires_at:
            raise S3Error(
                "AccessDenied",
                "Request has expired",
                Expires=_iso(presigned.expires_at),
                ServerTime=_iso(now),
            )
        pairs = presign.signed_pairs(request.query)
        return self._check_signature(request, claim, secret, presigned.timestamp, pairs)

    def _secret(self, claim: Claim) -> str:
        secret = self._credentials.secret(claim.access_key)
        if secret is None:
            raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=claim.access_key)
        return secret

    def _check_scope(self, claim: Claim, code: str, prefix: str) -> None:
        scope = claim.scope
        if scope.service != sigv4.SERVICE:
            raise S3Error(code, f'{prefix}; incorrect service "{scope.service}". This endpoint belongs to "s3".')
        if scope.region != self._region:
            raise S3Error(
                code, f"{prefix}; the region '{scope.region}' is wrong; expecting '{self._region}'", Region=self._region
            )

    def _check_date(self, claim: Claim, timestamp: str, code: str) -> None:
        if timestamp[:8] != claim.scope.date:
            raise S3Error(
                code,
                f'Invalid credential date "{claim.scope.date}". This date is not the same as X-Amz-Date: '
                f'"{timestamp[:8]}".',
            )

    def _check_skew(self, timestamp: str, signed_at: int) -> None:
        now = self._clock()
        if abs(now - signed_at) > SKEW_MAX_S:
            raise S3Error(
                "RequestTimeTooSkewed",
                RequestTime=timestamp,
                ServerTime=_iso(now),
                MaxAllowedSkewMilliseconds=SKEW_MAX_S * 1000,
            )

    def _check_signature(
        self,
        request: Request,
        claim: Claim,
        secret: str,
        timestamp: str,
        pairs: list[tuple[str, str]] | tuple[tuple[str, str], ...],
    ) -> tuple[str, ChunkSigner]:
        _check_signed_headers(request, claim)
        payload = request.headers.get("x-amz-content-sha256", UNSIGNED)
        canonical = sigv4.canonical_request(
            request.method, request.raw_path, pairs, request.raw_headers, claim.signed_headers, payload
        )
        text = sigv4.string_to_sign(timestamp, claim.scope, canonical)
        key = self._derive_key(secret, claim.scope)
        if not sigv4.matches(key, text, claim.signature):
            raise S3Error(
                "SignatureDoesNotMatch",
                AWSAccessKeyId=claim.access_key,
                StringToSign=text,
                SignatureProvided=claim.signature,
                CanonicalRequest=canonical.decode(errors="replace"),
            )
        return claim.access_key, ChunkSigner(key, timestamp, claim.scope, claim.signature)

    def _body(self, request: Request, receive: Receive, signer: ChunkSigner) -> VerifiedBody:
        """The body as its headers describe it. Raises: S3Error if they contradict each other."""
        headers = request.headers
        payload = headers.get("x-amz-content-sha256", UNSIGNED)
        streaming = payload in _STREAMING
        trailer = _trailer(request, allowed=payload in (SIGNED_CHUNKS_TRAILER, UNSIGNED_CHUNKS_TRAILER))
        # Of a completion the checksum headers describe the whole object, not the list of parts that is the body.
        is_complete = request.operation is Operation.COMPLETE_MULTIPART_UPLOAD
        declared = None if is_complete else checksums.declared(headers)
        if declared is not None and (declared.composite or trailer is not None):
            raise S3Error("InvalidRequest", "Expecting a single x-amz-checksum- header or trailer of the body.")
        if declared is None and trailer is None and not is_complete:
            _check_sdk_algorithm(request)
        chunks = None
        framing: Framing = PlainReader()
        if streaming:
            signed = payload != UNSIGNED_CHUNKS_TRAILER
            framing = ChunkedReader(signed=signed)
            chunks = ChunkVerifier(signer, trailers=payload == SIGNED_CHUNKS_TRAILER) if signed else None
        checks = Checks(
            sha256=_payload_sha256(payload),
            chunks=chunks,
            declared=declared,
            trailer=trailer,
            md5=checksums.content_md5(headers),
        )
        return VerifiedBody(receive, _length(request, streaming), framing, checks, self._limiter)


def _anonymous(request: Request) -> S3Error:
    if "AWSAccessKeyId" in request.query and "Signature" in request.query:
        return _unsupported("AWS")
    return S3Error("AccessDenied")


def _unsupported(algorithm: str) -> S3Error:
    if algorithm == "AWS":
        return S3Error(
            "InvalidRequest",
            "The authorization mechanism you have provided (signature version 2) is not supported. Please use "
            "AWS4-HMAC-SHA256.",
        )
    if algorithm.startswith("AWS4-"):
        return S3Error("InvalidRequest", "The signing algorithm is not supported. Please use AWS4-HMAC-SHA256.")
    return S3Error("InvalidArgument", "Unsupported Authorization Type", ArgumentName="Authorization")


def _signing_time(request: Request) -> tuple[str, int]:
    """The time that was signed, as it stands in the string to sign and in seconds: x-amz-date, or else Date."""
    text = request.headers.get("x-amz-date")
    if text is not None:
        seconds = sigv4.parse_timestamp(text)
    else:
        seconds = sigv4.parse_http_date(request.headers.get("date", ""))
        text = "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")
    if seconds is None:
        raise S3Error("AccessDenied", "AWS authentication requires a valid Date or x-amz-date header")
    return text, seconds


def _check_signed_headers(request: Request, claim: Claim) -> None:
    """What is not signed could be changed on the way: the host and all of S3's own headers must be."""
    signed = set(claim.signed_headers)
    if "host" not in signed:
        raise S3Error("AccessDenied", "The Host header must be signed.", HeadersNotSigned="host")
    sent = {name.decode("latin-1") for name, _ in request.raw_headers if name.startswith(b"x-amz-")}
    if missing := sorted(sent - signed):
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(missing),
        )


def _payload_sha256(payload: str) -> str | None:
    if payload == UNSIGNED or payload in _STREAMING:
        return None
    if payload.startswith("STREAMING-"):
        raise S3Error("NotImplemented", f"The payload type {payload} is not implemented.")
    if len(payload) != 64 or not set(payload) <= set("0123456789abcdef"):
        raise S3Error(
            "InvalidArgument",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, a STREAMING- type, or a valid sha256 value.",
            ArgumentName="x-amz-content-sha256",
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


def _length(request: Request, streaming: bool) -> int | None:
    headers = request.headers
    text = headers.get("x-amz-decoded-content-length" if streaming else "content-length")
    if text is None:
        if streaming or request.operation in _LENGTH_REQUIRED:
            raise S3Error("MissingContentLength")
        return None if "transfer-encoding" in headers else 0
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise S3Error("InvalidArgument", "The length of the body is not a number.", ArgumentValue=text)
    if int(text) > PART_MAX:
        raise S3Error("EntityTooLarge", ProposedSize=int(text), MaxSizeAllowed=PART_MAX)
    return int(text)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
