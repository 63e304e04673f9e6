"""What comes out of a handler: an answer or an errno, never anything else, for pyfuse3 ends its session on that."""

import errno
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyfuse3
import structlog

from stratumfs.errors import DataError, DeviceError, StratumError
from stratumfs.fuse.errno import errno_of
from stratumfs.latency import Latencies

_log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class Counting(Protocol):
    """refusals  answers that were errors, by handler and errno"""

    @property
    def counters(self) -> Counter[str]: ...

    @property
    def seconds(self) -> Latencies: ...

    @property
    def refusals(self) -> Counter[tuple[str, int]]: ...


S = TypeVar("S", bound=Counting)


def guarded(
    handler: Callable[Concatenate[S, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Translate the store's errors; make EIO, a log line and a count of the unexpected; note how long it took."""
    name = handler.__name__

    @wraps(handler)
    async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        began = time.perf_counter()
        try:
            return await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError as error:
            self.refusals[name, error.errno] += 1
            raise
        except StratumError as error:
            if isinstance(error, DataError | DeviceError):
                self.counters["data_errors"] += 1
                _log.error("a request was refused", call=name, error=str(error))
            self.refusals[name, errno_of(error)] += 1
            raise pyfuse3.FUSEError(errno_of(error)) from error
        except Exception as error:
            self.counters["unexpected"] += 1
            self.refusals[name, errno.EIO] += 1
            _log.exception("a handler failed", call=name)
            raise pyfuse3.FUSEError(errno.EIO) from error
        finally:
            self.seconds.observe(name, time.perf_counter() - began)

    return wrapper
