"""The HTTP side of metrics: one route, for who knows what to say."""

from collections.abc import Awaitable, Callable
from typing import cast

from quart import Response, request
from quart_trio import QuartTrio

from gateway.asgi import ASGIApp

Tell = Callable[[str], Awaitable[tuple[bytes, str]]]
"""Given an Accept header: the text, and its content type."""


def make_metrics_app(tell: Tell) -> ASGIApp:
    app = QuartTrio("metrics", static_folder=None)

    @app.get("/metrics")
    async def metrics() -> Response:
        body, content_type = await tell(request.headers.get("accept", ""))
        return Response(body, content_type=content_type)

    # Quart's types name every message of ASGI; here they are plain mappings.
    return cast(ASGIApp, app.asgi_app)
