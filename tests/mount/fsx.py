"""A file exerciser: random reads, writes, mappings, truncates, syncs and reopens of one file, against a bytearray.

Writes go through the handle, through one that appends, and past the kernel's cache (O_DIRECT).

Run as a program of its own (a mapping must not share a process with the mount): ``python fsx.py FILE SEED STEPS``. It
prints the history and exits with 1 at the first byte that differs.
"""

import mmap
import os
import random
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIZE_MAX = 5_000_000
"""More than four stripes."""
BLOCK = 4096


class Exerciser:
    """One file, and what it ought to hold."""

    def __init__(self, path: str, seed: int) -> None:
        self.path, self.random, self.model = path, random.Random(seed), bytearray()
        self.history: list[str] = []
        self.fd = os.open(path, os.O_CREAT | os.O_RDWR)

    def run(self, steps: int) -> None:
        kinds: list[Callable[[], None]] = [
            *[self.write] * 6,
            *[self.append] * 3,
            *[self.append_mode] * 2,
            *[self.direct_write] * 2,
            self.direct_read,
            *[self.read] * 4,
            *[self.map_read] * 2,
            *[self.map_write] * 3,
            *[self.truncate] * 2,
            self.sync,
            self.reopen,
            self.whole,
        ]
        for _ in range(steps):
            self.random.choice(kinds)()
        self.reopen()
        self.whole()
        os.close(self.fd)

    def write(self) -> None:
        offset = self.random.randrange(min(len(self.model) + 100_000, SIZE_MAX))
        self._write(offset, self._data())

    def append(self) -> None:
        """Sequential writes make full stripes."""
        if len(self.model) < SIZE_MAX:
            for _ in range(self.random.randrange(1, 12)):
                self._write(len(self.model), self._data())

    def append_mode(self) -> None:
        """By a handle of its own, which is closed before or after others write on."""
        if len(self.model) < SIZE_MAX:
            data = self._data()
            self._say(f"O_APPEND {len(data)}")
            fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            assert os.write(fd, data) == len(data)
            self.model.extend(data)
            os.close(fd)

    def direct_write(self) -> None:
        offset = self.random.randrange(len(self.model) // BLOCK + 2) * BLOCK
        with self._direct() as (fd, buffer):
            length = min(len(buffer), BLOCK * self.random.choice((1, 3, 32, 256)))
            buffer[:length] = self.random.randbytes(length)
            self._say(f"O_DIRECT write {offset} {length}")
            with memoryview(buffer)[:length] as data:
                assert os.pwrite(fd, data, offset) == length
            self._expect(offset, buffer[:length])

    def direct_read(self) -> None:
        offset = self.random.randrange(len(self.model) // BLOCK + 1) * BLOCK
        with self._direct() as (fd, buffer):
            self._say(f"O_DIRECT read {offset}")
            count = os.preadv(fd, [buffer], offset)
            self._check(offset, buffer[:count], len(buffer))

    def read(self) -> None:
        offset, length = self._range()
        self._say(f"read {offset} {length}")
        self._check(offset, os.pread(self.fd, length, offset), length)

    def map_read(self) -> None:
        if self.model:
            offset, length = self._range()
            self._say(f"map_read {offset} {length}")
            with mmap.mmap(self.fd, len(self.model), prot=mmap.PROT_READ) as view:
                self._check(offset, view[offset : offset + length], length)

    def map_write(self) -> None:
        if self.model:
            offset, length = self._range()
            data = self.random.randbytes(min(length, len(self.model) - offset))
            self._say(f"map_write {offset} {len(data)}")
            with mmap.mmap(self.fd, len(self.model)) as view:
                view[offset : offset + len(data)] = data
                if self.random.random() < 0.5:
                    view.flush()
            self.model[offset : offset + len(data)] = data

    def truncate(self) -> None:
        size = self.random.randrange(SIZE_MAX if self.random.random() < 0.3 else len(self.model) + 5000)
        self._say(f"truncate {size}")
        if self.random.random() < 0.5:
            os.ftruncate(self.fd, size)
        else:
            os.truncate(self.path, size)
        del self.model[size:]
        self.model.extend(bytes(size - len(self.model)))

    def sync(self) -> None:
        self._say("fsync")
        os.fsync(self.fd)

    def reopen(self) -> None:
        self._say("reopen")
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)

    def whole(self) -> None:
        self._say("whole")
        if os.stat(self.path).st_size != len(self.model):
            self._fail(f"size is {os.stat(self.path).st_size}, ought to be {len(self.model)}")
        if self.random.random() < 0.5:
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)
        self._check(0, os.pread(self.fd, SIZE_MAX * 2, 0), SIZE_MAX * 2)

    def _write(self, offset: int, data: bytes) -> None:
        self._say(f"write {offset} {len(data)}")
        assert os.pwrite(self.fd, data, offset) == len(data)
        self._expect(offset, data)

    @contextmanager
    def _direct(self) -> Iterator[tuple[int, mmap.mmap]]:
        """A handle that goes past the cache, and memory that is aligned as it wants."""
        fd = os.open(self.path, os.O_RDWR | os.O_DIRECT)
        with mmap.mmap(-1, 256 * BLOCK) as buffer:
            yield fd, buffer
        os.close(fd)

    def _expect(self, offset: int, data: bytes) -> None:
        self.model.extend(bytes(max(0, offset - len(self.model))))
        self.model[offset : offset + len(data)] = data

    def _data(self) -> bytes:
        return self.random.randbytes(self.random.choice((1, 100, 4096, 5000, 65_536, 131_072, 1 << 20)))

    def _range(self) -> tuple[int, int]:
        return self.random.randrange(len(self.model) + 1), self.random.choice((1, 5000, 70_000, 3_000_000))

    def _check(self, offset: int, found: bytes, length: int) -> None:
        expected = bytes(self.model[offset : offset + length])
        if found != expected:
            at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), -1)
            self._fail(f"at {offset} + {at}: lengths {len(found)} and {len(expected)}")

    def _say(self, step: str) -> None:
        self.history.append(step)

    def _fail(self, why: str) -> None:
        print(*self.history, why, sep="\n")
        sys.exit(1)


if __name__ == "__main__":
    Exerciser(sys.argv[1], int(sys.argv[2])).run(int(sys.argv[3]))
