"""The S3 door of an owner: what `gateway` needs to serve a running store."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio

from gateway.app import Door, Readiness, make_app
from gateway.auth.gate import Gate
from gateway.serve import Tls, serve
from gateway.service import StoreService
from stratumfs.config import Settings
from stratumfs.owner import credentials
from stratumfs.owner.descriptors import connections_max
from stratumfs.owner.doors import Ready, Serve
from stratumfs.owner.messages import Credentials, OpenGateway
from stratumfs.owner.wire import Running
from stratumfs.threads import in_thread
from tiering.restore import MoveRestorer


@dataclass(frozen=True, slots=True)
class RootCredentials:
    """The one key that there is."""

    root: Credentials

    def secret(self, access_key: str) -> str | None:
        return self.root.secret_key if access_key == self.root.access_key else None


@dataclass(frozen=True, slots=True)
class OpenedGateway:
    """where: the addresses as asked for and as bound, so that a client finds the door by either."""

    where: tuple[str, ...]
    urls: tuple[str, ...]
    door: Door
    service: StoreService

    def pending(self) -> str:
        in_flight = self.door.statistics().in_flight
        return f"{in_flight} S3 requests under way" if in_flight else ""

    def details(self) -> dict[str, Any]:
        found = self.door.statistics()
        return {
            "urls": list(self.urls),
            "in_flight": found.in_flight,
            "requests": sum(found.requests.values()),
            "received_bytes": found.received_bytes,
            "sent_bytes": found.sent_bytes,
            "unexpected_errors": found.unexpected_errors,
            "connections_lost": found.connections_lost,
        }


def serving(running: Running, settings: Settings, request: OpenGateway) -> Serve:
    """A door that serves S3 as *request* says; what it leaves open is as in the settings."""

    async def run(stop: trio.Event, ready: Ready) -> None:
        keys = request.credentials
        if keys is None:
            keys = await in_thread(credentials.read, running.folder)
        credentials.check(keys, "the request")
        listen = request.listen or (settings.gateway.listen,)
        region = settings.gateway.region
        service = StoreService(running.store, region, restorer=MoveRestorer(running.mover, running.store.tier))
        door = make_app(
            service,
            Gate(RootCredentials(keys), region=region),
            readiness=lambda: _readiness(running, settings),
            domains=request.domains or settings.gateway.domains,
        )
        async with trio.open_nursery() as nursery:
            most = connections_max(len(running.store.devices))
            serve_door = partial(serve, door, listen, _tls(settings, request), stop.wait, connections_max=most)
            urls: list[str] = await nursery.start(serve_door)
            bound = tuple(url.partition("://")[2] for url in urls)
            ready(OpenedGateway(tuple(dict.fromkeys((*listen, *bound))), tuple(urls), door, service))

    return run


def _tls(settings: Settings, request: OpenGateway) -> Tls | None:
    """Those of the request, else those of the settings, at whatever address."""
    if request.tls_certificate is not None and request.tls_key is not None:
        return Tls(Path(request.tls_certificate), Path(request.tls_key))
    if settings.gateway.tls_certificate is not None and settings.gateway.tls_key is not None:
        return Tls(Path(settings.gateway.tls_certificate), Path(settings.gateway.tls_key))
    return None


def _readiness(running: Running, settings: Settings) -> Readiness:
    """A store that takes no changes is ready for reads; one with fewer than k devices cannot give all that it has."""
    there, k = len(running.folders.attached.devices), settings.hot.k
    if there < k:
        return Readiness(False, f"{there} devices are there, to read takes {k}")
    reason = running.store.read_only
    return Readiness(True) if reason is None else Readiness(True, f"read-only: {reason}")
