"""One request towards its application: what ASGI promises it, and what it must not get away with."""

from typing import Any, cast

import pytest
import trio

from gateway.asgi import Receive, Scope, Send
from gateway.http.connection import Connection
from gateway.http.waiting import Waiting
from tests.gateway.http.echo import undated
from tests.gateway.http.test_fuzz import PLACE, Scripted

GET = b"GET /a%20b?c=%64 HTTP/1.1\r\nhost: x\r\n\r\n"
START = {"type": "http.response.start", "status": 200, "headers": []}


async def talk(app: Any, *pieces: bytes) -> bytes:
    stream = Scripted(pieces)
    await Connection(app, cast(Any, stream), PLACE, Waiting()).run()
    return undated(bytes(stream.sent))


async def test_a_body_that_was_cut_stays_cut() -> None:
    """What comes behind a broken chunk looks like chunks again, and is none of the body."""
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            seen.append((await receive())["type"])
        with pytest.raises(EOFError):
            await scope["extensions"]["stratum.receive_into"](memoryview(bytearray(9)))
        await send(START)
        await send({"type": "http.response.body", "body": b"no"})

    put = b"PUT / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nx\r\n\r\n1\r\na\r\n0\r\n\r\n"
    assert b"connection: close" in await talk(app, put + GET)
    assert seen == ["http.disconnect"] * 3


async def test_a_scope_says_path_and_query_as_sent() -> None:
    scopes: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        assert await receive() == {"type": "http.disconnect"}
        await send(START)
        await send({"type": "http.response.body", "body": b"x"})
        assert await receive() == {"type": "http.disconnect"}

    await talk(app, GET)
    [scope] = scopes
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"c=%64")
    assert (scope["client"], scope["server"], scope["scheme"]) == (("127.0.0.1", 1), ("127.0.0.1", 2), "http")


async def answer(*messages: Any, request: bytes = GET) -> bytes:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return await talk(app, request)


async def test_a_body_of_unknown_length_is_sent_in_chunks() -> None:
    body = {"type": "http.response.body", "body": b"hello", "more_body": True}
    empty = {"type": "http.response.body"}
    sent = await answer(START, body, body | {"body": b""}, body, empty)
    assert sent == b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n"
    sent = await answer(START, body, empty, request=GET.replace(b"/1.1", b"/1.0"))
    assert sent == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nhello"
    sent = await answer(START, body, empty, request=GET.replace(b"GET", b"HEAD"))
    assert sent == b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize(
    "header", [(b"a", b"b\r\nc: d"), (b"a\nb", b"c"), (b"a", b"b\rc"), (b"a", b"b\0c"), (b"content-length", b"x")]
)
async def test_a_header_cannot_become_two(header: tuple[bytes, bytes], capsys: pytest.CaptureFixture[str]) -> None:
    sent = await answer({**START, "headers": [header]}, {"type": "http.response.body", "body": b"x"})
    assert sent.startswith(b"HTTP/1.1 500 ")
    assert b"b" not in sent.partition(b"\r\n")[2].partition(b"content-type")[0]
    assert "request failed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (START,),
        ({"type": "http.response.body", "body": b"x"},),
        (START, START),
        ({**START, "headers": [(b"content-length", b"2")]}, {"type": "http.response.body", "body": b"x"}),
        ({**START, "headers": [(b"content-length", b"2")]}, {"type": "http.response.body", "body": b"xxx"}),
    ],
)
async def test_an_application_that_breaks_its_word_before_an_answer_is_500(
    messages: tuple[Any, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (await answer(*messages)).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")


async def test_a_large_answer_goes_out_as_it_is() -> None:
    body = memoryview(bytes(1 << 20))
    sent = await answer({**START, "headers": [(b"content-length", b"%d" % len(body))]},
                        {"type": "http.response.body", "body": body})  # fmt: skip
    assert sent == b"HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n" + body


async def test_a_send_to_a_client_that_is_gone_is_an_os_error() -> None:
    class Gone(Scripted):
        async def send_all(self, data: Any) -> None:
            raise trio.BrokenResourceError

    failures = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        try:
            await send({"type": "http.response.body", "body": b"x"})
        except OSError as error:
            failures.append(error)

    await Connection(app, cast(Any, Gone([GET, GET])), PLACE, Waiting()).run()
    assert len(failures) == 1
