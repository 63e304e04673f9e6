"""Connections for botocore: calls end in time, whatever the other side does, and answers are whole.

Time-outs of sockets bound a silence, but a server that sends a byte now and then is never silent. So, when the time is
over, the connection that the thread is using is shut down under it, and its call fails as it does after a reset.

The standard library takes an answer whose head is cut short for one that has no more headers.
"""

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from stratumfs.errors import DeviceUnasked


class Expiry:
    """Of one thread's work; ``ended`` is set when its time is over or nobody waits for it any more.

    The thread uses one connection at a time. ``_lock`` guards which, against the one who ends it from outside.
    """

    def __init__(self, seconds: float) -> None:
        self.ended = threading.Event()
        self._at = time.monotonic() + seconds
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def left_s(self) -> float:
        return 0.0 if self.ended.is_set() else max(0.0, self._at - time.monotonic())

    def watch(self, connection: socket.socket | None) -> None:
        """It is *connection* that the thread uses from now on. Raises: TimeoutError if it is too late for that."""
        with self._lock:
            if connection is not None and self.ended.is_set():
                raise TimeoutError("the time for it is over")
            self._socket = connection

    def end(self) -> None:
        with self._lock:
            self.ended.set()
            if self._socket is not None:
                # Not SSLSocket's own, which would go on in plain text.
                with suppress(OSError):
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class Expiries:
    """Those of all threads that use one client."""

    def __init__(self) -> None:
        self._of_thread = threading.local()
        self._live: set[Expiry] = set()
        self._closed = False
        self._lock = threading.Lock()  # guards the two above

    @contextmanager
    def within(self, seconds: float) -> Iterator[Expiry]:
        """What this thread does inside ends in time, through clients that were given to `guard`.

        Raises: DeviceUnasked.
        """
        expiry = Expiry(seconds)
        timer = threading.Timer(seconds, expiry.end)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError as error:  # CPython has no class of its own for it
            raise DeviceUnasked("there is no thread that could watch the time") from error
        self._of_thread.expiry = expiry
        with self._lock:
            self._live.add(expiry)
            if self._closed:
                expiry.end()
        try:
            yield expiry
        finally:
            self._of_thread.expiry = None
            expiry.watch(None)
            timer.cancel()
            with self._lock:
                self._live.discard(expiry)

    def close(self) -> None:
        """End what is under way, and all that begins from now on."""
        with self._lock:
            self._closed = True
            live = list(self._live)
        for each in live:
            each.end()

    def guard(self, client: Any) -> None:
        """Make a botocore client, which has not been used yet, watch its connections.

        There is no public way to its pools; that none is watched any more is seen by tests of servers that trickle.
        """
        client._endpoint.http_session._pool_classes_by_scheme.update(self._pools())

    def watch(self, connection: socket.socket | None) -> None:
        expiry: Expiry | None = getattr(self._of_thread, "expiry", None)
        if expiry is not None:
            expiry.watch(connection)

    def _pools(self) -> dict[str, type]:
        from botocore import awsrequest

        outer = self

        class Watched:
            response_class = _WholeResponse
            sock: Any

            def connect(self) -> None:
                super().connect()  # type: ignore[misc]
                outer.watch(self.sock)

            def request(self, *words: Any, **options: Any) -> None:
                if self.sock is not None:
                    outer.watch(self.sock)
                super().request(*words, **options)  # type: ignore[misc]

            def _consume_headers(self, fp: Any) -> None:
                """Of 100 Continue. Botocore's own goes round for ever where the connection ends among them."""
                while (line := fp.readline()) != b"\r\n":
                    if not line:
                        raise ConnectionResetError("the connection ended behind 100 Continue")

        plain = type("Plain", (Watched, awsrequest.AWSHTTPConnection), {})
        secure = type("Secure", (Watched, awsrequest.AWSHTTPSConnection), {})
        return {
            "http": type("PlainPool", (awsrequest.AWSHTTPConnectionPool,), {"ConnectionCls": plain}),
            "https": type("SecurePool", (awsrequest.AWSHTTPSConnectionPool,), {"ConnectionCls": secure}),
        }


class _WholeResponse(http.client.HTTPResponse):
    """Raises: http.client.IncompleteRead where the connection ends in the head; HTTPException where that has a length
    which is none, over which botocore stumbles when nobody closes the connection any more."""

    def begin(self) -> None:
        lines = self.fp
        self.fp = _WholeLines(lines)  # type: ignore[assignment]
        try:
            super().begin()
        finally:
            self.fp = lines
        length = self.headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()):
            raise http.client.HTTPException(f"Content-Length: {length}")


class _WholeLines:
    def __init__(self, lines: Any) -> None:
        self._lines = lines

    def readline(self, limit: int) -> bytes:
        line = bytes(self._lines.readline(limit))
        if not line.endswith(b"\n") and len(line) < limit:
            raise http.client.IncompleteRead(line)
        return line

    def close(self) -> None:
        self._lines.close()
