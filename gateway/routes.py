"""From an ASGI scope to a typed Request: pure, no I/O.

What parsers below let through and what no client sends is refused here: a request that two readers could understand
differently must not be executed as either.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

from gateway.asgi import CHECKED
from gateway.errors import S3Error
from gateway.limits import REQUEST_HEADERS_MAX, REQUEST_TARGET_MAX
from gateway.operations import (
    BUCKET_DEFAULT,
    BUCKET_SUBRESOURCES,
    LISTED_BY_ID,
    OBJECT_DEFAULT,
    OBJECT_SUBRESOURCES,
    PARAMETERS,
    Operation,
)
from gateway.request import Query, Request, RequestIds

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_BAD_TARGET = re.compile(rb"[^\x21-\x7e]|#")
_ONCE = (
    b"host",
    b"authorization",
    b"content-length",
    b"transfer-encoding",
    b"x-amz-date",
    b"x-amz-content-sha256",
    b"x-amz-decoded-content-length",
    b"content-md5",
    b"x-amz-copy-source",
)
"""Headers that would mean two things if they came twice."""
V2_HEADERS = ("content-md5", "content-type")
"""What version 2 of the signature covers beside S3's own headers; its presigned URLs carry them as parameters."""
_SIGNATURE_PARAMETERS = frozenset(
    ("x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders", "x-amz-signature")
)

RawHeaders = Sequence[tuple[bytes, bytes]]
_NO_QUERY = Query(())


def parse(scope: Mapping[str, Any], ids: RequestIds, domains: Sequence[str] = ()) -> Request:
    """The request of an ASGI HTTP *scope*.

    domains  names under which ``bucket.name`` is virtual-host style, lowercase
    Raises: S3Error (InvalidURI, InvalidArgument, BadRequest, MethodNotAllowed, NotImplemented, …).
    """
    method = scope["method"]
    raw_path: bytes = scope["raw_path"]
    raw_query: bytes = scope["query_string"]
    if CHECKED in scope.get("extensions", ()):
        raw_headers = tuple(scope["headers"])
    else:
        raw_headers = tuple((name.lower(), value.strip(b" \t")) for name, value in scope["headers"])
        _check_framing(raw_headers, scope["http_version"])
        _check_characters(raw_path, raw_query)
    if len(raw_path) + len(raw_query) > REQUEST_TARGET_MAX:
        raise S3Error("InvalidURI", f"The target is longer than {REQUEST_TARGET_MAX} bytes.")
    query = parse_query(raw_query) if raw_query else _NO_QUERY
    headers = _headers(raw_headers, query)
    host = headers["host"]
    in_host = _bucket_of_host(host, domains)
    bucket, key = resolve(raw_path, in_host)
    return Request(
        ids=ids,
        operation=operation_of(method, bucket, key, query, headers),
        method=method,
        bucket=bucket,
        key=key,
        version_id=query.get("versionId"),
        query=query,
        headers=headers,
        raw_headers=raw_headers,
        raw_path=raw_path,
        host=host,
        secure=scope.get("scheme") == "https",
        client=(scope.get("client") or ("",))[0],
        in_host=in_host is not None,
    )


def _check_framing(headers: RawHeaders, http_version: str) -> None:
    if len(headers) > REQUEST_HEADERS_MAX:
        raise S3Error("RequestHeaderSectionTooLarge", f"More than {REQUEST_HEADERS_MAX} headers.")
    names = [name for name, _ in headers]
    if b"transfer-encoding" in names:
        _check_transfer_encoding(dict(headers), http_version)


def _check_transfer_encoding(headers: Mapping[bytes, bytes], http_version: str) -> None:
    if b"content-length" in headers:
        raise S3Error("BadRequest", "Content-Length and Transfer-Encoding exclude each other.")
    if http_version == "1.0":
        raise S3Error("BadRequest", "HTTP/1.0 has no Transfer-Encoding.")
    if headers[b"transfer-encoding"].lower() != b"chunked":
        raise S3Error("NotImplemented", "A Transfer-Encoding other than chunked is not implemented.")


