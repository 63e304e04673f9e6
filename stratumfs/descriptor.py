"""A file descriptor that is closed with its last user: its number cannot come to mean another file meanwhile."""

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol

from trio.lowlevel import in_trio_run


class Descriptor:
    """Owns *number*."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        number, self.number = self.number, -1
        if number >= 0:
            with suppress(OSError):  # of a disk that is gone; what counts was synced
                os.close(number)

    def __del__(self) -> None:
        """The last user may be the loop, which waits for no disk: close(2) may hang."""
        number, self.number = self.number, -1
        if number >= 0:
            last = Descriptor(number)
            close_soon([last]) if in_trio_run() else last.close()


class Closable(Protocol):
    """A file, or what holds several."""

    def close(self) -> None: ...


def close_soon(files: Iterable[Closable]) -> None:
    """Let go of *files*, each in a thread that nobody waits for: of a disk that hangs close(2) may hang too.

    Where there is no thread to be had, here: better than never.
    """
    for file in files:
        try:
            threading.Thread(target=file.close, name="close", daemon=True).start()
        except RuntimeError:
            file.close()
