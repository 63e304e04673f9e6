"""What the gate lets through, and by which word it refuses the rest."""

import base64
import hashlib
import time
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
import trio

from gateway.auth import sigv4
from gateway.auth.gate import Gate
from gateway.auth.sigv4 import ChunkSigner, Scope, derive_key, sign
from gateway.checksums import Algorithm
from gateway.errors import S3Error
from gateway.request import Request
from stratumfs.limits import PART_MAX
from tests.gateway.requests import collect, receiver, request, signed

KEY, SECRET = "AKIATEST", "secret"
URL = "http://s3.test/bucket/key"
EMPTY = hashlib.sha256(b"").hexdigest()


class Credentials:
    def secret(self, access_key: str) -> str | None:
        return SECRET if access_key == KEY else None


def gate(offset_s: float = 0, region: str = "us-east-1") -> Gate:
    return Gate(Credentials(), region=region, clock=lambda: time.time() + offset_s)


def sha(body: bytes) -> dict[str, str]:
    return {"x-amz-content-sha256": hashlib.sha256(body).hexdigest(), "content-length": str(len(body))}


def put(headers: Mapping[str, str], body: bytes = b"", **more: Any) -> Request:
    return signed("PUT", URL, headers, KEY, SECRET, body=body, **more)


def edited(found: Request, old: str, new: str) -> Request:
    """*found* with its Authorization header changed."""
    pairs = [(name.decode(), value.decode()) for name, value in found.raw_headers]
    return request(
        found.method,
        found.raw_path.decode(),
        [(name, value.replace(old, new) if name == "authorization" else value) for name, value in pairs],
    )


def refused(found: Request, gate_: Gate | None = None) -> S3Error:
    with pytest.raises(S3Error) as caught:
        (gate_ or gate()).authenticate(found, receiver())
    return caught.value


async def body_error(found: Request, *pieces: bytes) -> S3Error:
    caller = gate().authenticate(found, receiver(*pieces))
    with pytest.raises(S3Error) as caught:
        await collect(caller.body)
    return caught.value


async def test_a_signed_request_names_its_caller_and_its_body_checks() -> None:
    caller = gate().authenticate(put(sha(b"hello"), b"hello"), receiver(b"he", b"llo"))
    assert caller.principal.access_key == KEY
    assert caller.body.length == 5
    assert await collect(caller.body) == b"hello"
    assert caller.body.checksum.algorithm == "CRC64NVME"


async def test_a_large_body_is_hashed_in_batches() -> None:
    body = bytes(range(256)) * 10_000
    pieces = [body[start : start + 65536] for start in range(0, len(body), 65536)]
    caller = gate().authenticate(put(sha(body), body), receiver(*pieces))
    assert await collect(caller.body) == body


def test_a_wrong_secret_does_not_match() -> None:
    error = refused(signed("GET", URL, {}, KEY, "other"))
    assert (error.code, error.status) == ("SignatureDoesNotMatch", 403)
    assert error.elements["AWSAccessKeyId"] == KEY
    assert error.elements["StringToSign"].startswith("AWS4-HMAC-SHA256\n")


def test_an_unknown_key_is_named() -> None:
    assert refused(signed("GET", URL, {}, "nobody", SECRET)).code == "InvalidAccessKeyId"


def test_an_anonymous_request_is_denied() -> None:
    assert refused(request("GET", "/bucket/key")).code == "AccessDenied"


@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        ("AWS AKIATEST:c2lnbmF0dXJl", "InvalidRequest"),
        ("AWS4-ECDSA-P256-SHA256 Credential=x", "InvalidRequest"),
        ("Basic dXNlcjpwYXNz", "InvalidArgument"),
        ("", "InvalidArgument"),
        ("AWS4-HMAC-SHA256 nonsense", "AuthorizationHeaderMalformed"),
    ],
)
def test_other_authorizations_are_refused_clearly(authorization: str, code: str) -> None:
    assert refused(request("GET", "/bucket/key", {"authorization": authorization})).code == code