def _check_once(headers: RawHeaders) -> None:
    names = [name for name, _ in headers]
    for name in _ONCE:
        if names.count(name) > 1:
            raise S3Error("BadRequest", f"The header {name.decode()} was sent more than once.")


def _check_characters(raw_path: bytes, raw_query: bytes) -> None:
    if not raw_path.startswith(b"/"):
        raise S3Error("InvalidURI", "The target must be a path.")
    if _BAD_TARGET.search(raw_path) or _BAD_TARGET.search(raw_query):
        raise S3Error("InvalidURI", "The target must consist of printable ASCII characters.")
    if _BAD_ESCAPE.search(raw_path) or _BAD_ESCAPE.search(raw_query):
        raise S3Error("InvalidURI", "The target has a percent sign that two hexadecimal digits do not follow.")


def parse_query(raw: bytes) -> Query:
    """The query string, percent-decoded; a ``+`` is a space, as S3 reads it. Raises: S3Error InvalidURI for bytes that
    are not UTF-8."""
    pairs = []
    for item in raw.split(b"&"):
        if item:
            name, _, value = item.replace(b"+", b" ").partition(b"=")
            pairs.append((_text(name), _text(value)))
    return Query(tuple(pairs))


def _text(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "The target must be UTF-8.") from None


def _headers(raw_headers: RawHeaders, query: Query) -> dict[str, str]:
    """Raises: S3Error BadRequest."""
    headers = {name.decode("latin-1"): header_text(value) for name, value in raw_headers}
    if len(headers) < len(raw_headers):
        _check_once(raw_headers)
        headers = _joined(raw_headers)
    if "host" not in headers:
        raise S3Error("BadRequest", "The Host header is missing.")
    if query and ("X-Amz-Signature" in query or "Signature" in query):
        _hoisted(headers, query)
    if "aws-chunked" in headers.get("content-encoding", ""):
        _without_chunked(headers)
    return headers


