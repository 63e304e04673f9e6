"""Sockets and TLS: the application under Hypercorn.

Hypercorn's own ``serve`` is not used: it takes its sockets over with an inheritable descriptor, does not say in words
which address is taken, waits at shutdown for as long as a client that does not read keeps it waiting, and lets one
connection's unexpected error end all. HTTP/1.1 is ours. What is used of its parts (``Lifespan``, ``WorkerContext``, and
HTTP/2, which ``gateway/http/http2.py`` changes) is no documented API, so its version is pinned.
"""

import errno
import logging
import socket
import ssl
import traceback
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, LifespanState

from gateway.asgi import ABORT, ASGIApp, Receive, Scope, Send
from gateway.http import http2
from gateway.http.connection import Connection
from gateway.http.exchange import Place
from gateway.http.source import Stream, close, socket_of
from gateway.http.waiting import Waiting
from gateway.limits import ANSWER_IDLE_S, REQUEST_DRAIN_S, SHUTDOWN_GRACE_S
from stratumfs.errors import ConfigError
from stratumfs.limits import CONNECTIONS_MAX

_log = structlog.get_logger("gateway")
_BACKLOG = 1024
_HANDSHAKE_S = 20.0


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate chain and key, PEM files."""

    certificate: Path
    key: Path


async def serve(
    app: ASGIApp,
    listen: Sequence[str],
    tls: Tls | None,
    shutdown_trigger: Callable[[], Awaitable[object]],
    *,
    connections_max: int = CONNECTIONS_MAX,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve *app* until *shutdown_trigger* returns; then finish the requests that are under way, and return.

    connections_max
                 at once; for further ones the one makes room that has waited longest for its next request; where none
                 waits, they are closed
    listen       ``host:port``, ``[v6]:port``, ``:port`` for all addresses; port 0 takes a free one
    task_status  started with the bound addresses (``http://127.0.0.1:9000``) when all accept connections
    Raises: ConfigError for an address, certificate or key that cannot be used, in one line that says what to do.
    """
    config = _config()
    context = _tls_context(tls, config)
    sockets = await bind(listen)
    listeners = [_listener(each, context) for each in sockets]
    scheme = "http" if context is None else "https"
    addresses = [f"{scheme}://{_spell(each)}" for each in sockets]
    state = LifespanState({})
    lifespan = Lifespan(ASGIWrapper(cast(ASGIFramework, app)), config, state)
    async with trio.open_nursery() as nursery:
        await nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        await _Connections(app, config, state, connections_max).run(listeners, shutdown_trigger, addresses, task_status)
        await lifespan.wait_for_shutdown()
        nursery.cancel_scope.cancel()


class _Connections:
    """All connections of one door. The set is touched by their tasks and at shutdown, on the loop."""

    def __init__(self, app: ASGIApp, config: Config, state: LifespanState, most: int) -> None:
        self._app = app
        self._most = most
        self._config = config
        self._state = state
        self._context = WorkerContext(None)
        self._waiting = Waiting()
        self._streams: set[Stream] = set()
        self._one_ended = trio.Event()

    async def run(
        self,
        listeners: list[Any],
        shutdown_trigger: Callable[[], Awaitable[object]],
        addresses: list[str],
        task_status: trio.TaskStatus[list[str]],
    ) -> None:
        async with trio.open_nursery() as connections:
            connections.start_soon(self._waiting.serve)
            try:
                async with trio.open_nursery() as accepting:

                    async def accept() -> None:
                        await trio.serve_listeners(self._serve_one, listeners, handler_nursery=connections)

                    accepting.start_soon(accept)
                    task_status.started(addresses)
                    await shutdown_trigger()
                    accepting.cancel_scope.cancel()
                await self._context.terminated.set()
                self._waiting.end_all()
                with trio.move_on_after(SHUTDOWN_GRACE_S):
                    await self._wait_all_ended()
            finally:
                # Hypercorn shields its sends: only a closed socket gets it off a client that does not read.
                for stream in self._streams:
                    close(stream)
            connections.cancel_scope.cancel()

    async def _serve_one(self, stream: Stream) -> None:
        if len(self._streams) >= self._most and not self._waiting.end_oldest():
            await trio.aclose_forcefully(stream)
            return
        self._streams.add(stream)
        try:
            try:
                await self._talk(stream)
            finally:
                with trio.move_on_after(REQUEST_DRAIN_S, shield=True):
                    await stream.aclose()
        except Exception as error:
            # One client's nonsense must not end the connections of the others.
            _log.error("connection failed", traceback="".join(traceback.format_exception(error)))
        finally:
            self._streams.discard(stream)
            self._one_ended.set()

    async def _talk(self, stream: Stream) -> None:
        if isinstance(stream, trio.SSLStream) and not await self._shake_hands(stream):
            return
        try:
            place = self._place(stream)
        except OSError:
            return  # it is gone already
        if isinstance(stream, trio.SSLStream) and stream.selected_alpn_protocol() == "h2":
            app = _with_abort(self._app, stream)
            await http2.Connection(app, self._config, self._context, stream, place, self._waiting).run()
        else:
            await Connection(self._app, stream, place, self._waiting).run()

    async def _shake_hands(self, stream: trio.SSLStream[trio.SocketStream]) -> bool:
        with trio.move_on_after(_HANDSHAKE_S) as scope, self._waiting.within(scope), suppress(trio.BrokenResourceError):
            await stream.do_handshake()
            return True
        return False

    def _place(self, stream: Stream) -> Place:
        found = socket_of(stream)
        client, server = found.getpeername(), found.getsockname()
        scheme = "https" if isinstance(stream, trio.SSLStream) else "http"
        return Place((client[0], client[1]), (server[0], server[1]), scheme, self._state)

    async def _wait_all_ended(self) -> None:
        while self._streams:
            self._one_ended = trio.Event()
            await self._one_ended.wait()


