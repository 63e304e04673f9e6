"""A file descriptor that is closed with its last user: its number cannot come to mean another file meanwhile."""

import os


class Descriptor:
    """Owns *number*."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        number, self.number = self.number, -1
        if number >= 0:
            os.close(number)

    __del__ = close