def _joined(raw_headers: RawHeaders) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in raw_headers:
        name, value = raw_name.decode("latin-1"), header_text(raw_value)
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def header_text(value: bytes) -> str:
    """A header's value: UTF-8, which S3's clients send, else Latin-1, which HTTP meant."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _hoisted(headers: dict[str, str], query: Query) -> None:
    """Parameters of a presigned URL that stand for headers (SDKs move them there, and S3 reads them there)."""
    for name, value in query.items():
        lower = name.lower()
        if _stands_for_header(lower, query):
            headers.setdefault(lower, value)


def _stands_for_header(lower: str, query: Query) -> bool:
    if lower in V2_HEADERS:
        return "Signature" in query
    return lower.startswith("x-amz-") and lower not in _SIGNATURE_PARAMETERS


def _without_chunked(headers: dict[str, str]) -> None:
    """``aws-chunked`` is the transfer's encoding; what remains is the object's, spelled as its writer spelled it."""
    codings = headers["content-encoding"].split(",")
    rest = ",".join(coding for coding in codings if coding.strip() not in ("", "aws-chunked")).strip()
    if rest:
        headers["content-encoding"] = rest
    else:
        del headers["content-encoding"]


def resolve(raw_path: bytes, in_host: str | None) -> tuple[str | None, bytes | None]:
    """Bucket and key of a path; in virtual-host style the bucket is the one *in_host*."""
    if in_host is not None:
        return in_host, _key(raw_path[1:])
    first, slash, rest = raw_path[1:].partition(b"/")
    if not first:
        if slash:
            raise S3Error("InvalidBucketName", BucketName="")
        return None, None
    return _bucket(first), _key(rest)


def _bucket_of_host(host: str, domains: Sequence[str]) -> str | None:
    if not domains:
        return None
    name = (host if host.endswith("]") else host.rpartition(":")[0] or host).lower().rstrip(".")
    for domain in domains:
        if name.endswith("." + domain):
            return name[: -len(domain) - 1]
    return None


def _bucket(raw: bytes) -> str:
    name = unquote_to_bytes(raw)
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidBucketName", "The bucket's name must be UTF-8.") from None
    if "\0" in text or "/" in text:
        raise S3Error("InvalidBucketName")
    return text


def _key(raw: bytes) -> bytes | None:
    """The key, percent-decoded once. Raises: S3Error InvalidURI (not UTF-8), InvalidArgument (NUL)."""
    if not raw:
        return None
    if b"%" not in raw:
        return raw  # of printable ASCII
    key = unquote_to_bytes(raw)
    try:
        key.decode()
    except UnicodeDecodeError:
        raise S3Error("InvalidURI", "The object's key must be UTF-8.") from None
    if b"\0" in key:
        raise S3Error("InvalidArgument", "The object's key must not contain the NUL character.")
    return key


def operation_of(
    method: str, bucket: str | None, key: bytes | None, query: Query, headers: Mapping[str, str]
) -> Operation:
    """Which operation a request is.

    Raises: S3Error MethodNotAllowed; NotImplemented for a query name that S3 may give a meaning tomorrow,
    InvalidArgument for two that contradict each other.
    """
    if bucket is None:
        return _service_operation(method, query)
    methods = BUCKET_DEFAULT if key is None else OBJECT_DEFAULT
    if query:
        table = BUCKET_SUBRESOURCES if key is None else OBJECT_SUBRESOURCES
        chosen = [name for name in query if name in table]
        if len(chosen) > 1:
            raise S3Error("InvalidArgument", f"Conflicting query string parameters: {', '.join(sorted(chosen))}")
        _refuse_unknown(method, query, table)
        methods = table[chosen[0]] if chosen else methods
    if method not in methods:
        raise S3Error("MethodNotAllowed", headers={"allow": ", ".join(methods)}, Method=method)
    return _refined(methods[method], query, headers)


def _service_operation(method: str, query: Query) -> Operation:
    if method == "GET":
        _refuse_unknown(method, query, {})
        return Operation.LIST_BUCKETS
    raise S3Error("MethodNotAllowed", headers={"allow": "GET"}, Method=method)


def _refuse_unknown(method: str, query: Query, table: Mapping[str, object]) -> None:
    """Refuse names that no operation has: a PUT with one would write the object where something else was meant. A read
    takes unknown names with a value, as S3 does, but not bare ones, which look like a sub-resource."""
    for name, value in query.items():
        lower = name.lower()
        if name in table or lower in PARAMETERS or lower.startswith("x-") or _stands_for_header(lower, query):
            continue
        if method not in ("GET", "HEAD") or not value:
            raise S3Error("NotImplemented", f"The query string parameter {name!r} is not implemented.")


def _refined(operation: Operation, query: Query, headers: Mapping[str, str]) -> Operation:
    """Operations that share method and place, told apart by a parameter or header."""
    copies = "x-amz-copy-source" in headers
    if operation is Operation.LIST_OBJECTS and "list-type" in query:
        if query["list-type"] != "2":
            raise S3Error("InvalidArgument", "Invalid List Type", ArgumentName="list-type")
        return Operation.LIST_OBJECTS_V2
    if operation in LISTED_BY_ID and "id" in query:
        return LISTED_BY_ID[operation]
    if operation is Operation.UPLOAD_PART:
        if "partNumber" not in query:
            raise S3Error("InvalidArgument", "This operation needs partNumber beside uploadId.")
        return Operation.UPLOAD_PART_COPY if copies else operation
    if operation is Operation.PUT_OBJECT:
        if "partNumber" in query:
            raise S3Error("InvalidArgument", "This operation needs uploadId beside partNumber.")
        return Operation.COPY_OBJECT if copies else operation
    return operation
