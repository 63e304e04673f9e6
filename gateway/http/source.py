"""What a client sends: the bytes of one connection, taken a head, a line or a piece at a time.

Nothing is read before somebody wants it, so that a client which sends more than its request waits in the kernel: of
requests that come before their turn a bounded number of bytes is held, and none is parsed.
"""

import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress

import trio

from gateway.http.head import RefusedError, check_beginning
from gateway.limits import RECEIVE_MAX, REQUEST_HEAD_MAX

_END = b"\r\n\r\n"
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


def transport_of(stream: Stream) -> trio.SocketStream:
    return stream.transport_stream if isinstance(stream, trio.SSLStream) else stream


def socket_of(stream: Stream) -> trio.socket.SocketType:
    return transport_of(stream).socket


def send_nowait(stream: Stream, pieces: Sequence[bytes | bytearray | memoryview]) -> int:
    """How many bytes the kernel takes at once: of a small answer all, and then the task need not be scheduled anew.

    Raises: trio.BrokenResourceError, trio.ClosedResourceError.
    """
    if not isinstance(stream, trio.SocketStream):
        return 0
    number = stream.socket.fileno()
    if number < 0:
        raise trio.ClosedResourceError
    try:
        return os.writev(number, pieces)
    except BlockingIOError:
        return 0
    except OSError as error:
        raise trio.BrokenResourceError from error


def close(stream: Stream) -> None:
    """At once, and whoever sends or receives on it."""
    socket_of(stream).close()


def reset(stream: Stream) -> None:
    """Close it so that the client hears of an error, and not of an end."""
    with suppress(OSError):
        socket_of(stream).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    close(stream)


class Source:
    """Of the connection's task; while it sends, one other may ``wait_ended``. A client that is gone sends no more."""

    __slots__ = ("_held", "_socket", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._held = b""
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None

    @property
    def holding(self) -> bool:
        """Whether there are bytes that were received and not taken."""
        return bool(self._held)

    async def head(self) -> bytes:
        """The next bytes up to an empty line, with it; b"" if the client ends first. Raises: RefusedError."""
        end = self._held.find(_END, 0, REQUEST_HEAD_MAX)
        if end < 0:
            end = await self._fill_head()
            if end < 0:
                return b""
        block, self._held = self._held[: end + 4], self._held[end + 4 :]
        return block

    async def _fill_head(self) -> int:
        """Receive until there is a head. Where it ends; -1 if the client ends first. Raises: RefusedError."""
        held, self._held = self._held, b""
        while True:
            check_beginning(held[:REQUEST_HEAD_MAX])
            if len(held) >= REQUEST_HEAD_MAX:
                raise RefusedError(f"The head is longer than {REQUEST_HEAD_MAX} bytes.", 431)
            data = await self._receive(RECEIVE_MAX)
            if not data:
                return -1
            searched = max(0, len(held) - 3)
            held = held + data if held else data
            end = held.find(_END, searched, REQUEST_HEAD_MAX)
            if end >= 0:
                self._held = held
                return end

    async def line(self, limit: int) -> bytes:
        """The next line, without its CR LF; up to *limit* bytes. Raises: RefusedError; EOFError."""
        while (end := self._held.find(b"\n", 0, limit + 2)) < 0:
            if len(self._held) >= limit + 2:
                raise RefusedError("A line is too long.")
            data = await self._receive(RECEIVE_MAX)
            if not data:
                raise EOFError
            self._held += data
        line, self._held = self._held[: end + 1], self._held[end + 1 :]
        if not line.endswith(b"\r\n") or b"\r" in line[:-2]:
            raise RefusedError("A line does not end in CR LF.")
        return line[:-2]

    async def some(self, limit: int) -> bytes:
        """Up to *limit* bytes, as they are there; b"" if the client has ended."""
        if self._held:
            data, self._held = self._held[:limit], self._held[limit:]
            return data
        return await self._receive(limit)

    async def into(self, view: memoryview) -> int:
        """As ``some``, into the caller's memory: how many bytes."""
        if self._held:
            return self.held_into(view)
        if self._socket is None:  # TLS has its own buffer between: there it is a copy more
            data = await self._receive(len(view))
            view[: len(data)] = data
            return len(data)
        try:
            return await self._socket.recv_into(view)
        except (OSError, trio.ClosedResourceError):
            return 0

    def held_into(self, view: memoryview) -> int:
        """As ``into``, of what has come by now."""
        data, self._held = self._held[: len(view)], self._held[len(view) :]
        view[: len(data)] = data
        return len(data)

    async def wait_ended(self) -> None:
        """Return when the client is gone. What it sends meanwhile is kept; who sends much is not looked at further."""
        while len(self._held) < REQUEST_HEAD_MAX:
            data = await self._receive(RECEIVE_MAX)
            if not data:
                return
            self._held += data
        await trio.sleep_forever()

    async def _receive(self, limit: int) -> bytes:
        try:
            if self._socket is None:
                return bytes(await self._stream.receive_some(limit))
            return await _received(self._socket, limit)
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            return b""


async def _received(sock: trio.socket.SocketType, limit: int) -> bytes:
    """As ``receive_some``, but it waits before it tries: what comes next has mostly not come yet."""
    while (number := sock.fileno()) >= 0:
        await trio.lowlevel.wait_readable(number)
        if sock.fileno() != number:
            break  # closed in this very moment: the number may be another one's by now
        try:
            return os.read(number, limit)
        except BlockingIOError:
            continue
    raise trio.ClosedResourceError
