"""Asks devices that may hang: each in a thread of its own, and nobody waits for it beyond a deadline. Blocking."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from stratumfs.errors import DeviceError, DeviceFailed
from stratumfs.limits import DEVICE_DEADLINE_S

K = TypeVar("K")
T = TypeVar("T")


class Silent(DeviceFailed):
    """It has not answered, and the call may still be under way."""


NO_ANSWER = Silent(f"no answer within {DEVICE_DEADLINE_S:.0f} s")


def ask(calls: Mapping[K, Callable[[], T]]) -> dict[K, T | DeviceError]:
    """What each of *calls* returns, or the DeviceError that it raises: NO_ANSWER if it is not back by the deadline.

    In their order. Raises: what else one of them raises. Threads that hang do not keep the process from ending.
    """
    found: dict[K, T | BaseException] = {}

    def one(key: K, call: Callable[[], T]) -> None:
        try:
            found[key] = call()
        except BaseException as error:
            found[key] = error

    threads = {key: threading.Thread(target=one, args=(key, call), daemon=True) for key, call in calls.items()}
    for thread in threads.values():
        thread.start()
    until = time.monotonic() + DEVICE_DEADLINE_S
    for thread in threads.values():
        thread.join(max(0.0, until - time.monotonic()))
    answers: dict[K, T | DeviceError] = {}
    for key in calls:
        answer = found.get(key, NO_ANSWER)
        if isinstance(answer, BaseException) and not isinstance(answer, DeviceError):
            raise answer
        answers[key] = answer
    return answers


def ask_one(call: Callable[[], T]) -> T:
    """As `ask`. Raises: also the DeviceError."""
    answer = ask({None: call})[None]
    if isinstance(answer, DeviceError):
        raise answer
    return answer
