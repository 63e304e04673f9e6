"""Where Prometheus asks: an address of its own, so that it can be reached by others than the clients of S3.

It is no door of the store: it shows nothing of what lies in it, keeps no owner alive, and where its address cannot be
had, the store goes on without it.
"""

from collections.abc import Iterator

import structlog
import trio
from prometheus_client import CollectorRegistry, GCCollector, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway.metrics import make_metrics_app
from gateway.serve import serve
from stratumfs.limits import METRICS_CONNECTIONS_MAX
from stratumfs.owner.blame import cause_of, is_expected
from stratumfs.owner.doors import Doors
from stratumfs.owner.durability import Standing
from stratumfs.owner.metrics import StoreCollector, ledger_metrics
from stratumfs.owner.wire import Running
from stratumfs.threads import in_thread

_log = structlog.get_logger(__name__)


class _Taken(Collector):
    """What was read on the loop, for whoever writes it down in a thread."""

    def __init__(self) -> None:
        self.metrics: list[Metric] = []

    def collect(self) -> Iterator[Metric]:
        yield from self.metrics


class Teller:
    """Says what there is. One at a time: of the loop each takes only what reading a few hundred numbers takes."""

    def __init__(self, running: Running, doors: Doors) -> None:
        self._store, self._taken, self._ledger = StoreCollector(running, doors), _Taken(), Standing(running)
        self._registry = CollectorRegistry()
        self._registry.register(self._taken)
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._turn = trio.Lock()
        self._thread = trio.CapacityLimiter(1)

    async def __call__(self, accept: str) -> tuple[bytes, str]:
        encode, content_type = choose_encoder(accept)
        async with self._turn:
            ledger = await self._ledger()
            self._taken.metrics = [*self._store.collect(), *ledger_metrics(ledger)]
            return await in_thread(encode, self._registry, limiter=self._thread), content_type


async def serve_metrics(running: Running, doors: Doors, listen: str) -> None:
    """Until cancelled."""
    app = make_metrics_app(Teller(running, doors))
    try:
        async with trio.open_nursery() as nursery:

            async def started(*, task_status: trio.TaskStatus[list[str]]) -> None:
                most = METRICS_CONNECTIONS_MAX
                await serve(app, [listen], None, trio.sleep_forever, connections_max=most, task_status=task_status)

            urls = await nursery.start(started)
            _log.info("metrics_served", where=", ".join(f"{url}/metrics" for url in urls))
    except Exception as error:  # whatever it is: the store goes on without them
        cause = cause_of(error)
        _log.error("no_metrics", error=str(cause), exc_info=None if is_expected(cause) else error)
