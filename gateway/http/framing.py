"""The answer to one request as bytes: its head, and how its body is framed. Pure.

A body has the length that the application said, or that is known because it is whole; else it is sent in chunks, and to
a client of HTTP/1.0 up to the end of the connection.
"""

from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

Buffer = bytes | bytearray | memoryview

_BODILESS = (204, 304)


class Framing:
    """Of one answer.

    keep_alive  whether another request may follow; known when the head is made
    finished    whether all of the answer was framed
    """

    __slots__ = ("_bodiless", "_chunked", "_left", "finished", "keep_alive")

    def __init__(self, method: str, version: str, *, keep_alive: bool) -> None:
        self.keep_alive = keep_alive
        self.finished = False
        self._bodiless = method == "HEAD"
        self._chunked = version == "1.1"
        self._left: int | None = None

    def head(self, status: int, headers: Iterable[tuple[bytes, bytes]], whole: int | None, now: float) -> bytes:
        """The head of the answer.

        headers  names in lowercase; what they say of Connection and Transfer-Encoding is decided here
        whole    bytes of the body, if all of it is there
        now      seconds since the epoch
        Raises: ValueError for a header that would end one line and begin another.
        """
        lines = [_status_line(status), _date_line(int(now))]
        length: int | None = None
        for name, value in headers:
            if name == b"connection":
                self.keep_alive = self.keep_alive and value.lower() != b"close"
                continue
            if name == b"transfer-encoding":
                continue
            if name == b"content-length":
                length = int(value)
            lines.append(b"%b: %b" % (name, value))
        self._frame(status, length, whole, lines)
        if not self.keep_alive:
            lines.append(b"connection: close")
        text = b"\r\n".join(lines)
        ends = len(lines) - 1
        if text.count(b"\n") != ends or text.count(b"\r") != ends or b"\0" in text:
            raise ValueError("a header of an answer has a control character")
        return text + b"\r\n\r\n"

    def body(self, data: Buffer, *, more: bool) -> tuple[Buffer, ...]:
        """What is sent for *data*, in order. Raises: RuntimeError if it is not as long as was said."""
        self.finished = not more
        if self._bodiless:
            return ()
        if self._chunked:
            pieces: tuple[Buffer, ...] = (b"%x\r\n" % len(data), data, b"\r\n") if data else ()
            return pieces if more else (*pieces, b"0\r\n\r\n")
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("an answer has another length than was said")
        return (data,) if data else ()

    def _frame(self, status: int, length: int | None, whole: int | None, lines: list[bytes]) -> None:
        if status in _BODILESS:
            self._bodiless = True
        if length is None and whole is not None and not self._bodiless:
            length = whole
            lines.append(b"content-length: %d" % whole)
        self._left = length
        self._chunked = self._chunked and length is None and not self._bodiless
        if self._chunked:
            lines.append(b"transfer-encoding: chunked")
        elif length is None and not self._bodiless:
            self.keep_alive = False


@lru_cache(maxsize=128)
def _status_line(status: int) -> bytes:
    """With a reason: clients that asked before sending a body take an answer without one for none (botocore,
    ``AWSConnection._handle_expect_response``)."""
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    return b"HTTP/1.1 %d %b" % (status, reason.encode())


@lru_cache(maxsize=2)
def _date_line(second: int) -> bytes:
    return b"date: " + formatdate(second, usegmt=True).encode()


def refusal(status: int, reason: str, now: float) -> bytes:
    """The whole answer to what is no request that could be understood; the connection ends behind it."""
    body = f"{reason}\n".encode()
    framing = Framing("GET", "1.1", keep_alive=False)
    return framing.head(status, [(b"content-type", b"text/plain; charset=utf-8")], len(body), now) + body
