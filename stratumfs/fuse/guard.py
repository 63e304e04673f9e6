"""What comes out of a handler: an answer or an errno, never anything else, for pyfuse3 ends its session on that."""

import errno
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import pyfuse3
import structlog

from stratumfs.errors import DataError, DeviceError, StratumError
from stratumfs.fuse.errno import errno_of

_log = structlog.get_logger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class Counting(Protocol):
    @property
    def counters(self) -> Counter[str]: ...


S = TypeVar("S", bound=Counting)


def guarded(
    handler: Callable[Concatenate[S, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Translate the store's errors; make EIO, a log line and a count of the unexpected."""

    @wraps(handler)
    async def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await handler(self, *args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except StratumError as error:
            if isinstance(error, DataError | DeviceError):
                self.counters["data_errors"] += 1
                _log.error("a request was refused", call=handler.__name__, error=str(error))
            raise pyfuse3.FUSEError(errno_of(error)) from error
        except Exception as error:
            self.counters["unexpected"] += 1
            _log.exception("a handler failed", call=handler.__name__)
            raise pyfuse3.FUSEError(errno.EIO) from error

    return wrapper
