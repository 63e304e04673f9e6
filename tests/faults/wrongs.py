"""Kinds of faults between a client and an S3 service, for `tests/faults/proxy.py`.

Each is what some service or network has done to somebody: see the table at the end. What is to be stored
otherwise is signed anew, for a service checks what it is sent.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace

import trio

from tests.faults.proxy import Answer, Exchange, Wrong, ask, signed

TRICKLE_S = 0.05
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def _error(status: int, code: str, *headers: tuple[str, str]) -> Answer:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>as planned</Message></Error>".encode()
    return Answer(
        status, code, [("Content-Type", "application/xml"), ("Content-Length", str(len(body))), *headers], body
    )


def refusing(status: int, code: str, *headers: tuple[str, str]) -> Wrong:
    """Answer with an error; the service hears nothing of it."""

    async def wrong(exchange: Exchange) -> None:
        request = await exchange.take()
        answer = _error(status, code, *headers)
        await exchange.send(answer.head if request.method == "HEAD" else answer.raw)

    return wrong


def saying(data: bytes, *, done: bool = False) -> Wrong:
    """Answer with *data*, and end the connection."""

    async def wrong(exchange: Exchange) -> None:
        await (exchange.forward() if done else exchange.take())
        exchange.over = True
        await exchange.send(data)

    return wrong


async def reset_at_once(exchange: Exchange) -> None:
    exchange.reset()


async def reset_before(exchange: Exchange) -> None:
    await exchange.take()
    exchange.reset()


async def reset_after(exchange: Exchange) -> None:
    """It was done, and nobody hears of it."""
    await exchange.forward()
    exchange.reset()


async def reset_behind_continue(exchange: Exchange) -> None:
    exchange.over = True
    await exchange.send(b"HTTP/1.1 100 Continue\r\n")


async def reset_in_head(exchange: Exchange) -> None:
    answer = await exchange.forward()
    await exchange.send(answer.head[: len(answer.head) // 2])
    exchange.reset()


async def reset_in_body(exchange: Exchange) -> None:
    answer = await exchange.forward()
    await exchange.send(answer.head + answer.body[: len(answer.body) // 2])
    exchange.reset()


async def close_in_body(exchange: Exchange) -> None:
    answer = await exchange.forward()
    exchange.over = True
    await exchange.send((answer.head + answer.body)[:-1] if not answer.body else answer.head + answer.body[:-1])


async def stall_before_request(exchange: Exchange) -> None:
    """Nobody even takes it."""
    await trio.sleep_forever()


async def stall_before_head(exchange: Exchange) -> None:
    await exchange.forward()
    await exchange.hang()


async def stall_in_head(exchange: Exchange) -> None:
    answer = await exchange.forward()
    await exchange.send(answer.head[:20])
    await exchange.hang()


async def stall_in_body(exchange: Exchange) -> None:
    answer = await exchange.forward()
    await exchange.send(answer.head[:-1] if not answer.body else answer.head + answer.body[:-1])
    await exchange.hang()


async def trickle(exchange: Exchange) -> None:
    """Never silent, and never done."""
    answer = await exchange.forward()
    exchange.over = True
    for at in range(len(answer.raw)):
        await exchange.send(answer.raw[at : at + 1])
        await trio.sleep(TRICKLE_S)


async def late(exchange: Exchange) -> None:
    """Slow, but in time."""
    answer = await exchange.forward()
    await trio.sleep(TRICKLE_S)
    await exchange.send(answer.raw)


async def shortened(exchange: Exchange) -> None:
    """A body that ends early, and a length that says so."""
    answer = await exchange.forward()
    body = answer.body[: len(answer.body) // 2]
    await exchange.send(replace(answer.with_header("Content-Length", str(len(body))), body=body).raw)


async def lengthened(exchange: Exchange) -> None:
    answer = await exchange.forward()
    body = answer.body + b"more"
    await exchange.send(replace(answer.with_header("Content-Length", str(len(body))), body=body).raw)


async def wrong_etag(exchange: Exchange) -> None:
    answer = await exchange.forward()
    await exchange.send(answer.with_header("ETag", f'"{"0123456789abcdef" * 2}"').raw)


async def wrong_length(exchange: Exchange) -> None:
    """Of an answer without a body."""
    answer = await exchange.forward()
    exchange.over = True
    await exchange.send(answer.with_header("Content-Length", "4711").raw)


async def no_number_for_length(exchange: Exchange) -> None:
    answer = await exchange.forward()
    exchange.over = True
    await exchange.send(answer.with_header("Content-Length", "many").raw)


async def flipped(exchange: Exchange) -> None:
    """One bit of the first byte of a body."""
    answer = await exchange.forward()
    body = bytes([answer.body[0] ^ 1]) + answer.body[1:] if answer.body else b""
    await exchange.send(replace(answer, body=body).raw)


async def another_range(exchange: Exchange) -> None:
    """As many bytes from elsewhere, and it is said where they are from."""
    answer = await exchange.forward()
    for name, value in answer.headers:
        if name.lower() == "content-range" and (match := _RANGE.match(value)):
            first, last, size = map(int, match.groups())
            answer = answer.with_header(name, f"bytes {first + 1}-{last + 1}/{size}")
    await exchange.send(answer.raw)


async def range_ignored(exchange: Exchange) -> None:
    """The whole object, where a part was asked for."""
    await exchange.take()
    path = exchange.request.target.partition("?")[0]
    answer = await trio.to_thread.run_sync(ask, exchange.endpoint, signed(exchange.endpoint, "GET", path))
    await exchange.send(answer.raw)


async def anothers_bytes(exchange: Exchange) -> None:
    """Heads that are right, and as many bytes of something else."""
    answer = await exchange.forward()
    body = hashlib.shake_128(b"another").digest(len(answer.body))
    if exchange.request.verb == "LIST":
        body = re.sub(rb"<Key>[^<]*</Key>", b"<Key>another</Key>", answer.body)
        answer = answer.with_header("Content-Length", str(len(body)))
    await exchange.send(replace(answer, body=body).raw)


async def not_done(exchange: Exchange) -> None:
    """Said to be done, and it was not."""
    request = await exchange.take()
    etag = hashlib.md5(request.body, usedforsecurity=False).hexdigest()
    status = 204 if request.method == "DELETE" else 200
    await exchange.send(Answer(status, "OK", [("Content-Length", "0"), ("ETag", f'"{etag}"')]).raw)


def storing(change: Callable[[bytes], bytes]) -> Wrong:
    """Store something else."""

    async def wrong(exchange: Exchange) -> None:
        request = await exchange.take()
        etag = hashlib.md5(request.body, usedforsecurity=False).hexdigest()
        body = change(request.body)
        path = request.target.partition("?")[0]
        await trio.to_thread.run_sync(ask, exchange.endpoint, signed(exchange.endpoint, "PUT", path, body))
        await exchange.send(Answer(200, "OK", [("Content-Length", "0"), ("ETag", f'"{etag}"')]).raw)

    return wrong


async def twice(exchange: Exchange) -> None:
    await exchange.forward()
    answer = await trio.to_thread.run_sync(ask, exchange.endpoint, exchange.request)
    await exchange.send(answer.raw)


async def other_xml(exchange: Exchange) -> None:
    """A body that is well-formed up to its half."""
    answer = await exchange.forward()
    body = (answer.body or b"<a><b></b></a>")[: max(1, len(answer.body) // 2)]
    await exchange.send(replace(answer.with_header("Content-Length", str(len(body))), body=body).raw)


KINDS: dict[str, Wrong] = {
    "reset at once": reset_at_once,
    "reset before it is done": reset_before,
    "reset after it was done": reset_after,
    "reset behind 100 Continue": reset_behind_continue,
    "reset in the head": reset_in_head,
    "reset in the body": reset_in_body,
    "closed in the body": close_in_body,
    "closed without an answer": saying(b"", done=True),
    "stalled before it is taken": stall_before_request,
    "stalled before the head": stall_before_head,
    "stalled in the head": stall_in_head,
    "stalled in the body": stall_in_body,
    "trickled": trickle,
    "late": late,
    "shortened": shortened,
    "lengthened": lengthened,
    "500": refusing(500, "InternalError"),
    "502 without XML": saying(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad"),
    "503": refusing(503, "ServiceUnavailable"),
    "503 SlowDown": refusing(503, "SlowDown", ("Retry-After", "0")),
    "503 for an hour": refusing(503, "SlowDown", ("Retry-After", "3600")),
    "429": refusing(429, "TooManyRequests"),
    "403": refusing(403, "AccessDenied"),
    "an expired token": refusing(400, "ExpiredToken"),
    "a clock that is wrong": refusing(403, "RequestTimeTooSkewed"),
    "404": refusing(404, "NoSuchKey"),
    "404 of the bucket": refusing(404, "NoSuchBucket"),
    "400": refusing(400, "BadDigest"),
    "507": refusing(507, "InsufficientStorage"),
    "301": refusing(301, "PermanentRedirect", ("Location", "http://127.0.0.1:9/")),
    "307": refusing(307, "TemporaryRedirect", ("Location", "http://127.0.0.1:9/")),
    "an error with 200": saying(
        b"HTTP/1.1 200 OK\r\nContent-Length: 48\r\n\r\n<Error><Code>InternalError</Code>as said</Error>   "
    ),
    "a page of HTML": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n<html>please log in</html>"),
    "no HTTP": saying(b"\x15\x03\x01\x00\x02\x02\x16 what is this\r\n\r\n"),
    "a head without end": saying(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000),
    "a length that is no number": no_number_for_length,
    "half of the XML": other_xml,
    "another ETag": wrong_etag,
    "another length": wrong_length,
    "a bit flipped": flipped,
    "another range": another_range,
    "the whole instead of a range": range_ignored,
    "the bytes of another": anothers_bytes,
    "swallowed": not_done,
    "stored in half": storing(lambda body: body[: len(body) // 2]),
    "stored with a bit flipped": storing(lambda body: bytes([body[0] ^ 1]) + body[1:] if body else b"x"),
    "done twice": twice,
}
"""By what a reader of a failing test is told."""
