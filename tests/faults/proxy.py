"""What stands between a client and a real S3 service, and does to chosen requests what networks and services do.

A `Proxy` runs a trio loop in a thread of its own. It takes each request and each answer in whole, which is what makes
faults easy to say (`tests/faults/wrongs.py`), and adds nothing to either where no rule applies.
"""

import hashlib
import http.client
import socket
import struct
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from urllib.parse import unquote

import trio

from tools.measure.endpoint import Endpoint

VERBS = ("PUT", "HEAD", "GET", "LIST", "DELETE")
_HEAD_MAX = 1 << 20
_PIECE = 1 << 16
_UPSTREAM_THREADS = 64
_UPSTREAM_S = 120.0

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    target: str
    headers: Headers
    body: bytes = b""

    @property
    def verb(self) -> str:
        """One of VERBS, or another method."""
        listing = self.method == "GET" and "list-type=2" in self.target
        return "LIST" if listing else self.method

    def header(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    reason: str
    headers: Headers
    body: bytes = b""

    def with_header(self, name: str, value: str) -> "Answer":
        kept = [(key, each) for key, each in self.headers if key.lower() != name.lower()]
        return replace(self, headers=[*kept, (name, value)])

    @property
    def head(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} {self.reason}", *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    @property
    def raw(self) -> bytes:
        return self.head + self.body


class Exchange:
    """One request and what becomes of it. ``over``: the connection cannot be used again."""

    def __init__(self, request: Request, stream: trio.SocketStream, behind: bytes, endpoint: Endpoint) -> None:
        self.request = request
        self.over = False
        self.endpoint = endpoint
        self._stream, self._behind = stream, bytearray(behind)
        self._limiter = trio.CapacityLimiter(_UPSTREAM_THREADS)

    async def take(self) -> Request:
        """The request with its body, which the client may be asked to send."""
        length = int(self.request.header("content-length") or 0)
        if self.request.header("expect"):
            await self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while len(self._behind) < length:
            data = await self._stream.receive_some(_PIECE)
            if not data:
                raise trio.BrokenResourceError
            self._behind += data
        self.request = replace(self.request, body=bytes(self._behind[:length]))
        del self._behind[:length]
        return self.request

    async def forward(self) -> Answer:
        """Take the request and have the service answer it."""
        request = await self.take()
        return await trio.to_thread.run_sync(partial(ask, self.endpoint, request), abandon_on_cancel=True)

    async def send(self, data: bytes) -> None:
        await self._stream.send_all(data)

    async def hang(self) -> None:
        """Say nothing more until the client goes."""
        self.over = True
        while await self._stream.receive_some(_PIECE):
            pass

    def reset(self) -> None:
        self.over = True
        self._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._stream.socket.close()

    @property
    def behind(self) -> bytes:
        return bytes(self._behind)


Wrong = Callable[[Exchange], Awaitable[None]]


@dataclass
class Rule:
    """From the *first* request of a verb whose target has *part* on, *count* requests go wrong; None: all."""

    wrong: Wrong
    verb: str
    part: str = ""
    first: int = 1
    count: int | None = 1
    seen: int = 0

    def matches(self, request: Request) -> bool:
        if request.verb != self.verb or self.part not in unquote(request.target):
            return False
        self.seen += 1
        return self.first <= self.seen and (self.count is None or self.seen < self.first + self.count)


@dataclass
class Proxy:
    """rules may be changed at any time; asked: requests by verb; done_to: how often each rule was applied."""

    endpoint: Endpoint
    rules: list[Rule] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    port: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    hit: Counter[str] = field(default_factory=Counter)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_until_hit(self, verb: str, count: int, timeout_s: float = 60.0) -> None:
        """So many requests of a verb have met a rule."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.hit[verb] >= count, timeout_s), dict(self.hit)

    async def serve(self, stream: trio.SocketStream) -> None:
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        behind = b""
        try:
            while True:
                head, behind = await _read_head(stream, behind)
                exchange = Exchange(_parse(head), stream, behind, self.endpoint)
                await self._answer(exchange)
                if exchange.over:
                    return
                behind = exchange.behind
        except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError):
            pass
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, exchange: Exchange) -> None:
        verb = exchange.request.verb
        with self.changed:
            self.asked[verb] += 1
            rule = next((each for each in self.rules if each.matches(exchange.request)), None)
            if rule is not None:
                self.hit[verb] += 1
                self.changed.notify_all()
        if rule is not None:
            await rule.wrong(exchange)
        else:
            await exchange.send((await exchange.forward()).raw)


@contextmanager
def proxy(endpoint: Endpoint) -> Iterator[Proxy]:
    """One in front of a service."""
    made = Proxy(endpoint)
    started, token, scope = threading.Event(), None, trio.CancelScope()

    async def main() -> None:
        nonlocal token
        token = trio.lowlevel.current_trio_token()
        with scope:
            async with trio.open_nursery() as nursery:
                listeners = await nursery.start(partial(trio.serve_tcp, made.serve, 0, host="127.0.0.1", backlog=1024))
                made.port = listeners[0].socket.getsockname()[1]
                started.set()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    try:
        assert started.wait(60.0)
        yield made
    finally:
        assert token is not None
        token.run_sync_soon(scope.cancel)
        thread.join()


def ask(endpoint: Endpoint, request: Request) -> Answer:
    """Have the service itself answer. Blocks."""
    connection = http.client.HTTPConnection("127.0.0.1", endpoint.port, timeout=_UPSTREAM_S)
    try:
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        for name, value in request.headers:
            if name.lower() not in ("expect", "connection"):
                connection.putheader(name, value)
        connection.endheaders(request.body or None)
        found = connection.getresponse()
        body = found.read()
        headers = [each for each in found.getheaders() if each[0].lower() not in ("connection", "transfer-encoding")]
        answer = Answer(found.status, found.reason, headers, body)
        return answer if request.method == "HEAD" else answer.with_header("Content-Length", str(len(body)))
    finally:
        connection.close()


def signed(endpoint: Endpoint, method: str, path: str, body: bytes = b"") -> Request:
    """A request of the tests' own, with the keys of the service. *path* is encoded."""
    head = endpoint.head(method, path, sha256=hashlib.sha256(body).hexdigest(), length=len(body))
    return replace(_parse(head.removesuffix(b"\r\n\r\n")), body=body)


async def _read_head(stream: trio.SocketStream, behind: bytes) -> tuple[bytes, bytes]:
    data = bytearray(behind)
    while (end := data.find(b"\r\n\r\n")) < 0:
        piece = await stream.receive_some(_PIECE)
        if not piece or len(data) > _HEAD_MAX:
            raise EOFError
        data += piece
    return bytes(data[:end]), bytes(data[end + 4 :])


def _parse(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = [line.split(":", 1) for line in lines]
    return Request(method, target, [(name, value.strip()) for name, value in pairs])
