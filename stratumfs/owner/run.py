"""The owner's life, from its locks to the end of its last door.

Opening: locks, then what `wire.py` puts together, then the control socket, then doors. Ending goes the other way round:
new requests are refused; mounts are unmounted while the loop still serves them; gateways finish their requests; the
store syncs and closes; who waits for the end is answered; the control socket goes; last the locks. A signal (SIGTERM,
SIGINT) ends it in this order too.

Everything of it runs in nurseries opened here and in `wire.py`. An exception that no door contains ends the process in
order as well: the store must survive that anyway, as it survives a kill -9.
"""

import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

import structlog
import trio

from stratumfs.config import SETTINGS_FILE, Settings, load
from stratumfs.devices.identity import Identity, read_identity
from stratumfs.errors import DeviceFailed, StratumError
from stratumfs.owner import control, wire
from stratumfs.owner.asking import ask
from stratumfs.owner.blame import cause_of, is_expected
from stratumfs.owner.doors import Doors
from stratumfs.owner.fill import Filler
from stratumfs.owner.locate import store_folder
from stratumfs.owner.log import adopt_stderr, configure
from stratumfs.owner.messages import STDERR, failed
from stratumfs.owner.requests import Requests
from stratumfs.owner.watchdog import watch_loop
from stratumfs.threads import in_thread

LAST_WORDS_S = 5.0
"""For the answers to those who wait for the end."""
FIRST_REQUEST_S = 10.0
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = structlog.get_logger(__name__)


async def main(store: Path, first_client: trio.SocketStream | None, log: Path | None) -> int:
    """Own the store until its last door is closed. Returns the exit code: 0, or 1 after an error that was answered."""
    try:
        settings = await in_thread(load, store / SETTINGS_FILE)
        sink = configure(settings.log, log, store)
    except (StratumError, OSError) as error:
        await _answer_failure(first_client, error)
        return 1
    try:
        await own(store, settings, first_client, quiet=log != STDERR)
    except Exception as error:
        cause = cause_of(error)
        _log.error("owner_failed", error=str(cause), exc_info=None if is_expected(cause) else error)
        await _answer_failure(first_client, cause)
        return 1
    finally:
        sink.close()
    return 0


async def own(store: Path, settings: Settings, first_client: trio.SocketStream | None, *, quiet: bool) -> None:
    """The whole life of an owner whose settings are read.

    quiet: nobody reads its standard error once the first client is answered; the log takes it over.
    Raises: what opening or closing the store raises.
    """
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(wire.locked(store))
        bound = await stack.enter_async_context(control.bound_socket(store))
        ended = trio.Event()
        async with trio.open_nursery() as asking:
            try:
                async with wire.opened(parts, settings) as running, trio.open_nursery() as serving:
                    doors = Doors(serving, time.time)
                    requests = Requests(running, doors, settings, ended)
                    await asking.start(control.serve_anywhere, bound, partial(_found_by, running), requests.handle)
                    serving.start_soon(watch_loop)
                    await running.mover.resume()
                    serving.start_soon(running.mover.serve)
                    serving.start_soon(running.tiers.serve)
                    serving.start_soon(Filler(running).serve)
                    serving.start_soon(running.health.serve)
                    serving.start_soon(running.backup.serve)
                    if settings.metrics.listen is not None:
                        serve_metrics = await in_thread(_metrics_door)
                        serving.start_soon(serve_metrics, running, doors, settings.metrics.listen)
                    _log.info("owner_started", store=str(store))
                    await _serve_until_last_door(doors, requests, first_client, asking, quiet)
                    await doors.close_all()
                    serving.cancel_scope.cancel()
            finally:
                ended.set()
            with trio.move_on_after(LAST_WORDS_S):
                await requests.wait_answered()
            asking.cancel_scope.cancel()
        _log.info("owner_ended", store=str(store))


def _metrics_door() -> Callable[[wire.Running, Doors, str], Awaitable[None]]:
    """Loaded where they are wanted, and in a thread, as the gateway is: a mount beside should not wait."""
    from stratumfs.owner.metrics_door import serve_metrics

    return serve_metrics


def _found_by(running: wire.Running) -> Path:
    """The folder that commands come to which name a device. Blocking. Raises: StratumError, OSError."""
    for device in list(running.store.devices.values()):
        path = Path(device.label)
        # One that hangs may not be struck yet.
        if device.struck is None and isinstance(ask({device.id: partial(read_identity, path)})[device.id], Identity):
            return store_folder(path)
    raise DeviceFailed("no device is up")


async def _serve_until_last_door(
    doors: Doors, requests: Requests, first_client: trio.SocketStream | None, asking: trio.Nursery, quiet: bool
) -> None:
    """Return when the last door is closed, or when a signal or a client asks for the end."""
    with trio.open_signal_receiver(*ENDING_SIGNALS) as signals:
        async with trio.open_nursery() as waiting:

            async def on_signal() -> None:
                number = await anext(aiter(signals))
                _log.info("owner_signalled", signal=signal.Signals(number).name)
                waiting.cancel_scope.cancel()

            async def on_shutdown() -> None:
                await requests.shutdown_asked.wait()
                waiting.cancel_scope.cancel()

            waiting.start_soon(on_signal)
            waiting.start_soon(on_shutdown)
            async with doors.lease():
                if first_client is not None:
                    asking.start_soon(control.serve_connection, first_client, requests.handle)
                with trio.move_on_after(FIRST_REQUEST_S):
                    await requests.first_answered.wait()
            if quiet:
                adopt_stderr()  # until now the command that started us has read it
            await doors.wait_idle()
            waiting.cancel_scope.cancel()
    # From here on it ends in order; a second signal must not cut that short (SIGKILL still does).
    for number in ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


async def _answer_failure(first_client: trio.SocketStream | None, error: BaseException) -> None:
    """Whoever started this owner learns why it does not come up: read what it asks, then say no."""
    if first_client is None:
        return
    connection = control.Connection(first_client)
    with (
        trio.move_on_after(FIRST_REQUEST_S),
        suppress(trio.ClosedResourceError, trio.BrokenResourceError, StratumError),
    ):
        # Closed: it was served already, and told.
        await connection.receive()
        await connection.send(failed(error))
