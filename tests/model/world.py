"""The store that the examples of a run share, and how real calls are made and refused."""

import ctypes
import errno
import os
import random
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from tests.doors import Doors
from tests.model.compare import Ledger, check_mount, check_s3
from tests.model.reference import Reference
from tests.model.s3 import Reader

RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class World:
    """The store of a run, and the last buckets that were filled in it.

    restarts  the owner is also ended in the middle of an example
    """

    doors: Doors
    s3: Any
    reader: Reader
    restarts: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    finished: deque[tuple[str, Reference]] = field(default_factory=lambda: deque(maxlen=50))
    buckets: int = 0
    steps: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    def check(self, bucket: str, tree: Reference, page: int = 1000) -> None:
        check_s3(tree, bucket, self.reader, self.ledger, page)
        check_mount(tree, os.fsencode(self.doors.mount / bucket), self.ledger)

    def restart(self) -> None:
        self.outcomes["restart"] += 1
        self.doors.restart()
        self.reader.close()

    def check_after_restart(self) -> None:
        """What was seen before is there after the owner's life, to the last inode number and nanosecond."""
        self.restart()
        for bucket, tree in self.finished:
            self.check(bucket, tree)


@contextmanager
def opened_world(doors: Doors, *, restarts: bool = False) -> Iterator[World]:
    reader = Reader(doors)
    mask = os.umask(0)
    try:
        yield World(doors, doors.client(), reader, restarts)
    finally:
        os.umask(mask)
        reader.close()


def attempt(call: Callable[[], object]) -> str | None:
    """How a real call is refused: by an errno's name or an S3 code; None if it is not."""
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return None


def rename(source: bytes, target: bytes, flags: int) -> None:
    """renameat2(2). Raises: OSError."""
    if _libc.renameat2(-100, source, -100, target, flags):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def write_file(path: bytes, data: bytes, flags: int, mode: int = 0o644, offset: int | None = None) -> None:
    fd = os.open(path, os.O_WRONLY | flags, mode)
    try:
        if offset is None:
            assert os.write(fd, data) == len(data)
        else:
            assert os.pwrite(fd, data, offset) == len(data)
    finally:
        os.close(fd)


def some_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)