def _with_abort(app: ASGIApp, stream: Stream) -> ASGIApp:
    async def connected(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["extensions"][ABORT] = partial(close, stream)
        await app(scope, receive, send)

    return connected


def _config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("gateway.http")
    config.include_server_header = False
    config.keep_alive_max_requests = 1_000_000_000
    return config


def _tls_context(tls: Tls | None, config: Config) -> ssl.SSLContext | None:
    if tls is None:
        return None
    for path in (tls.certificate, tls.key):
        if not path.is_file():
            raise ConfigError(f"TLS: there is no file {path}")
    config.certfile, config.keyfile = str(tls.certificate), str(tls.key)
    try:
        return config.create_ssl_context()
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"TLS: {tls.certificate} and {tls.key} are no certificate and its key: {error}") from error


def _listener(
    bound: trio.socket.SocketType, context: ssl.SSLContext | None
) -> trio.SocketListener | trio.SSLListener[trio.SocketStream]:
    listener = trio.SocketListener(bound)
    return listener if context is None else trio.SSLListener(listener, context, https_compatible=True)


async def bind(listen: Sequence[str]) -> list[trio.socket.SocketType]:
    """Listening sockets for all addresses, or none at all. Raises: ConfigError."""
    bound: list[trio.socket.SocketType] = []
    try:
        for address in listen:
            bound.extend(await _bind_one(address))
    except BaseException:
        for each in bound:
            each.close()
        raise
    if not bound:
        raise ConfigError("the gateway needs an address to listen on, such as 127.0.0.1:9000")
    return bound


async def _bind_one(address: str) -> list[trio.socket.SocketType]:
    host, port = split_address(address)
    try:
        found = await trio.socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigError(f"cannot listen on {address}: {error.strerror or error}") from error
    except UnicodeError as error:
        raise ConfigError(f"cannot listen on {address}: {host!r} is no name of a host") from error
    sockets: list[trio.socket.SocketType] = []
    for family, kind, protocol, _, sockaddr in dict.fromkeys(found):
        try:
            sockets.append(await _listen(family, kind, protocol, sockaddr))
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT and not host:
                continue  # "all addresses" of a machine without IPv6
            for each in sockets:
                each.close()
            hint = (
                "; another program uses it: stop that, or choose another port"
                if error.errno == errno.EADDRINUSE
                else ""
            )
            raise ConfigError(f"cannot listen on {address}: {error.strerror or error}{hint}") from error
    return sockets


async def _listen(family: int, kind: int, protocol: int, sockaddr: Any) -> trio.socket.SocketType:
    made = trio.socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. Hypercorn waits without an end for a client that does not take its answer.
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(ANSWER_IDLE_S * 1000))
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        await made.bind(sockaddr)
        made.listen(_BACKLOG)
    except BaseException:
        made.close()
        raise
    return made


def split_address(address: str) -> tuple[str, int]:
    """Host (without brackets; empty for all) and port of ``host:port``. Raises: ConfigError."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(f"{address!r} is no address to listen on: it must be HOST:PORT, such as 127.0.0.1:9000")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{address!r} is no address to listen on: write [{host}]:{port}")
    return host, int(port)


def _spell(bound: trio.socket.SocketType) -> str:
    name = bound.getsockname()
    return f"[{name[0]}]:{name[1]}" if bound.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"
