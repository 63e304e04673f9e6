"""The door over raw sockets: what HTTP demands of answers, and what malformed requests get."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio
from lxml import etree

from gateway.app import Door, Readiness, make_app, new_ids
from gateway.auth.gate import Gate
from gateway.auth.principal import Authenticated
from gateway.limits import REQUEST_HEAD_MAX
from gateway.request import Request
from gateway.response import Buffer, Responder, Response
from stratumfs.errors import StoreReadOnly
from tests.gateway.memory import ACCESS_KEY, SECRET, Credentials, Running, running
from tests.gateway.requests import scope, signed


@pytest.fixture
async def gateway() -> AsyncIterator[Running]:
    async with running() as found:
        yield found


async def exchange(gateway: Running, data: bytes, answers: int = 1) -> bytes:
    """Send *data*, and read so many answers, or to the end of the connection."""
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
    async with stream:
        await stream.send_all(data)
        received = b""
        while _count(received, data.startswith(b"HEAD")) < answers and (more := await stream.receive_some()):
            received += more
        return received


def _count(received: bytes, head_only: bool) -> int:
    """How many whole answers these are."""
    count = 0
    while b"\r\n\r\n" in received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = 0 if head_only else int(headers_of(head).get("content-length", "0"))
        if len(rest) < length:
            break
        received = rest[length:]
        count += 1
    return count


def lines(gateway: Running, method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A request signed as a client would."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    found = signed(method, gateway.url + path, sent, ACCESS_KEY, SECRET, body=body)
    head = [f"{method} {path} HTTP/1.1".encode()]
    head += [name + b": " + value for name, value in found.raw_headers if name != b"content-length"]
    if body:
        head.append(b"content-length: %d" % len(body))
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def headers_of(answer: bytes) -> dict[str, str]:
    head = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return {name.lower(): value for name, _, value in (line.partition(": ") for line in head)}


async def test_head_and_its_errors_have_no_body(gateway: Running) -> None:
    gateway.service.buckets["b"] = {}
    await exchange(gateway, lines(gateway, "PUT", "/b/k", b"hello"))
    answer = await exchange(gateway, lines(gateway, "HEAD", "/b/k"))
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"\r\n\r\n")
    assert headers_of(answer)["content-length"] == "5"
    answer = await exchange(gateway, lines(gateway, "HEAD", "/b/missing"))
    assert answer.startswith(b"HTTP/1.1 404")
    assert answer.endswith(b"\r\n\r\n")


async def test_204_has_neither_body_nor_length(gateway: Running) -> None:
    gateway.service.buckets["b"] = {}
    answer = await exchange(gateway, lines(gateway, "DELETE", "/b/k"))
    assert answer.startswith(b"HTTP/1.1 204")
    assert "content-length" not in headers_of(answer)


async def test_every_answer_has_ids_of_its_own(gateway: Running) -> None:
    data = lines(gateway, "GET", "/") * 2 + b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = (await exchange(gateway, data, 3)).decode()
    assert len(set(re.findall(r"x-amz-request-id: ([0-9A-F]{16})\r", answer))) == 3
    assert len(set(re.findall(r"x-amz-id-2: (\S{64})\r", answer))) == 1  # of the process
    assert len({new_ids() for _ in range(1000)}) == 1000


async def test_an_error_names_the_request(gateway: Running) -> None:
    answer = await exchange(gateway, b"GET /b/k%20x HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403")
    root = etree.fromstring(answer.partition(b"\r\n\r\n")[2])
    headers = headers_of(answer)
    assert headers["content-type"] == "application/xml"
    assert root.findtext("Code") == "AccessDenied"
    assert root.findtext("Resource") == "/b/k%20x"
    assert root.findtext("Key") == "k x"
    assert (root.findtext("RequestId"), root.findtext("HostId")) == (headers["x-amz-request-id"], headers["x-amz-id-2"])


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET http://other/b HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /b/%zz HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /b/\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /b/k#f HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxx",
        b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"PUT /b/k HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nauthorization: a\r\nauthorization: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * (2 * REQUEST_HEAD_MAX),
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 300 + b"\r\n",
        b"\x16\x03\x01\x02\x00nonsense\r\n\r\n",
        b"GET /\r\n\r\n",
    ],
)
async def test_malformed_requests_are_refused_and_hurt_nobody(gateway: Running, data: bytes) -> None:
    answer = await exchange(gateway, data)
    assert re.match(rb"HTTP/1\.1 (4\d\d|501) ", answer)
    assert not gateway.service.seen
    assert (await exchange(gateway, lines(gateway, "GET", "/"))).startswith(b"HTTP/1.1 200")
    assert gateway.door.statistics().unexpected_errors == 0


async def test_a_refused_upload_can_read_its_answer(gateway: Running) -> None:
    """The body was sent already: the answer must not be lost to a reset."""
    data = lines(gateway, "PUT", "/missing/k", b"x" * 200_000)
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
    async with stream:
        await stream.send_all(data)
        answer = await stream.receive_some()
    assert answer.startswith(b"HTTP/1.1 404")


async def test_health_answers_without_a_signature_and_tells_the_truth() -> None:
    state = Readiness(True)
    async with running(readiness=lambda: state) as gateway:
        get = b"GET /stratum/health/%b HTTP/1.1\r\nhost: x\r\n\r\n"
        assert b"200" in (await exchange(gateway, get % b"live"))[:15]
        assert b"200" in (await exchange(gateway, get % b"ready"))[:15]
        state = Readiness(False, "device 3 is missing")
        answer = await exchange(gateway, get % b"ready")
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"device 3 is missing" in answer
        assert b"200" in (await exchange(gateway, get % b"live"))[:15]


async def test_a_bucket_named_like_the_house_is_a_bucket(gateway: Running) -> None:
    gateway.service.buckets["stratum"] = {}
    await exchange(gateway, lines(gateway, "PUT", "/stratum/health/live", b"an object"))
    assert (await exchange(gateway, lines(gateway, "GET", "/stratum/health/live"))).endswith(b"an object")


async def test_a_bucket_in_the_host() -> None:
    async with running(domains=("localhost",)) as gateway:
        gateway.service.buckets["b"] = {}
        url = f"http://b.localhost:{gateway.port}"
        for method, body in (("PUT", b"hello"), ("GET", b"")):
            found = signed(method, url + "/k", {}, ACCESS_KEY, SECRET, body=body)
            head = b"\r\n".join(
                [f"{method} /k HTTP/1.1".encode(), b"content-length: %d" % len(body)]
                + [name + b": " + value for name, value in found.raw_headers if name != b"content-length"]
            )
            answer = await exchange(gateway, head + b"\r\n\r\n" + body)
        assert answer.endswith(b"hello")


# Services that misbehave


class Service:
    def __init__(self, *steps: Any) -> None:
        self._steps = steps

    async def handle(self, request: Request, caller: Authenticated, send: Responder) -> None:
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            await send(step)


def door(*steps: Any) -> Door:
    return make_app(Service(*steps), Gate(Credentials()), readiness=lambda: Readiness(True))


async def call(app: Door, method: str = "GET") -> list[dict[str, Any]]:
    """What *app* sends for a signed request, without a server."""
    found = signed(method, "http://s3.test/b/k", {}, ACCESS_KEY, SECRET)
    headers = [(name.decode(), value.decode()) for name, value in found.raw_headers]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if any(message["type"] == "received" for message in sent):
            await trio.sleep_forever()
        sent.append({"type": "received"})
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    await app(scope(method, "/b/k", headers), receive, send)
    return [message for message in sent if message["type"] != "received"]


async def chunks(*pieces: bytes | Exception) -> AsyncIterator[Buffer]:
    for piece in pieces:
        if isinstance(piece, Exception):
            raise piece
        yield piece


async def test_a_bug_is_500_logged_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    app = door(ValueError("secret detail"))
    start, body = await call(app)
    assert start["status"] == 500
    assert b"InternalError" in body["body"]
    assert b"secret" not in body["body"]
    assert app.statistics().unexpected_errors == 1
    assert app.statistics().requests == {("GetObject", 500): 1}
    assert "secret detail" in capsys.readouterr().out


async def test_a_handler_that_does_not_answer_is_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    start, _ = await call(door())
    assert start["status"] == 500


async def test_an_error_of_the_store_is_told() -> None:
    app = door(StoreReadOnly("device 3 failed"))
    start, body = await call(app)
    assert start["status"] == 503
    assert b"device 3 failed" in body["body"]
    assert app.statistics().unexpected_errors == 0


@pytest.mark.parametrize(
    ("pieces", "unexpected"),
    [((b"12", StoreReadOnly("gone")), 0), ((b"12",), 1), ((b"12", b"345"), 1)],
)
async def test_an_answer_that_fails_midway_is_broken_off(
    pieces: tuple[Any, ...], unexpected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    app = door(Response(200, {}, chunks(*pieces), 4))
    sent = await call(app)
    assert sent[0]["status"] == 200
    assert all(message.get("more_body") for message in sent[1:])
    assert app.statistics().unexpected_errors == unexpected


async def test_a_stream_of_unknown_length_is_sent() -> None:
    sent = await call(door(Response(200, {}, chunks(b"12", b"34"))))
    assert b"content-length" not in dict(sent[0]["headers"])
    assert b"".join(message["body"] for message in sent[1:]) == b"1234"
    assert not sent[-1].get("more_body")


async def test_304_repeats_headers_and_has_no_body() -> None:
    start, body = await call(door(Response(304, {"etag": '"e"'}, b"never", 5)))
    headers = dict(start["headers"])
    assert headers[b"etag"] == b'"e"'
    assert b"content-length" not in headers
    assert body["body"] == b""


async def test_a_client_that_goes_away_stops_its_download(gateway: Running) -> None:
    gateway.service.buckets["b"] = {}
    await exchange(gateway, lines(gateway, "PUT", "/b/k", b"x" * 3_000_000))
    gateway.service.hold = True
    stream = await trio.open_tcp_stream("127.0.0.1", gateway.port)
    await stream.send_all(lines(gateway, "GET", "/b/k"))
    left = 1 << 20
    while left > 0:
        left -= len(await stream.receive_some())
    await gateway.service.entered.wait()
    assert gateway.door.statistics().in_flight == 1
    await stream.aclose()
    with trio.fail_after(60):
        while gateway.door.statistics().in_flight:
            await trio.lowlevel.checkpoint()
    assert gateway.door.statistics().connections_lost == 1


async def test_a_websocket_is_refused(gateway: Running) -> None:
    answer = await exchange(
        gateway,
        b"GET /b HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
    )
    assert answer.startswith(b"HTTP/1.1 403")
