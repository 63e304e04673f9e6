"""Asks devices that may hang: each in a thread of its own, and nobody waits for it beyond a deadline. Blocking."""

import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from stratumfs.errors import DeviceError, DeviceFailed
from stratumfs.limits import DEVICE_DEADLINE_S

K = TypeVar("K")
T = TypeVar("T")


class Silent(DeviceFailed):
    """It has not answered, and the call may still be under way."""


NO_ANSWER = Silent(f"no answer within {DEVICE_DEADLINE_S:.0f} s")


_stuck: dict[Any, threading.Thread] = {}
"""By their keys, calls that were not back by the deadline."""


def ask(calls: Mapping[K, Callable[[], T]], enough: Callable[[T], bool] | None = None) -> dict[K, T | DeviceError]:
    """What each of *calls* returns, or the DeviceError that it raises: NO_ANSWER if it is not back by the deadline.

    Nobody is asked again, and waited for once more, while an earlier call of the same key hangs. *enough*: an answer
    after which nobody is waited for. In the order of *calls*. Raises: what else one of them raises. Threads that hang
    do not keep the process from ending.
    """
    said = SimpleQueue[tuple[K, T | BaseException]]()

    def one(key: K, call: Callable[[], T]) -> None:
        try:
            said.put((key, call()))
        except BaseException as error:
            said.put((key, error))

    waiting: dict[K, threading.Thread] = {}
    for key, call in calls.items():
        if key is None or not hangs(key):
            waiting[key] = threading.Thread(target=one, args=(key, call), daemon=True)
            waiting[key].start()
    answers: dict[K, T | DeviceError] = dict.fromkeys(calls, NO_ANSWER)
    until = time.monotonic() + DEVICE_DEADLINE_S
    while waiting:
        try:
            key, answer = said.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            _stuck.update(waiting)
            break
        del waiting[key]
        _stuck.pop(key, None)
        if isinstance(answer, BaseException):
            if not isinstance(answer, DeviceError):
                raise answer
            answers[key] = answer
            continue
        answers[key] = answer
        if enough is not None and enough(answer):
            break
    return answers


def hangs(key: Any) -> bool:
    """Whether an earlier call of *key* was not back by the deadline, and is not yet. Does not block."""
    thread = _stuck.get(key)
    return thread is not None and thread.is_alive()


def ask_one(call: Callable[[], T]) -> T:
    """As `ask`. Raises: also the DeviceError."""
    answer = ask({None: call})[None]
    if isinstance(answer, DeviceError):
        raise answer
    return answer
