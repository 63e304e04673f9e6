"""What is sent without a turn of the scheduler."""

import socket

import pytest
import trio

from gateway.http.source import send_nowait

DATA = bytes(range(256)) * 4096


def pair() -> tuple[trio.SocketStream, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    return trio.SocketStream(trio.socket.from_stdlib_socket(ours)), theirs


async def test_the_kernel_takes_what_it_has_room_for() -> None:
    stream, theirs = pair()
    async with stream:
        assert send_nowait(stream, [b"all ", b"of it"]) == 9
        sent = send_nowait(stream, [DATA])
        assert 0 < sent < len(DATA)
        while more := send_nowait(stream, [DATA]):
            sent += more
        with theirs:
            received = b""
            while len(received) < 9 + sent:
                received += theirs.recv(1 << 20)
            assert received.startswith(b"all of it" + DATA[:100])


async def test_a_client_that_is_gone_and_a_stream_that_is_closed_are_told_as_trio_tells() -> None:
    stream, theirs = pair()
    theirs.close()
    with pytest.raises(trio.BrokenResourceError):
        send_nowait(stream, [b"x"])
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        send_nowait(stream, [b"x"])
