"""Requests as the server below hands them over, signed by botocore."""

from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials

from gateway.asgi import Receive
from gateway.request import Request, RequestIds
from gateway.routes import parse

IDS = RequestIds("0123456789ABCDEF", "host")


def scope(
    method: str, target: str, headers: Iterable[tuple[str, str]] = (("host", "s3.test"),), http_version: str = "1.1"
) -> dict[str, Any]:
    """An ASGI scope; *target* is a path, with a query string behind a question mark."""
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "method": method,
        "http_version": http_version,
        "scheme": "http",
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        "client": ("127.0.0.1", 1),
    }


def request(
    method: str,
    target: str,
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    domains: tuple[str, ...] = (),
) -> Request:
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers or ())
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.insert(0, ("host", "s3.test"))
    return parse(scope(method, target, pairs), IDS, domains)


def signed(
    method: str,
    url: str,
    headers: Mapping[str, str],
    access_key: str,
    secret: str,
    *,
    region: str = "us-east-1",
    body: bytes = b"",
    expires: int | None = None,
) -> Request:
    """*url* signed by botocore, in the header, or in the query string if it *expires*."""
    prepared = botocore.awsrequest.AWSRequest(method, url, dict(headers), body)
    credentials = botocore.credentials.Credentials(access_key, secret)
    if expires is None:
        botocore.auth.S3SigV4Auth(credentials, "s3", region).add_auth(prepared)
    else:
        botocore.auth.S3SigV4QueryAuth(credentials, "s3", region, expires).add_auth(prepared)
    parts = urlsplit(str(prepared.url))
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return request(method, target, [("host", parts.netloc), *prepared.headers.items()])


def receiver(*pieces: bytes) -> Receive:
    """A connection that brings *pieces*, then the end."""
    left = list(pieces)

    async def receive() -> MutableMapping[str, Any]:
        if left:
            return {"type": "http.request", "body": left.pop(0), "more_body": True}
        return {"type": "http.request", "body": b"", "more_body": False}

    return receive


async def collect(chunks: Any) -> bytes:
    return b"".join([bytes(chunk) async for chunk in chunks])
