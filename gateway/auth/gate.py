"""The gate: proves who sent a request, and alone hands out its body.

The order of the checks is S3's as far as its answers show it: form, key, scope, time, which headers are signed,
signature. Nothing of the body is asked for before all of them hold, so that a client that sent ``Expect: 100-continue``
is told to go on only then.
"""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache

import trio

from gateway.asgi import Receive, ReceivedInto, ReceiveInto
from gateway.auth import payload, presign, sigv2, sigv4
from gateway.auth.payload import open_body, payload_of
from gateway.auth.principal import Authenticated, CredentialStore, Principal
from gateway.auth.sigv4 import ChunkSigner, Claim, MalformedError
from gateway.errors import S3Error
from gateway.limits import HASH_THREADS, SIGNING_KEYS_MAX
from gateway.request import Request

SKEW_MAX_S = 15 * 60


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

    def authenticate(
        self,
        request: Request,
        receive: Receive,
        receive_into: ReceiveInto | None = None,
        received_into: ReceivedInto | None = None,
    ) -> Authenticated:
        """Who sent *request*, and its body. Does no I/O; *receive*, or the other two if there are any and the body has
        no framing of its own, is called when the body is read.

        Raises: S3Error: AccessDenied for an anonymous request, else what is wrong with the authorisation.
        """
        in_query, in_query_v2 = presign.is_presigned(request.query), sigv2.is_presigned(request.query)
        authorization = request.headers.get("authorization")
        if (authorization is not None) + in_query + in_query_v2 > 1:
            raise S3Error(
                "InvalidArgument",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string "
                "parameter or the Authorization header should be specified",
                ArgumentName="Authorization",
            )
        access_key: str
        chunk_signer: ChunkSigner | None = None
        if in_query:
            access_key, chunk_signer = self._check_presigned(request)
        elif in_query_v2:
            access_key = self._check_presigned_v2(request)
        elif authorization is not None:
            access_key, chunk_signer = self._check_header(request, authorization)
        else:
            raise S3Error("AccessDenied")
        return Authenticated(
            Principal(access_key),
            open_body(request, receive, chunk_signer, self._limiter, receive_into, received_into),
        )

    def _check_header(self, request: Request, authorization: str) -> tuple[str, ChunkSigner]:
        algorithm = authorization.partition(" ")[0]
        if algorithm != sigv4.ALGORITHM:
            raise _unsupported(algorithm)
        try:
            claim = sigv4.parse_authorization(authorization)
        except MalformedError as error:
            raise S3Error("AuthorizationHeaderMalformed", f"The authorization header is malformed; {error}.") from None
        secret = self._secret(claim.access_key)
        self._check_scope(claim, "AuthorizationHeaderMalformed", "The authorization header is malformed")
        timestamp, signed_at = _signing_time(request)
        self._check_date(claim, timestamp, "AuthorizationHeaderMalformed")
        self._check_skew(timestamp, signed_at)
        if payload.HEADER not in request.headers:
            raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        return self._check_signature(request, claim, secret, timestamp, request.query.pairs)

    def _check_presigned(self, request: Request) -> tuple[str, ChunkSigner]:
        presigned = presign.parse(request.query)
        claim = presigned.claim
        secret = self._secret(claim.access_key)
        self._check_scope(claim, "AuthorizationQueryParametersError", "Error parsing the X-Amz-Credential parameter")
        self._check_date(claim, presigned.timestamp, "AuthorizationQueryParametersError")
        now = self._clock()
        if presigned.signed_at - now > SKEW_MAX_S:
            raise S3Error("AccessDenied", "Request is not yet valid", ServerTime=_iso(now))
        _check_expiry(presigned.expires_at, now)
        pairs = presign.signed_pairs(request.query)
        return self._check_signature(request, claim, secret, presigned.timestamp, pairs)

    def _check_presigned_v2(self, request: Request) -> str:
        presigned = sigv2.parse(request.query)
        secret = self._secret(presigned.access_key)
        now = self._clock()
        _check_expiry(presigned.expires_at, now)
        if presigned.expires_at - now > presign.EXPIRES_MAX_S + SKEW_MAX_S:
            raise S3Error("AccessDenied", "Expires must be less than a week away.", ServerTime=_iso(now))
        text = sigv2.string_to_sign(request)
        if not sigv2.matches(secret, text, presigned.signature):
            raise S3Error(
                "SignatureDoesNotMatch",
                AWSAccessKeyId=presigned.access_key,
                StringToSign=text,
                SignatureProvided=presigned.signature,
            )
        return presigned.access_key

    def _secret(self, access_key: str) -> str:
        secret = self._credentials.secret(access_key)
        if secret is None:
            raise S3Error("InvalidAccessKeyId", AWSAccessKeyId=access_key)
        return secret

    def _check_scope(self, claim: Claim, code: str, prefix: str) -> None:
        scope = claim.scope
        if scope.service != sigv4.SERVICE:
            raise S3Error(code, f'{prefix}; incorrect service "{scope.service}". This endpoint belongs to "s3".')
        if scope.region != self._region:
            raise S3Error(
                code,
                f"{prefix}; the region '{scope.region}' is wrong; expecting '{self._region}'",
                headers={"x-amz-bucket-region": self._region},  # an answer to HEAD has no body, and SDKs sign again
                Region=self._region,
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
        pairs: Sequence[tuple[str, str]],
    ) -> tuple[str, ChunkSigner]:
        _check_signed_headers(request, claim)
        canonical = sigv4.canonical_request(
            request.method, request.raw_path, pairs, request.raw_headers, claim.signed_headers, payload_of(request)
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


def _check_expiry(expires_at: int, now: float) -> None:
    if now > expires_at:
        raise S3Error("AccessDenied", "Request has expired", Expires=_iso(expires_at), ServerTime=_iso(now))


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
    signed = claim.signed_headers.names
    if b"host" not in signed:
        raise S3Error("AccessDenied", "The Host header must be signed.", HeadersNotSigned="host")
    missing = [name for name, _ in request.raw_headers if name.startswith(b"x-amz-") and name not in signed]
    if missing:
        raise S3Error(
            "AccessDenied",
            "There were headers present in the request which were not signed",
            HeadersNotSigned=", ".join(sorted({name.decode("latin-1") for name in missing})),
        )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
