"""Load that costs little to make: raw sockets, requests that were signed before, one epoll loop or blocking threads.

Small requests: some 25 µs each, on one core. Large bodies are sent from the page cache and received without a copy.
"""

import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPResponse
from pathlib import Path

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding: *chunked")
_PIECE = 256 * 1024
_WAIT_S = 120.0


class WrongAnswer(Exception):
    """A server that does not do what is measured: then nothing is."""


@dataclass(frozen=True)
class Load:
    """seconds: from the first request to the last answer; busy_s: processor time of this process meanwhile."""

    seconds: float
    busy_s: float
    cpu_s: float
    """Of the server."""


Cpu = Callable[[], float]
"""Processor seconds that a server has used until now."""


@contextmanager
def clocked(cpu: Cpu, found: list[Load]) -> Iterator[None]:
    """Adds how long the block took to *found*."""
    used, busy, began = cpu(), time.process_time(), time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    found.append(Load(seconds, time.process_time() - busy, cpu() - used))


Check = Callable[[int, bytes], bool]
"""(index of the request, body of the answer): whether it is right."""


def drive(port: int, requests: Sequence[bytes], connections: int, check: Check, cpu: Cpu = float) -> Load:
    """Send all *requests*, one at a time on each of so many connections. Raises: WrongAnswer, OSError."""
    lanes: dict[int, _Lane] = {}
    ahead = iter(enumerate(requests))
    found: list[Load] = []
    with select.epoll() as epoll:
        try:
            for _ in range(min(connections, len(requests))):
                lane = _Lane(port)
                lanes[lane.fileno] = lane
                epoll.register(lane.fileno, select.EPOLLIN)
            with clocked(cpu, found):
                for lane in lanes.values():
                    lane.begin(*next(ahead))
                _answers(epoll, lanes, ahead, len(requests), check)
        finally:
            for lane in lanes.values():
                lane.close()
    return found[0]


def _answers(
    epoll: select.epoll, lanes: dict[int, "_Lane"], ahead: Iterator[tuple[int, bytes]], left: int, check: Check
) -> None:
    while left:
        ready = epoll.poll(_WAIT_S)
        if not ready:
            raise WrongAnswer(f"no answer for {_WAIT_S:.0f} s")
        for fileno, _ in ready:
            lane = lanes[fileno]
            body = lane.receive()
            if body is None:
                continue
            if not check(lane.index, body):
                raise WrongAnswer(f"another body than was put: {body[:200]!r}")
            left -= 1
            if (following := next(ahead, None)) is not None:
                lane.begin(*following)


class _Lane:
    """One connection with at most one request under way."""

    def __init__(self, port: int) -> None:
        self._socket = _connected(port)
        self._socket.setblocking(False)
        self.fileno = self._socket.fileno()
        self.index = -1
        self._buffer = b""

    def begin(self, index: int, request: bytes) -> None:
        self.index = index
        if self._socket.send(request) != len(request):
            raise WrongAnswer("a request that does not fit into a socket's buffer")

    def receive(self) -> bytes | None:
        """The body of the answer if all of it is there."""
        data = self._socket.recv(_PIECE)
        if not data:
            raise WrongAnswer("the connection was closed")
        self._buffer = data = self._buffer + data if self._buffer else data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return None
        if data[9:10] != b"2":
            raise WrongAnswer(data[:1000].decode("latin-1"))
        head, body = data[:end], data[end + 4 :]
        if (length := _LENGTH.search(head)) is not None:
            if len(body) < int(length[1]):
                return None
        elif _CHUNKED.search(head) is not None:
            if not body.endswith(b"\r\n0\r\n\r\n"):
                return None
            body = _unchunked(body)
        self._buffer = b""
        return body

    def close(self) -> None:
        self._socket.close()


def _unchunked(body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while True:
        line = body.index(b"\r\n", at)
        size = int(body[at:line], 16)
        if not size:
            return b"".join(parts)
        parts.append(body[line + 2 : line + 2 + size])
        at = line + 2 + size + 2


def _connected(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), timeout=_WAIT_S)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made


def upload(port: int, heads: Sequence[bytes], body: Path, at_once: int, cpu: Cpu = float) -> Load:
    """One request for each head, all with the bytes of a file. Raises: WrongAnswer, OSError."""

    def send(sock: socket.socket, head: bytes) -> None:
        with body.open("rb") as source:
            sock.sendall(head)
            sock.sendfile(source)
        received = b""
        while b"\r\n\r\n" not in received:
            received += _some(sock)
        _check_ok(received)

    return _at_once(port, heads, at_once, cpu, send)


def download(port: int, heads: Sequence[bytes], size: int, at_once: int, cpu: Cpu = float) -> Load:
    """One answer of *size* bytes for each head; they are counted and dropped. Raises: WrongAnswer, OSError."""

    def fetch(sock: socket.socket, head: bytes) -> None:
        sock.sendall(head)
        received = b""
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += _some(sock)
        _check_ok(received)
        left = size - (len(received) - end - 4)
        room = bytearray(1 << 20)
        while left:
            # MSG_TRUNC: tcp(7) drops what it has instead of copying it.
            count = sock.recv_into(room, min(left, len(room)), socket.MSG_TRUNC)
            if not count:
                raise WrongAnswer(f"an answer that is {left} bytes short")
            left -= count

    return _at_once(port, heads, at_once, cpu, fetch)


def fetched(port: int, head: bytes) -> bytes:
    """The body of one answer."""
    with closing(_connected(port)) as sock:
        sock.sendall(head)
        answer = HTTPResponse(sock)
        answer.begin()
        if answer.status != HTTPStatus.OK:
            raise WrongAnswer(f"{answer.status} {answer.reason}")
        return answer.read()


def _some(sock: socket.socket) -> bytes:
    data = sock.recv(64 * 1024)
    if not data:
        raise WrongAnswer("the connection was closed")
    return data


def _check_ok(received: bytes) -> None:
    if received[9:10] != b"2":
        raise WrongAnswer(received[:1000].decode("latin-1"))


def _at_once(
    port: int, heads: Sequence[bytes], at_once: int, cpu: Cpu, call: Callable[[socket.socket, bytes], None]
) -> Load:
    """Threads: they wait in the kernel, which does all the work."""
    failures: list[Exception] = []

    def run(sock: socket.socket, mine: Sequence[bytes]) -> None:
        try:
            for head in mine:
                call(sock, head)
        except Exception as error:
            failures.append(error)

    sockets = [_connected(port) for _ in range(at_once)]
    threads = [threading.Thread(target=run, args=(sock, heads[lane::at_once])) for lane, sock in enumerate(sockets)]
    found: list[Load] = []
    with clocked(cpu, found):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for sock in sockets:
        sock.close()
    if failures:
        raise failures[0]
    return found[0]
