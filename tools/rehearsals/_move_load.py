"""Users of both doors while bytes move under them: each knows what must be there, and looks."""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.doors import Doors
from tests.model.s3 import Reader
from tools.rehearsals._tree_sample import Entry, digest

BUSY = "busy"
"""The directory in which they write, in each bucket."""
_FILES_MAX = 40
_SIZES = 100, 20_000, 60_000, 300_000, 2_500_000


class Wrong(Exception):
    """Somebody saw other bytes than there should be."""


class Load:
    """Readers of *entries*, which lie in both buckets, and writers, who have files of their own beside them.

    What a writer has written through one door he reads through the other at once.

    read_from  the buckets that are read and copied from, if not both
    counts     what was done, and `slowest` how many seconds it took at most
    """

    def __init__(self, doors: Doors, entries: list[Entry], by_mount: str, by_s3: str, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}
        self.read_from: tuple[str, ...] = (by_mount, by_s3)
        self._doors, self._by_mount, self._by_s3 = doors, by_mount, by_s3
        self._files = [entry for entry in entries if entry.is_file]
        self._seed = seed
        self._stop = threading.Event()
        self._errors: list[Exception] = []
        self._mine: dict[str, dict[str, bytes]] = {by_mount: {}, by_s3: {}}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Raises: what any of them met."""
        self._stop.clear()
        self._seed += 1
        tasks = self._read_mount, self._read_s3, self._write_mount, self._write_s3
        threads = [
            threading.Thread(target=self._run, args=(task, random.Random(f"{self._seed} {number}")))  # noqa: S311
            for number, task in enumerate(tasks)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()
        if self._errors:
            raise self._errors[0]

    def check(self) -> None:
        """All that the writers know is so, through both doors. Raises: Wrong."""
        reader = Reader(self._doors)
        for bucket, mine in self._mine.items():
            folder = self._doors.mount / bucket / BUSY
            found = set(os.listdir(folder)) if folder.exists() else set()
            if found != set(mine):
                raise Wrong(f"{folder} has {sorted(found ^ set(mine))[:5]} too many or too few")
            for name, data in mine.items():
                self._equal(f"{bucket}/{name} in the mount", (folder / name).read_bytes(), data)
                self._equal(f"{bucket}/{name} in S3", reader.get(bucket, f"{BUSY}/{name}".encode()).data, data)
        reader.close()

    def clear(self) -> None:
        """Take away what the writers have made."""
        for bucket, mine in self._mine.items():
            for name in mine:
                (self._doors.mount / bucket / BUSY / name).unlink()
            mine.clear()
            folder = self._doors.mount / bucket / BUSY
            if folder.exists():
                folder.rmdir()

    def _run(self, task: Callable[[random.Random], None], rng: random.Random) -> None:
        try:
            task(rng)
        except Exception as error:
            self._errors.append(error)
            self._stop.set()

    def _read_mount(self, rng: random.Random) -> None:
        while not self._stop.is_set():
            entry, bucket = rng.choice(self._files), rng.choice(self.read_from)
            with self._counted("read through the mount"):
                data = (self._doors.mount / bucket / entry.path).read_bytes()
            self._same(entry, f"{bucket} in the mount", data)

    def _read_s3(self, rng: random.Random) -> None:
        reader = Reader(self._doors)
        while not self._stop.is_set():
            entry, bucket = rng.choice(self._files), rng.choice(self.read_from)
            with self._counted("read through S3"):
                data = reader.get(bucket, os.fsencode(entry.path)).data
            self._same(entry, f"{bucket} in S3", data)
        reader.close()

    def _write_mount(self, rng: random.Random) -> None:
        folder = self._doors.mount / self._by_mount / BUSY
        folder.mkdir(exist_ok=True)
        reader, mine = Reader(self._doors), self._mine[self._by_mount]
        while not self._stop.is_set():
            name = f"f{rng.randrange(_FILES_MAX)}"
            with self._counted("written through the mount"):
                mine[name] = _change(rng, folder / name, mine.get(name))
            if rng.random() < 0.2:
                (folder / name).unlink()
                del mine[name]
                self.counts["deleted through the mount"] += 1
                if reader.get(self._by_mount, f"{BUSY}/{name}".encode()).status != 404:
                    raise Wrong(f"{name} was unlinked, and S3 shows it")
            else:
                got = reader.get(self._by_mount, f"{BUSY}/{name}".encode())
                self._equal(f"{name}, written through the mount, in S3", got.data, mine[name])
        reader.close()

    def _write_s3(self, rng: random.Random) -> None:
        folder = self._doors.mount / self._by_s3 / BUSY
        client, mine = self._doors.client(), self._mine[self._by_s3]
        while not self._stop.is_set():
            name = f"k{rng.randrange(_FILES_MAX)}"
            at = {"Bucket": self._by_s3, "Key": f"{BUSY}/{name}"}
            choice = rng.random()
            if choice < 0.3:  # shares bytes that may be moving
                entry = rng.choice(self._files)
                client.copy_object(**at, CopySource={"Bucket": self._by_s3, "Key": entry.path})
                mine[name] = (folder / name).read_bytes()
                self._same(entry, f"the copy {name} in the mount", mine[name])
                self.counts["copied through S3"] += 1
            elif choice < 0.5:
                client.delete_object(**at)
                mine.pop(name, None)
                if (folder / name).exists():
                    raise Wrong(f"{name} was deleted, and the mount shows it")
                self.counts["deleted through S3"] += 1
            else:
                mine[name] = rng.randbytes(rng.choice(_SIZES))
                with self._counted("written through S3"):
                    client.put_object(**at, Body=mine[name])
                self._equal(f"{name}, put through S3, in the mount", (folder / name).read_bytes(), mine[name])

    @contextmanager
    def _counted(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.slowest[what] = max(time.monotonic() - began, self.slowest.get(what, 0.0))
        self.counts[what] += 1

    def _same(self, entry: Entry, where: str, data: bytes) -> None:
        if len(data) != entry.size or digest(data) != entry.digest:
            raise Wrong(f"{entry.path} of {where}: {len(data)} bytes, other than in the source, {entry.size}")

    def _equal(self, what: str, found: bytes, expected: bytes) -> None:
        if found != expected:
            raise Wrong(f"{what}: {len(found)} bytes, {digest(found)}, not {len(expected)}, {digest(expected)}")


def _change(rng: random.Random, path: Path, old: bytes | None) -> bytes:
    """Write a file anew, or patch it, or cut it. Returns what it holds then."""
    data = rng.randbytes(rng.choice(_SIZES))
    if old is None or rng.random() < 0.4:
        path.write_bytes(data)
        return data
    if rng.random() < 0.3:
        size = rng.randrange(len(old) + 1)
        os.truncate(path, size)
        return old[:size]
    at = rng.randrange(len(old) + 1)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return old[:at] + data + old[at + len(data) :]