@pytest.mark.parametrize(("offset", "code"), [(-901, "RequestTimeTooSkewed"), (903, "RequestTimeTooSkewed")])
def test_a_clock_that_is_off_by_more_than_15_minutes_is_told(offset: int, code: str) -> None:
    error = refused(signed("GET", URL, {}, KEY, SECRET), gate(offset))
    assert error.code == code
    assert error.elements["MaxAllowedSkewMilliseconds"] == "900000"
    gate(offset - 60 if offset > 0 else offset + 60).authenticate(signed("GET", URL, {}, KEY, SECRET), receiver())


def test_a_scope_of_another_region_or_service_is_refused() -> None:
    error = refused(signed("GET", URL, {}, KEY, SECRET, region="eu-west-1"))
    assert (error.code, error.elements["Region"]) == ("AuthorizationHeaderMalformed", "us-east-1")
    assert error.headers["x-amz-bucket-region"] == "us-east-1"
    gate(region="eu-west-1").authenticate(signed("GET", URL, {}, KEY, SECRET, region="eu-west-1"), receiver())
    assert refused(edited(signed("GET", URL, {}, KEY, SECRET), "/s3/", "/ec2/")).code == "AuthorizationHeaderMalformed"


def test_a_scope_of_another_day_is_refused() -> None:
    found = signed("GET", URL, {}, KEY, SECRET)
    today = found.headers["x-amz-date"][:8]
    error = refused(edited(found, f"/{today}/", "/20200101/"))
    assert error.code == "AuthorizationHeaderMalformed"
    assert "Invalid credential date" in error.message


@pytest.mark.parametrize(
    ("header", "code"),
    [("x-amz-date", "AccessDenied"), ("x-amz-content-sha256", "InvalidRequest")],
)
def test_a_missing_header_is_named(header: str, code: str) -> None:
    found = signed("GET", URL, {}, KEY, SECRET)
    pairs = [(name.decode(), value.decode()) for name, value in found.raw_headers if name.decode() != header]
    assert refused(request("GET", "/bucket/key", pairs)).code == code


@pytest.mark.parametrize("date", ["", "yesterday", "Fri, 31 Dec 9999 23:59:59 -2359"])
def test_a_date_that_is_none_is_refused(date: str) -> None:
    found = signed("GET", URL, {}, KEY, SECRET)
    pairs = [(name.decode(), value.decode()) for name, value in found.raw_headers if name != b"x-amz-date"]
    assert refused(request("GET", "/bucket/key", [*pairs, ("date", date)])).code == "AccessDenied"


def test_headers_of_s3_and_the_host_must_be_signed() -> None:
    found = signed("GET", URL, {}, KEY, SECRET)
    pairs = [(name.decode(), value.decode()) for name, value in found.raw_headers]
    error = refused(request("GET", "/bucket/key", [*pairs, ("x-amz-acl", "public-read")]))
    assert (error.code, error.elements["HeadersNotSigned"]) == ("AccessDenied", "x-amz-acl")
    assert refused(edited(found, "SignedHeaders=host;", "SignedHeaders=")).elements["HeadersNotSigned"] == "host"


def test_a_signed_header_that_was_changed_does_not_match() -> None:
    found = signed("GET", URL, {"x-amz-meta-a": "1"}, KEY, SECRET)
    pairs = [(name.decode(), value.decode().replace("1", "2")) for name, value in found.raw_headers if b"meta" in name]
    rest = [(name.decode(), value.decode()) for name, value in found.raw_headers if b"meta" not in name]
    assert refused(request("GET", "/bucket/key", rest + pairs)).code == "SignatureDoesNotMatch"


async def test_a_body_that_is_not_what_was_signed_is_refused() -> None:
    error = await body_error(put(sha(b"hello"), b"hello"), b"hullo")
    assert error.code == "XAmzContentSHA256Mismatch"


@pytest.mark.parametrize("body", [b"hell", b"hello!"])
async def test_a_body_of_another_length_is_refused(body: bytes) -> None:
    assert (await body_error(put(sha(b"hello"), b"hello"), body)).code == "IncompleteBody"


