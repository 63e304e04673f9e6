"""The door itself: a plain ASGI callable around a Quart application.

The S3 protocol is answered before Quart makes request objects, which would cost several times as much as the request
itself. Quart has the routes below ``/stratum/``. They take no signature, so a signed request is always S3's, also for
a bucket of that name.
"""

import base64
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import getrandbits
from typing import cast

import structlog
from quart import Response as QuartResponse
from quart_trio import QuartTrio

from gateway import routes, xml
from gateway.answer import Answer, ConnectionLostError, Incoming
from gateway.asgi import ABORT, ASGIApp, Receive, Scope, Send
from gateway.auth.gate import Gate
from gateway.errors import S3Error, is_unexpected, translate
from gateway.request import Request, RequestIds
from gateway.response import S3Service, xml_response
from stratumfs.latency import Latencies

_log = structlog.get_logger("gateway")
_HOUSE = b"/stratum/"
_HOST_ID = base64.b64encode(os.urandom(48)).decode("ascii")
"""Of this process: what S3 calls the host."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether requests can be served now; *reason* says why not, or with what restriction."""

    ready: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Since the start. requests: by operation ("-" if none was made out) and status; 0: nothing was answered."""

    requests: Mapping[tuple[str, int], int]
    received_bytes: int
    sent_bytes: int
    unexpected_errors: int
    connections_lost: int
    in_flight: int


class Door:
    """The ASGI callable. One for all connections; its counters are only touched on the loop.

    seconds  from a request's head to the end of its answer, by operation
    """

    def __init__(self, service: S3Service, gate: Gate, quart: ASGIApp, domains: Sequence[str]) -> None:
        self._service = service
        self._gate = gate
        self._quart = quart
        self._domains = tuple(domain.lower().strip(".") for domain in domains)
        self.seconds = Latencies("operation")
        self._requests: Counter[tuple[str, int]] = Counter()
        self._received = self._sent = 0
        self._unexpected = 0
        self._lost = 0
        self._in_flight = 0

    def statistics(self) -> Statistics:
        return Statistics(
            dict(self._requests), self._received, self._sent, self._unexpected, self._lost, self._in_flight
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or (scope["type"] == "http" and _is_house(scope)):
            await self._quart(scope, receive, send)
        elif scope["type"] == "http":
            await self._s3(scope, Incoming(receive, scope.get("extensions", {})), send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _s3(self, scope: Scope, incoming: Incoming, send: Send) -> None:
        answer = Answer(scope["method"], new_ids(), incoming, send)
        request: Request | None = None
        began = time.perf_counter()
        self._in_flight += 1
        try:
            request = routes.parse(scope, answer.ids, self._domains)
            caller = self._gate.authenticate(request, incoming, incoming.into, incoming.at_once)
            await self._service.handle(request, caller, answer.send)
            answer.check_sent()
        except ConnectionLostError:
            self._lost += 1
        except Exception as error:
            await self._fail(error, scope, request, answer, incoming)
        finally:
            self._in_flight -= 1
            name = request.operation.value if request else "-"
            self._requests[name, answer.status or 0] += 1
            self._received += incoming.received_bytes
            self._sent += answer.sent_bytes
            self.seconds.observe(name, time.perf_counter() - began)

    async def _fail(
        self, error: Exception, scope: Scope, request: Request | None, answer: Answer, incoming: Incoming
    ) -> None:
        """Answer with *error*; if an answer has begun, end the connection (of HTTP/1.1 the server does), so that the
        client sees that it has not got all."""
        problem = translate(error)
        if is_unexpected(error):
            self._unexpected += 1
            _log.error(
                "unexpected error",
                request_id=answer.ids.request_id,
                operation=request.operation.value if request else None,
                bucket=request.bucket if request else None,
                # As text: log renderers that print a frame's variables would print keys and data.
                traceback="".join(traceback.format_exception(error)),
            )
        elif answer.status is not None:
            _log.warning("answer broken off", request_id=answer.ids.request_id, error=str(problem))
        if answer.status is None:
            await _send_error(problem, scope, request, answer, incoming)
        elif scope["http_version"] == "2" and ABORT in scope.get("extensions", {}):
            scope["extensions"][ABORT]()


async def _send_error(
    problem: S3Error, scope: Scope, request: Request | None, answer: Answer, incoming: Incoming
) -> None:
    headers = dict(problem.headers)
    if scope["method"] in ("PUT", "POST") and scope["http_version"] != "2":
        # Who asked "Expect: 100-continue" and was not told to continue sends no body: there is nothing to wait for.
        if incoming.begun or not any(name.lower() == b"expect" for name, _ in scope["headers"]):
            await incoming.drain()
        if not incoming.ended:
            # The connection ends on the rest of the body: said aloud, or the client sends its next request there.
            headers["connection"] = "close"
    body = xml.error(
        problem,
        scope["raw_path"].decode("latin-1"),
        answer.ids,
        request.bucket if request else None,
        request.key if request else None,
    )
    await answer.send(xml_response(body, problem.status, headers))


def new_ids() -> RequestIds:
    """Random, the first of them: unique over restarts and processes, and no secret."""
    return RequestIds(f"{getrandbits(64):016X}", _HOST_ID)


def _is_house(scope: Scope) -> bool:
    if not scope["raw_path"].startswith(_HOUSE):
        return False
    signed = any(name.lower() == b"authorization" for name, _ in scope["headers"])
    return not signed and b"X-Amz-" not in scope["query_string"] and b"Signature=" not in scope["query_string"]


def make_quart(readiness: Callable[[], Readiness]) -> QuartTrio:
    """The routes beside the S3 protocol: whether the process lives, and whether it can serve."""
    app = QuartTrio("gateway", static_folder=None)

    @app.get("/stratum/health/live")
    async def live() -> QuartResponse:
        return QuartResponse("live\n", 200, content_type="text/plain")

    @app.get("/stratum/health/ready")
    async def ready() -> QuartResponse:
        state = readiness()
        text = f"{'ready' if state.ready else 'not ready'}{': ' if state.reason else ''}{state.reason}\n"
        return QuartResponse(text, 200 if state.ready else 503, content_type="text/plain")

    return app


def make_app(
    service: S3Service,
    gate: Gate,
    *,
    readiness: Callable[[], Readiness],
    domains: Sequence[str] = (),
) -> Door:
    """The whole gateway as an ASGI application.

    readiness  the true state of the store, asked at each request for it; must not block
    domains    names for virtual-host style: ``bucket.name``
    """
    # Quart's types name every message of ASGI; here they are plain mappings.
    return Door(service, gate, cast(ASGIApp, make_quart(readiness).asgi_app), domains)
