"""What bytes on a socket are answered by: the same table on clear text and through TLS."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import trio

from gateway.http.source import Stream
from gateway.limits import CHUNK_HEADER_MAX, REQUEST_HEAD_MAX, REQUEST_HEADERS_MAX, TRAILERS_MAX
from gateway.serve import Tls, serve
from tests.gateway.http.echo import Answered, Echo, answers

HANG_S = 60
H = b"host: x\r\n"
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """name: what it is; sent; statuses of the answers; seen: bodies that the application got, in order; kept: whether
    the connection takes another request behind it."""

    name: str
    sent: bytes
    statuses: tuple[int, ...] = (400,)
    seen: tuple[bytes, ...] = ()
    kept: bool = False
    methods: str = ""


def get(rest: bytes, target: bytes = b"/k", version: bytes = b"1.1") -> bytes:
    return b"GET " + target + b" HTTP/" + version + b"\r\n" + rest + b"\r\n"


def put(headers: bytes, body: bytes = b"", target: bytes = b"/k", version: bytes = b"1.1") -> bytes:
    return b"PUT " + target + b" HTTP/" + version + b"\r\n" + H + headers + b"\r\n" + body


CHUNKED = b"transfer-encoding: chunked\r\n"
SOUND = [
    Case("a plain request", GET, (200,), (b"",), kept=True),
    Case("an empty line before it", b"\r\n" + GET, (200,), (b"",), kept=True),
    Case(
        "a head without a body has none in its answer", b"HEAD / HTTP/1.1\r\n" + H + b"\r\n", (200,), (b"",), True, "H"
    ),
    Case("a body of a length", put(b"content-length: 5\r\n", b"hello"), (200,), (b"hello",), kept=True),
    Case("an empty body", put(b"content-length: 0\r\n"), (200,), (b"",), kept=True),
    Case("blanks around a length", put(b"content-length: \t 5 \r\n", b"hello"), (200,), (b"hello",), kept=True),
    Case(
        "straight into memory",
        put(b"content-length: 9\r\n", b"hellohell", b"/into"),
        (200,),
        (b"hellohell",),
        kept=True,
    ),
    Case("chunks", put(CHUNKED, b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"), (200,), (b"hello",), kept=True),
    Case(
        "chunks into memory",
        put(CHUNKED, b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"/into"),
        (200,),
        (b"hello",),
        kept=True,
    ),
    Case("an extension of a chunk", put(CHUNKED, b"2;a=b\r\nhe\r\n0;c\r\n\r\n"), (200,), (b"he",), kept=True),
    Case("digits of both cases", put(CHUNKED, b"0A\r\n0123456789\r\n00\r\n\r\n"), (200,), (b"0123456789",), kept=True),
    Case("trailers", put(CHUNKED, b"2\r\nhe\r\n0\r\nx-amz-a: b\r\nhost: y\r\n\r\n"), (200,), (b"he",), kept=True),
    Case("no chunk but the last", put(CHUNKED, b"0\r\n\r\n"), (200,), (b"",), kept=True),
    Case("two requests at once", GET * 2, (200, 200), (b"", b""), kept=True),
    Case("fifty requests at once", GET * 50, (200,) * 50, (b"",) * 50, kept=True),
    Case("one behind a body", put(b"content-length: 2\r\n", b"he") + GET, (200, 200), (b"he", b""), kept=True),
    Case("one behind chunks", put(CHUNKED, b"1\r\nh\r\n0\r\n\r\n") + GET, (200, 200), (b"h", b""), kept=True),
    Case("one behind trailers", put(CHUNKED, b"0\r\na: b\r\n\r\n") + GET, (200, 200), (b"", b""), kept=True),
    Case("connection: close", get(H + b"connection: close\r\n") + GET, (200,), (b"",)),
    Case("HTTP/1.0", get(H, version=b"1.0") + GET, (200,), (b"",)),
    Case("HTTP/1.0 without a host", get(b"", version=b"1.0"), (200,), (b"",)),
    Case("HTTP/1.0 that would be kept", get(H + b"connection: keep-alive\r\n", version=b"1.0"), (200,), (b"",)),
    Case("a body that is not wanted", put(b"content-length: 5\r\n", b"hello", b"/unread") + GET, (200,), (b"",)),
    Case("chunks that are not wanted", put(CHUNKED, b"1\r\nh\r\n0\r\n\r\n", b"/unread") + GET, (200,), (b"",)),
    Case("who waits with a body", put(b"expect: 100-continue\r\ncontent-length: 0\r\n"), (200,), (b"",), kept=True),
    Case("who does not wait", put(b"expect: 100-continue\r\ncontent-length: 1\r\n", b"h"), (200,), (b"h",), kept=True),
    Case("a websocket", get(H + b"connection: upgrade\r\nupgrade: websocket\r\n") + GET, (200,), (b"",)),
    Case("an upgrade that is no proposal", get(H + b"upgrade: h2c\r\n"), (200,), (b"",), kept=True),
    Case("a query", get(H, b"/k?a=%20b&c"), (200,), (b"",), kept=True),
    Case("all of printable ASCII", get(H, b"/!\"$&'()*+,-./:;<=>?@[\\]^_`{|}~"), (200,), (b"",), kept=True),
    Case("bytes above ASCII in a value", get(H + b"x-amz-meta-a: \xc3\xbc\xff\r\n"), (200,), (b"",), kept=True),
    Case("an empty value", get(H + b"x:\r\n"), (200,), (b"",), kept=True),
    Case("a long head", get(H + b"x: " + b"y" * (REQUEST_HEAD_MAX - 200) + b"\r\n"), (200,), (b"",), kept=True),
    Case("many headers", get(H + b"a: b\r\n" * (REQUEST_HEADERS_MAX - 1)), (200,), (b"",), kept=True),
    Case("two headers of one name", get(H + b"x: 1\r\nx: 2\r\n"), (200,), (b"",), kept=True),
]
CUT = [
    Case("a chunk longer than it says", put(CHUNKED, b"1\r\nhe\r\n0\r\n\r\n"), (200,), (b"(cut)",)),
    Case("a chunk size that is none", put(CHUNKED, b"x\r\nh\r\n"), (200,), (b"(cut)",)),
    Case("a chunk size with a sign", put(CHUNKED, b"+1\r\nh\r\n0\r\n\r\n"), (200,), (b"(cut)",)),
    Case("a chunk size by a prefix", put(CHUNKED, b"0x1\r\nh\r\n0\r\n\r\n"), (200,), (b"(cut)",)),
    Case("a blank before a chunk size", put(CHUNKED, b" 1\r\nh\r\n0\r\n\r\n"), (200,), (b"(cut)",)),
    Case("a chunk size of seventeen digits", put(CHUNKED, b"f" * 17 + b"\r\nh\r\n"), (200,), (b"(cut)",)),
    Case("no chunk size", put(CHUNKED, b"\r\nh\r\n"), (200,), (b"(cut)",)),
    Case("bare LF behind a chunk size", put(CHUNKED, b"1\nh\r\n0\r\n\r\n"), (200,), (b"(cut)",)),
    Case("bare CR in a chunk's line", put(CHUNKED, b"1;\ra\r\nh\r\n0\r\n\r\n"), (200,), (b"(cut)",)),
    Case("bare LF behind a chunk", put(CHUNKED, b"1\r\nh\n0\r\n\r\n"), (200,), (b"(cut)",)),
    Case("a bad chunk into memory", put(CHUNKED, b"1\nh\r\n0\r\n\r\n", b"/into"), (200,), (b"(cut)",)),
    Case("a chunk's line without end", put(CHUNKED, b"1;" + b"a" * (CHUNK_HEADER_MAX + 9)), (200,), (b"(cut)",)),
    Case("a trailer that is none", put(CHUNKED, b"0\r\nGET / HTTP/1.1\r\n\r\n"), (200,), (b"(cut)",)),
    Case("a folded trailer", put(CHUNKED, b"0\r\na: b\r\n c\r\n\r\n"), (200,), (b"(cut)",)),
    Case("bare LF behind a trailer", put(CHUNKED, b"0\r\na: b\n\r\n"), (200,), (b"(cut)",)),
    Case("endless trailers", put(CHUNKED, b"0\r\n" + b"a: b\r\n" * TRAILERS_MAX), (200,), (b"(cut)",)),
]
REFUSED = [
    Case("both kinds of length", put(b"content-length: 1\r\n" + CHUNKED, b"0\r\n\r\n")),
    Case("both kinds of length, the other way", put(CHUNKED + b"content-length: 1\r\n", b"0\r\n\r\n")),
    Case("two lengths", put(b"content-length: 1\r\ncontent-length: 2\r\n", b"xx")),
    Case("two equal lengths", put(b"content-length: 1\r\ncontent-length: 1\r\n", b"x")),
    Case("a list of lengths", put(b"content-length: 1, 1\r\n", b"x")),
    Case("a length with a sign", put(b"content-length: +1\r\n", b"x")),
    Case("a negative length", put(b"content-length: -1\r\n")),
    Case("an empty length", put(b"content-length:\r\n")),
    Case("a length in another system", put(b"content-length: 0x1\r\n", b"x")),
    Case("a length above all", put(b"content-length: " + b"9" * 20 + b"\r\n")),
    Case("two authorizations", get(H + b"authorization: a\r\nauthorization: b\r\n")),
    Case("no host", get(b"")),
    Case("two hosts", get(H + b"Host: y\r\n")),
    Case("two equal hosts", get(H * 2)),
    Case("two hosts in HTTP/1.0", get(H * 2, version=b"1.0")),
    Case("bare LF", b"GET / HTTP/1.1\nhost: x\n\n"),
    Case("bare LF in one line", get(H + b"a: b\nc: d\r\n")),
    Case("bare CR in a value", get(H + b"a: b\rc: d\r\n")),
    Case("a folded header", get(H + b"a: b\r\n c\r\n")),
    Case("a header folded by a tab", get(H + b"a: b\r\n\tc\r\n")),
    Case("a folded line at first", get(b" " + H)),
    Case("a blank before the colon", get(b"host : x\r\n")),
    Case("a header without a colon", get(H + b"nothing\r\n")),
    Case("a header without a name", get(H + b": a\r\n")),
    Case("a name with a blank", get(H + b"a b: c\r\n")),
    Case("NUL in a value", get(H + b"a: b\0c\r\n")),
    Case("a control character in a value", get(H + b"a: b\x01c\r\n")),
    Case("NUL in a name", get(H + b"a\0: b\r\n")),
    Case("a whole URL", get(H, b"http://x/k")),
    Case("a whole URL of TLS", get(H, b"https://x/k")),
    Case("a host as target", b"CONNECT x:443 HTTP/1.1\r\n" + H + b"\r\n"),
    Case("an asterisk as target", b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n"),
    Case("a target without a slash", get(H, b"k")),
    Case("a fragment", get(H, b"/k#f")),
    Case("bytes above ASCII in the target", get(H, b"/\xc3\xbc")),
    Case("a blank in the target", get(H, b"/a b")),
    Case("a control character in the target", get(H, b"/a\x01")),
    Case("an escape without digits", get(H, b"/%zz")),
    Case("half an escape", get(H, b"/a%2")),
    Case("half an escape in the query", get(H, b"/a?b=%")),
    Case("an escaped NUL", get(H, b"/a%00b")),
    Case("an escaped NUL in the query", get(H, b"/a?prefix=%00")),
    Case("HTTP/0.9", b"GET /\r\n"),
    Case("HTTP/0.9 with an empty line", b"GET /\r\n\r\n"),
    Case("HTTP/2.0", get(H, version=b"2.0")),
    Case("HTTP/1.2", get(H, version=b"1.2")),
    Case("another protocol", b"GET / RTSP/1.0\r\n" + H + b"\r\n"),
    Case("a protocol in lowercase", b"GET / http/1.1\r\n" + H + b"\r\n"),
    Case("two blanks in the first line", b"GET  / HTTP/1.1\r\n" + H + b"\r\n"),
    Case("a blank behind the first line", b"GET / HTTP/1.1 \r\n" + H + b"\r\n"),
    Case("a method in lowercase", b"get / HTTP/1.1\r\n" + H + b"\r\n"),
    Case("a method that is none", b"FROBNICATE / HTTP/1.1\r\n" + H + b"\r\n"),
    Case("two empty lines before it", b"\r\n\r\n" + GET),
    Case("HTTP/2 without TLS", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Case(
        "an upgrade to HTTP/2",
        get(H + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n"),
    ),
    Case("the beginning of TLS", b"\x16\x03\x01\x02\x00\x01\x00nonsense\r\n\r\n"),
    Case("chunks in HTTP/1.0", put(CHUNKED, b"0\r\n\r\n", version=b"1.0")),
    Case("chunked twice", put(CHUNKED * 2, b"0\r\n\r\n")),
    Case("chunked and something", put(b"transfer-encoding: chunked, identity\r\n", b"0\r\n\r\n")),
    Case("identity", put(b"transfer-encoding: identity\r\n")),
    Case("a second coding", put(b"transfer-encoding: gzip, chunked\r\n", b"0\r\n\r\n"), (501,)),
    Case("a head without end", get(H + b"x: " + b"y" * REQUEST_HEAD_MAX)[:-4], (431,)),
    Case("a head that is too long", get(H + b"x: " + b"y" * REQUEST_HEAD_MAX + b"\r\n"), (431,)),
    Case("a target that is too long", get(H, b"/" + b"y" * REQUEST_HEAD_MAX), (431,)),
    Case("too many headers", get(H + b"a: b\r\n" * REQUEST_HEADERS_MAX), (431,)),
    Case("nonsense behind a sound one", GET + b"nonsense\r\n\r\n", (200, 400), (b"",)),
    Case("a refused one before a sound one", get(b"") + GET),
]
TABLE = [*SOUND, *CUT, *REFUSED]


@asynccontextmanager
async def serving(tls: Tls | None) -> AsyncIterator[tuple[Echo, int]]:
    echo, stop = Echo(), trio.Event()
    async with trio.open_nursery() as nursery:

        async def started(*, task_status: trio.TaskStatus[list[str]]) -> None:
            await serve(echo, ["127.0.0.1:0"], tls, stop.wait, task_status=task_status)

        [url] = await nursery.start(started)
        yield echo, int(url.rpartition(":")[2])
        stop.set()


async def connect(port: int, tls: Tls | None) -> Stream:
    tcp = await trio.open_tcp_stream("127.0.0.1", port)
    if tls is None:
        return tcp
    context = ssl.create_default_context(cafile=str(tls.certificate))
    return trio.SSLStream(tcp, context, server_hostname="localhost", https_compatible=True)


async def talk(stream: Stream, case: Case) -> tuple[list[Answered], bool]:
    """The answers to *case*, and whether the connection was kept: then it answered one more."""
    wanted, received = len(case.statuses), b""
    found: list[Answered] = []
    await stream.send_all(case.sent)
    while len(found) < wanted and (more := await stream.receive_some()):
        received += more
        found, _ = answers(received, case.methods)
    if not case.kept:
        while more := await stream.receive_some():
            received += more
        found, rest = answers(received, case.methods)
        assert not rest
        return found, False
    await stream.send_all(GET)
    while len(found) <= wanted and (more := await stream.receive_some()):
        received += more
        found, _ = answers(received, case.methods)
    return found[:wanted], len(found) == wanted + 1 and found[-1].status == 200


async def check(case: Case, echo: Echo, port: int, tls: Tls | None) -> str:
    """What is wrong."""
    echo.seen.clear()
    stream = await connect(port, tls)
    with trio.move_on_after(HANG_S) as waiting:
        found, kept = await talk(stream, case)
    await trio.aclose_forcefully(stream)
    if waiting.cancelled_caught:
        return f"{case.name}: it hangs"
    statuses = tuple(each.status for each in found)
    bodies = tuple(body for _, _, body in echo.seen[: len(echo.seen) - kept])
    if (statuses, bodies, kept) != (case.statuses, case.seen, case.kept):
        return f"{case.name}: {statuses}, {bodies!r}, {'kept' if kept else 'closed'}"
    if not case.kept and found[-1].headers.get("connection") != "close":
        return f"{case.name}: it does not say that it closes"
    return ""


async def test_the_table_on_clear_text() -> None:
    async with serving(None) as (echo, port):
        wrong = [await check(case, echo, port, None) for case in TABLE]
    assert not [text for text in wrong if text]


async def test_the_table_through_tls(tls: Tls) -> None:
    async with serving(tls) as (echo, port):
        wrong = [await check(case, echo, port, tls) for case in TABLE]
    assert not [text for text in wrong if text]


def test_the_table_is_long_and_names_each_case_once() -> None:
    assert len({case.name for case in TABLE}) == len(TABLE) >= 100


async def test_a_trailer_is_no_header() -> None:
    async with serving(None) as (echo, port):
        stream = await connect(port, None)
        async with stream:
            await stream.send_all(put(CHUNKED, b"1\r\nh\r\n0\r\nauthorization: a\r\nx-amz-meta-b: c\r\n\r\n") + GET)
            received = b""
            while len(answers(received)[0]) < 2:
                received += await stream.receive_some()
    assert echo.headers == [[(b"host", b"x"), (b"transfer-encoding", b"chunked")], [(b"host", b"x")]]


async def test_http_1_0_is_told_nothing_before_its_answer() -> None:
    """It would take that for the answer."""
    async with serving(None) as (_, port):
        for body in (b"", b"h"):
            stream = await connect(port, None)
            async with stream:
                length = b"expect: 100-continue\r\ncontent-length: %d\r\n" % len(body)
                await stream.send_all(put(length, body, version=b"1.0"))
                received = b""
                while more := await stream.receive_some():
                    received += more
            assert received.startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_does_not_wait_for_answers_leaves_others_their_turn() -> None:
    async with serving(None) as (echo, port):
        at_once = [0]

        async def watch() -> None:
            before = 0
            while True:
                at_once.append(len(echo.seen) - before)
                before = len(echo.seen)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            stream = await connect(port, None)
            async with stream:
                await stream.send_all(GET * 300)
                received = b""
                with trio.fail_after(HANG_S):
                    while len(answers(received)[0]) < 300:
                        received += await stream.receive_some()
            nursery.cancel_scope.cancel()
    assert len(echo.seen) == 300
    assert max(at_once) <= 2


@pytest.mark.parametrize("path", [b"/k", b"/into"])
async def test_a_client_that_ends_within_its_body_is_not_taken_for_one_that_sent_all(path: bytes) -> None:
    async with serving(None) as (echo, port):
        stream = await connect(port, None)
        async with stream:
            await stream.send_all(put(b"content-length: 5\r\n", b"hell", path))
            assert isinstance(stream, trio.SocketStream)
            await stream.send_eof()
            with trio.fail_after(HANG_S):
                while await stream.receive_some():
                    pass
    assert [body for _, _, body in echo.seen] == [b"(cut)"]
