"""Any bytes, in any pieces: the connection gives the same result however they are cut, and falls over none of them."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.http.connection import Connection
from gateway.http.exchange import Place
from gateway.http.head import Head, RefusedError, check_beginning, parse_head
from gateway.http.waiting import Waiting
from tests.gateway.http.echo import Echo, undated
from tests.gateway.http.test_table import TABLE

PLACE = Place(("127.0.0.1", 1), ("127.0.0.1", 2), "http", {})
_REASON = re.compile(rb"(HTTP/1\.1 [45]\d\d [^\r]*\r\ncontent-type: text/plain)[^\x00]*", re.DOTALL)


class Scripted:
    """A stream that brings *pieces*, and then the end."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]
        self.sent = bytearray()

    async def receive_some(self, limit: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self.pieces:
            return b""
        piece, rest = self.pieces[0][:limit], self.pieces[0][limit:]
        self.pieces[:1] = [rest] if rest else []
        return piece

    async def send_all(self, data: Any) -> None:
        await trio.lowlevel.checkpoint()
        self.sent += data

    async def send_eof(self) -> None:
        await trio.lowlevel.checkpoint()


def result(pieces: Iterable[bytes]) -> tuple[list[tuple[str, bytes, bytes]], list[Any], bytes]:
    """What the application got, and what the client got but for dates, the reason of a refusal, and being told to go
    on, which depends on whether the body had come."""
    stream, echo = Scripted(pieces), Echo()
    waiting = Waiting()
    trio.run(Connection(echo, cast(Any, stream), PLACE, waiting).run)
    sent = undated(bytes(stream.sent)).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return echo.seen, echo.headers, _REASON.sub(rb"\1", sent)


def cut(data: bytes, at: Sequence[int]) -> list[bytes]:
    places = sorted({position % (len(data) + 1) for position in at})
    return [data[start:stop] for start, stop in zip([0, *places], [*places, len(data)], strict=True)]


FRAGMENTS = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n", b"PUT /into HTTP/1.1\r\n", b"PUT /unread HTTP/1.1\r\n", b"HEAD /%20?a HTTP/1.0\r\n",
        b"host: x\r\n", b"content-length: 3\r\n", b"content-length: 0\r\n", b"transfer-encoding: chunked\r\n",
        b"expect: 100-continue\r\n", b"connection: close\r\n", b"upgrade: h2c\r\nconnection: upgrade\r\n", b"a: b\r\n",
        b"\r\n", b"\n", b"\r", b" ", b"abc", b"3\r\nabc\r\n", b"1\r\n", b"0\r\n\r\n", b"0\r\na: b\r\n\r\n", b"\0",
        b"\xff",
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PUT /k HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc",
        b"PUT /into HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nt: r\r\n\r\n",
    ]
)  # fmt: skip
CASES = st.sampled_from([case.sent for case in TABLE if len(case.sent) < 2000])
STREAMS = st.lists(FRAGMENTS | CASES | st.binary(max_size=8), max_size=12).map(b"".join)


@settings(max_examples=150, deadline=None)
@given(STREAMS, st.lists(st.integers(0, 4000), max_size=12))
@example(b"\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n", [1, 2, 30])
@example(b"PUT / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\nexpect: 100-continue\r\n\r\nabc", [65])
def test_any_split_of_the_bytes_gives_the_same_result(data: bytes, at: list[int]) -> None:
    assert result(cut(data, at)) == result([data])


def test_every_case_byte_by_byte_is_the_case_at_once() -> None:
    for case in TABLE:
        if len(case.sent) < 500:
            assert result(cut(case.sent, range(len(case.sent)))) == result([case.sent]), case.name


HEADS = st.lists(FRAGMENTS | st.binary(max_size=20), max_size=10).map(lambda parts: b"".join(parts) + b"\r\n\r\n")


@settings(max_examples=300, deadline=None)
@given(HEADS)
def test_a_head_is_sound_or_refused(data: bytes) -> None:
    block = data[: data.index(b"\r\n\r\n") + 4]
    try:
        head = parse_head(block)
    except RefusedError:
        return
    check_beginning(block)
    assert_sound(head, block)


def assert_sound(head: Head, block: bytes) -> None:
    """What the application may rely on, said in another way than the parser does."""
    lines = block.removeprefix(b"\r\n").split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    assert lines[0] == f"{head.method} ".encode() + head.target + f" HTTP/{head.version}".encode()
    assert len(head.headers) == len(lines) - 3
    for line, (name, value) in zip(lines[1:-2], head.headers, strict=True):
        assert line.split(b":", 1)[0].lower() == name
        assert line.split(b":", 1)[1].strip(b" \t") == value
    names = [name for name, _ in head.headers]
    assert all(names.count(name) <= 1 for name in (b"host", b"authorization", b"content-length", b"transfer-encoding"))
    assert (head.length is None) == (b"transfer-encoding" in names)
    assert not (b"transfer-encoding" in names and b"content-length" in names)
    assert head.target.startswith(b"/")
    assert not re.search(rb"[^!-~]|#|%(?![0-9A-Fa-f]{2})|%00", head.target)
