"""A file descriptor that is closed with its last user: its number cannot come to mean another file meanwhile."""

import os
from contextlib import suppress


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

    __del__ = close
