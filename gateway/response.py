"""What a handler answers, and the seam between protocol and operations."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from gateway.auth.principal import Authenticated
from gateway.request import Request

Buffer = bytes | bytearray | memoryview

XML_TYPE = "application/xml"


class Response(msgspec.Struct, frozen=True):
    """Status, headers and body of one answer.

    headers  any case, Latin-1 or UTF-8; Content-Length, Date, Server and the request ids are added by the door
    body     whole, or an iterator of chunks that is used once; not sent after HEAD, 204 and 304
    length   Content-Length: of a whole body it is known; of an iterator it is sent if given, and then the iterator must
             yield exactly so many bytes; for HEAD it is what GET would send
    """

    status: int = 200
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    body: Buffer | AsyncIterator[Buffer] = b""
    length: int | None = None


def xml_response(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An XML document as an answer."""
    return Response(status, {"content-type": XML_TYPE, **(headers or {})}, body)


Responder = Callable[[Response], Awaitable[None]]
"""Sends the one answer of a request; returns when all of it was handed to the connection."""


class S3Service(Protocol):
    """What the door calls for each authenticated request."""

    async def handle(self, request: Request, caller: Authenticated, send: Responder) -> None:
        """Execute *request* and call *send* exactly once.

        *send* is called, and not a value returned, so that a handler can keep an object open around it. What is raised
        before is answered as S3's XML error; what is raised after it breaks the connection off, so that the client does
        not take a short body for a whole one. May be called for any Operation: one that cannot be done raises
        ``S3Error("NotImplemented")``.
        """
        ...
