"""Wakes a loop that reads a session in which there is nothing to read.

pyfuse3 waits until the session is readable and then reads it. If the one request in it is taken back in between, for
its process was killed, that read blocks until somebody makes another request, and it holds Python's lock: not only the
mount stands still but everything in this process. (Kill three processes that work on a mount: one time in a few.)
pyfuse3 goes on where the read is interrupted, so a timer of the kernel interrupts it: the loop sets it back again and
again, and once it does not, the timer sends its thread a signal that does nothing.

No thread of ours could do that, for it would need Python's lock; nor may the handler be Python's.
"""

import ctypes
import signal
import threading

import trio

from stratumfs.limits import LOOP_STALL_S

_SIGEV_THREAD_ID = 4
_CLOCK_MONOTONIC = 1
_NS = 10**9
_SIGNAL = signal.SIGRTMIN + 9
_libc = ctypes.CDLL(None, use_errno=True)


class _Event(ctypes.Structure):
    """struct sigevent of Linux; the thread's id is a member of a union."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread", ctypes.c_int),
        ("padding", ctypes.c_char * 48),
    )


class _Times(ctypes.Structure):
    """struct itimerspec."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("interval_s", "interval_ns", "first_s", "first_ns"))


class Waker:
    """Interrupts system calls of the thread that made it, each LOOP_STALL_S that passes without ``alive``."""

    def __init__(self) -> None:
        # abs(3) is a function of an int that does nothing. Not restarting calls is the purpose.
        _libc.signal.restype = ctypes.c_void_p
        _libc.signal(_SIGNAL, ctypes.cast(_libc.abs, ctypes.c_void_p))
        _libc.siginterrupt(_SIGNAL, 1)
        event = _Event(signal=_SIGNAL, notify=_SIGEV_THREAD_ID, thread=threading.get_native_id())
        self._timer = ctypes.c_void_p()
        if _libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer)):
            raise OSError(ctypes.get_errno(), "timer_create")
        seconds, rest = divmod(int(LOOP_STALL_S * _NS), _NS)
        self._times = _Times(seconds, rest, seconds, rest)

    def alive(self) -> None:
        """The thread is not in a system call; begin to count anew."""
        _libc.timer_settime(self._timer, 0, ctypes.byref(self._times), None)

    def close(self) -> None:
        _libc.timer_delete(self._timer)


async def keep_awake() -> None:
    """Say that the loop is alive, until cancelled."""
    waker = Waker()
    try:
        while True:
            waker.alive()
            await trio.sleep(LOOP_STALL_S / 2)
    finally:
        waker.close()
