"""The head of one request, from bytes to fields. Pure.

llhttp splits it, and refuses most of what is malformed. What it lets through is refused here: a request that two
readers could understand differently must reach nobody. It is given one head at a time, and never a byte of a body, so
that neither trailers nor a next request can come out of it, and it holds no state.

Source: RFC 9112, sections 2 to 7 and 11; what llhttp takes and refuses was tried, and is a test.
"""

import re
from dataclasses import dataclass

import httptools

from gateway.limits import REQUEST_HEADERS_MAX

Headers = list[tuple[bytes, bytes]]

_TARGET = re.compile(rb"/(?:[!\"$&-~]++|%(?!00)[0-9A-Fa-f]{2})*+")
"""A path and a query: printable ASCII without a fragment, every percent sign with its two digits, and no NUL."""
_BEGINNING = re.compile(rb"(?:\r\n)?[A-Z-]+ [!-~]+ HTTP/1\.[01]\r\n")
_LENGTH = re.compile(rb"[0-9]{1,19}")
_ONCE = frozenset((b"host", b"authorization", b"content-length", b"transfer-encoding"))
"""Headers of which a second one would say another thing to another reader."""
_LISTS = frozenset((b"connection", b"expect", b"upgrade"))
"""Headers that are read here too, and are lists: two of them are one."""


class RefusedError(Exception):
    """Answer with *status* and *reason*, and close: what comes behind such a head cannot be told from a request."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason, self.status = reason, status


@dataclass(slots=True)
class Head:
    """One request, up to its body. Not frozen, which would cost a fiftieth of a request; nobody changes it.

    target      path and query as received: printable ASCII, each escape whole
    headers     in the order received, names in lowercase, values without blanks at both ends
    version     1.0 or 1.1
    length      bytes of the body; None if it is chunked
    keep_alive  whether the client can send another request behind this one
    expects     whether the client waits to be told before it sends its body
    """

    method: str
    target: bytes
    version: str
    headers: Headers
    length: int | None
    keep_alive: bool
    expects: bool


class _Parsed:
    """What llhttp calls back."""

    __slots__ = ("complete", "headers", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: Headers = []
        self.complete = 0

    def on_url(self, piece: bytes) -> None:
        self.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete += 1


def parse_head(block: bytes) -> Head:
    """A request's head, of which *block* is all, up to its empty line. Raises: RefusedError."""
    parsed = _Parsed()
    parser = httptools.HttpRequestParser(parsed)
    upgrades = False
    try:
        parser.feed_data(block)
    except httptools.HttpParserUpgrade:
        upgrades = True  # CONNECT too
    except httptools.HttpParserError as error:
        raise RefusedError(str(error)) from None
    method, version = parser.get_method(), parser.get_http_version()
    line = b"%b %b HTTP/%b\r\n" % (method, parsed.target, version.encode())
    if parsed.complete != 1 or version not in ("1.0", "1.1") or not block.removeprefix(b"\r\n").startswith(line):
        raise RefusedError("This is no request of HTTP/1.1.")
    if not _TARGET.fullmatch(parsed.target):
        raise RefusedError("The target must be a path and a query, of printable characters and whole escapes.")
    said = _said(parsed.headers)
    if b"host" not in said and version == "1.1":
        raise RefusedError("The Host header is missing.")
    if upgrades and b"h2c" in said.get(b"upgrade", b"").lower():
        raise RefusedError("HTTP/2 is spoken over TLS alone.")
    # llhttp forgets what it knew of the connection when the message is over.
    keep_alive = version == "1.1" and not upgrades and b"close" not in said.get(b"connection", b"").lower()
    # A client of HTTP/1.0 takes whatever comes first for its answer.
    expects = version == "1.1" and b"100-continue" in said.get(b"expect", b"").lower()
    return Head(method.decode(), parsed.target, version, parsed.headers, _length(said, version), keep_alive, expects)


def check_beginning(held: bytes | bytearray) -> None:
    """Refuse what will never be a head, however it goes on; nobody then waits for its end. Raises: RefusedError."""
    if held.count(b"\n") != held.count(b"\r\n"):
        raise RefusedError("A line does not end in CR LF.")
    if held.count(b"\n") > held.startswith(b"\r\n") and not _BEGINNING.match(held):
        raise RefusedError("This is no request of HTTP/1.1.")


def _said(headers: Headers) -> dict[bytes, bytes]:
    """The headers that the connection goes by. Raises: RefusedError."""
    if len(headers) > REQUEST_HEADERS_MAX:
        raise RefusedError(f"There are more than {REQUEST_HEADERS_MAX} headers.", 431)
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _ONCE:
            if name in found:
                raise RefusedError(f"The header {name.decode()} was sent more than once.")
            found[name] = value
        elif name in _LISTS:
            found[name] = found[name] + b"," + value if name in found else value
    return found


def _length(said: dict[bytes, bytes], version: str) -> int | None:
    """Bytes of the body, None for chunks. Raises: RefusedError if that is not said in exactly one way."""
    length, encoding = said.get(b"content-length"), said.get(b"transfer-encoding")
    if encoding is None:
        if length is not None and not _LENGTH.fullmatch(length):
            raise RefusedError("Content-Length is not a number of bytes.")
        return int(length or 0)
    if length is not None:
        raise RefusedError("Content-Length and Transfer-Encoding exclude each other.")
    if version == "1.0":
        raise RefusedError("HTTP/1.0 has no Transfer-Encoding.")
    if encoding.lower() != b"chunked":
        raise RefusedError("A Transfer-Encoding other than chunked is not implemented.", 501)
    return None