async def test_a_client_that_goes_away_leaves_an_incomplete_body() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    caller = gate().authenticate(put(sha(b"hello"), b"hello"), receive)
    with pytest.raises(S3Error, match="IncompleteBody"):
        await collect(caller.body)


async def test_a_client_that_stops_sending_is_given_up(autojump_clock: Any) -> None:
    async def receive() -> dict[str, Any]:
        await trio.sleep_forever()
        raise AssertionError

    caller = gate().authenticate(put(sha(b"hello"), b"hello"), receive)
    with pytest.raises(S3Error, match="RequestTimeout"):
        await collect(caller.body)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-content-sha256": "UNSIGNED-PAYLOAD"}, "MissingContentLength"),
        ({"x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "content-length": "9"}, "MissingContentLength"),
        ({"x-amz-content-sha256": "UNSIGNED-PAYLOAD", "content-length": str(PART_MAX + 1)}, "EntityTooLarge"),
        ({"x-amz-content-sha256": "UNSIGNED-PAYLOAD", "content-length": "ten"}, "InvalidArgument"),
        ({"x-amz-content-sha256": "nonsense", "content-length": "1"}, "InvalidArgument"),
        ({"x-amz-content-sha256": "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "content-length": "1"}, "NotImplemented"),
        (sha(b"") | {"content-md5": "short"}, "InvalidDigest"),
        (sha(b"") | {"x-amz-checksum-crc32": "short"}, "InvalidRequest"),
        (sha(b"") | {"x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-crc32c": "AAAAAA=="}, "InvalidRequest"),
        (sha(b"") | {"x-amz-checksum-crc32": "AAAAAA==-2"}, "InvalidRequest"),
        (sha(b"") | {"x-amz-sdk-checksum-algorithm": "CRC32"}, "InvalidRequest"),
        (sha(b"") | {"x-amz-sdk-checksum-algorithm": "MD4"}, "InvalidRequest"),
        (sha(b"") | {"x-amz-trailer": "x-amz-checksum-crc32"}, "InvalidRequest"),
        (
            {
                "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
                "x-amz-decoded-content-length": "0",
                "x-amz-trailer": "x-amz-meta-late",
            },
            "InvalidRequest",
        ),
    ],
)
def test_bodies_that_contradict_themselves_are_refused_before_they_are_read(headers: dict[str, str], code: str) -> None:
    # botocore hashes what it is given; these headers are signed as they are.
    assert refused(_signed_as_is("PUT", headers)).code == code


def _signed_as_is(method: str, headers: Mapping[str, str], target: str = "/bucket/key") -> Request:
    """A PUT whose headers botocore would not make: the signature is right all the same."""
    timestamp, scope = _now()
    pairs = {"host": "s3.test", "x-amz-date": timestamp, **headers}
    names = sorted(pairs)
    signed_names = sigv4.SignedHeaders(tuple(name.encode() for name in names))
    raw = [(name.encode(), value.encode()) for name, value in pairs.items()]
    canonical = sigv4.canonical_request(
        method, target.encode(), (), raw, signed_names, headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
    )
    signature = sign(derive_key(SECRET, scope), sigv4.string_to_sign(timestamp, scope, canonical))
    pairs["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return request(method, target, pairs)


def _now() -> tuple[str, Scope]:
    timestamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return timestamp, Scope(timestamp[:8], "us-east-1", "s3")


def _trailing(length: int, trailer: str = "x-amz-checksum-crc32") -> Request:
    return _signed_as_is(
        "PUT",
        {
            "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            "x-amz-decoded-content-length": str(length),
            "x-amz-trailer": trailer,
            "content-encoding": "gzip,aws-chunked",
        },
    )


CRC = base64.b64encode(zlib.crc32(b"hello").to_bytes(4, "big")).decode()


async def test_a_trailing_checksum_is_verified() -> None:
    found = _trailing(5)
    assert found.headers["content-encoding"] == "gzip"
    caller = gate().authenticate(
        found, receiver(b"5\r\nhel", b"lo\r\n0\r\nx-amz-checksum-crc32:" + CRC.encode() + b"\r\n\r\n")
    )
    assert caller.body.declared is Algorithm.CRC32
    assert caller.body.length == 5
    assert await collect(caller.body) == b"hello"
    assert caller.body.checksum.value == CRC


@pytest.mark.parametrize(
    ("length", "end", "code"),
    [
        (5, b"x-amz-checksum-crc32:AAAAAA==\r\n", "BadDigest"),
        (5, b"x-amz-checksum-crc32:A\r\n", "InvalidRequest"),
        (5, b"", "MalformedTrailerError"),
        (5, b"x-amz-checksum-sha1:AAAAAA==\r\n", "MalformedTrailerError"),
        (6, b"x-amz-checksum-crc32:" + CRC.encode() + b"\r\n", "IncompleteBody"),
        (4, b"x-amz-checksum-crc32:" + CRC.encode() + b"\r\n", "IncompleteBody"),
    ],
)
async def test_a_trailer_that_does_not_hold_is_refused(length: int, end: bytes, code: str) -> None:
    error = await body_error(_trailing(length), b"5\r\nhello\r\n0\r\n" + end + b"\r\n")
    assert error.code == code


async def test_signed_chunks_build_on_the_signature_of_the_request() -> None:
    headers = {
        "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "x-amz-decoded-content-length": "5",
    }
    found = _signed_as_is("PUT", headers)
    _, scope = _now()
    seed = found.headers["authorization"].rpartition("Signature=")[2]
    signer = ChunkSigner(derive_key(SECRET, scope), found.headers["x-amz-date"], scope, seed)
    first = sign(signer.key, signer.chunk(seed, hashlib.sha256(b"hello").hexdigest()))
    last = sign(signer.key, signer.chunk(first, EMPTY))
    body = f"5;chunk-signature={first}\r\nhello\r\n0;chunk-signature={last}\r\n\r\n".encode()
    caller = gate().authenticate(found, receiver(body))
    assert await collect(caller.body) == b"hello"
    error = await body_error(found, body.replace(b"hello", b"hullo"))
    assert error.code == "SignatureDoesNotMatch"
    error = await body_error(found, body[: body.index(b"\r\n0;") + 2])
    assert error.code == "IncompleteBody"


@pytest.mark.parametrize(("value", "good"), [(CRC, True), ("AAAAAA==", False)])
async def test_a_checksum_header_is_verified(value: str, good: bool) -> None:
    found = put(sha(b"hello") | {"x-amz-checksum-crc32": value}, b"hello")
    if good:
        caller = gate().authenticate(found, receiver(b"hello"))
        await collect(caller.body)
        assert caller.body.checksum.value == CRC
    else:
        assert (await body_error(found, b"hello")).code == "BadDigest"


async def test_the_checksum_of_a_completion_is_not_its_bodys() -> None:
    found = signed(
        "POST", f"{URL}?uploadId=1", sha(b"<x/>") | {"x-amz-checksum-crc32": "AAAAAA=="}, KEY, SECRET, body=b"<x/>"
    )
    caller = gate().authenticate(found, receiver(b"<x/>"))
    assert caller.body.declared is None
    assert await caller.body.read(100) == b"<x/>"


async def test_an_algorithm_can_be_asked_for_where_the_client_declared_none() -> None:
    caller = gate().authenticate(put(sha(b"hello"), b"hello"), receiver(b"hello"))
    caller.body.expect(Algorithm.CRC32)
    with pytest.raises(RuntimeError):
        _ = caller.body.checksum
    await collect(caller.body)
    assert caller.body.checksum.value == CRC


async def test_content_md5_is_compared_with_the_digest_that_a_reader_made() -> None:
    md5 = base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    caller = gate().authenticate(put(sha(b"hello") | {"content-md5": md5}, b"hello"), receiver(b"hello"))
    caller.body.check_md5(hashlib.md5(b"hello").digest())
    with pytest.raises(S3Error, match="BadDigest"):
        caller.body.check_md5(hashlib.md5(b"hullo").digest())
    wrong = base64.b64encode(bytes(16)).decode()
    caller = gate().authenticate(put(sha(b"hello") | {"content-md5": wrong}, b"hello"), receiver(b"hello"))
    with pytest.raises(S3Error, match="BadDigest"):
        await caller.body.read(100)


async def test_a_document_has_a_limit() -> None:
    found = signed("POST", "http://s3.test/bucket?delete", sha(b"hello"), KEY, SECRET, body=b"hello")
    with pytest.raises(S3Error, match="MaxMessageLengthExceeded"):
        await gate().authenticate(found, receiver(b"hello")).body.read(4)
    endless = _signed_as_is("PUT", {"x-amz-content-sha256": "UNSIGNED-PAYLOAD", "transfer-encoding": "chunked"}, "/b")
    caller = gate().authenticate(endless, receiver(b"hel", b"lo"))
    assert caller.body.length is None
    with pytest.raises(S3Error, match="MaxMessageLengthExceeded"):
        await caller.body.read(4)


# Presigned URLs


def presigned(expires: int = 60, url: str = URL, **headers: str) -> Request:
    return signed("GET", url, headers, KEY, SECRET, expires=expires)


def test_a_presigned_url_holds_until_it_expires() -> None:
    found = presigned(60, URL + "?response-content-type=text%2Fplain&prefix=a%20b")
    assert gate().authenticate(found, receiver()).principal.access_key == KEY
    gate(58).authenticate(found, receiver())
    error = refused(found, gate(62))
    assert (error.code, error.message) == ("AccessDenied", "Request has expired")
    assert error.elements["Expires"]


def test_a_presigned_url_of_the_future_is_not_yet_valid() -> None:
    gate(-800).authenticate(presigned(), receiver())
    assert refused(presigned(), gate(-960)).message == "Request is not yet valid"


@pytest.mark.parametrize("expires", [604_801, -1])
def test_a_presigned_url_holds_for_a_week_at_most(expires: int) -> None:
    assert refused(presigned(expires)).code == "AuthorizationQueryParametersError"
    gate().authenticate(presigned(604_800), receiver())


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("X-Amz-Signature=", "X-Amz-Signature=0", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires=60", "X-Amz-Expires=61", "SignatureDoesNotMatch"),
        ("X-Amz-Expires=60", "X-Amz-Expires=1e3", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires=60&", "", "AuthorizationQueryParametersError"),
        ("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Expires=60", "AuthorizationQueryParametersError"),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1", "AuthorizationQueryParametersError"),
        ("us-east-1", "eu-west-1", "AuthorizationQueryParametersError"),
        ("X-Amz-Date=20", "X-Amz-Date=xx", "AuthorizationQueryParametersError"),
        (KEY, "nobody", "InvalidAccessKeyId"),
        ("X-Amz-Algorithm", "versionId=1&X-Amz-Algorithm", "SignatureDoesNotMatch"),
    ],
)
def test_a_presigned_url_that_was_changed_is_refused(old: str, new: str, code: str) -> None:
    found = presigned()
    query = "&".join(f"{name}={value}" for name, value in found.query.pairs)
    assert old in query
    assert refused(request("GET", f"/bucket/key?{query.replace(old, new)}")).code == code


def test_one_request_has_one_authorization() -> None:
    query = "&".join(f"{name}={value}" for name, value in presigned().query.pairs)
    both = request("GET", f"/bucket/key?{query}", {"authorization": "AWS4-HMAC-SHA256 x"})
    assert refused(both).code == "InvalidArgument"


def test_parameters_of_a_presigned_url_stand_for_headers() -> None:
    found = presigned(60, URL + "?x-amz-checksum-mode=ENABLED")
    assert found.headers["x-amz-checksum-mode"] == "ENABLED"
    assert "x-amz-signature" not in found.headers
    gate().authenticate(found, receiver())
