"""What a client sends: the bytes of one connection, taken a head, a line or a piece at a time.

Nothing is read before somebody wants it, so that a client which sends more than its request waits in the kernel: of
requests that come before their turn a bounded number of bytes is held, and none is parsed.
"""

import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from gateway.http.head import RefusedError, check_beginning
from stratumfs.limits import RECEIVE_MAX, REQUEST_HEAD_MAX

_END = b"\r\n\r\n"
Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


def socket_of(stream: Stream) -> trio.socket.SocketType:
    return (stream.transport_stream if isinstance(stream, trio.SSLStream) else stream).socket


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

    __slots__ = ("_held", "_receive_into", "_stream")

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._held = b""
        # TLS has its own buffer between: there it is a copy more.
        self._receive_into: Callable[[memoryview], Awaitable[int]] | None = (
            stream.socket.recv_into if isinstance(stream, trio.SocketStream) else None
        )

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
        held = bytearray(self._held)
        self._held = b""
        while True:
            searched = max(0, len(held) - 3)
            check_beginning(held[:REQUEST_HEAD_MAX])
            if len(held) >= REQUEST_HEAD_MAX:
                raise RefusedError(f"The head is longer than {REQUEST_HEAD_MAX} bytes.", 431)
            data = await self._receive(RECEIVE_MAX)
            if not data:
                return -1
            held += data
            end = held.find(_END, searched, REQUEST_HEAD_MAX)
            if end >= 0:
                self._held = bytes(held)
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
        if self._held or self._receive_into is None:
            data = await self.some(len(view))
            view[: len(data)] = data
            return len(data)
        try:
            return await self._receive_into(view)
        except (OSError, trio.ClosedResourceError):
            return 0

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
            return bytes(await self._stream.receive_some(limit))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""
