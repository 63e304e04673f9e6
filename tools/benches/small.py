"""Small objects from their first byte to their last: in through both doors, packed, listed, read at random, deleted.

Of each step: how many a second, and what one costs the owner in processor time and in bytes that it wrote to disk. At
rest: how large the catalog is, and what an object takes on all disks together. Every byte that is read is compared.
"""

import argparse
import json
import os
import random
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3
from rich.console import Console
from rich.table import Table

from stratumfs.limits import INLINE_BYTES_MAX
from tests.doors import Doors, opened_doors
from tools.benches._s3 import S3

BUCKET, PER_DIRECTORY = "small", 1000
PACKED_S, FREED_S = 600.0, 900.0
"""How long it is waited for what happens in the background."""
_KEYS = re.compile(rb"<Key>([^<]+)</Key>")
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Row:
    """cpu_us: of the owner; written: bytes that it sent to disk, by each byte of the objects."""

    step: str
    seconds: float
    per_second: float
    cpu_us: float
    written: float


@dataclass(frozen=True, slots=True)
class Rest:
    """Bytes on disk when nothing is under way. catalog: the database and its log; copies: of it, on devices."""

    when: str
    objects: int
    inline: int
    catalog: int
    copies: int
    shards: int

    @property
    def per_object(self) -> float:
        return (self.catalog + self.copies + self.shards) / max(1, self.objects)


class Bench:
    def __init__(self, doors: Doors, count: int, size: int, seed: int, tasks: int) -> None:
        self.rows: list[Row] = []
        self.rests: list[Rest] = []
        self._doors, self._count, self._size, self._tasks = doors, count, size, tasks
        self._random = random.Random(seed)  # noqa: S311
        self._seed = seed
        self._console = Console(stderr=True)
        pid = doors.pid
        assert pid is not None
        self._proc = Path(f"/proc/{pid}")
        self._folder = doors.mount / BUCKET

    def run(self) -> None:
        self._folder.mkdir()
        numbers = range(self._count)
        with self._step("put through S3", self._count):
            self._by_s3(numbers, lambda s3, at: s3.ask("PUT", self._key(at), self._data(at)))
        with self._step("create through the mount", self._count):
            for start in range(0, self._count, PER_DIRECTORY):
                self._path(start).parent.mkdir()
            self._by_threads(numbers, self._create)
        with self._step("pack the rest", 2 * self._count):
            self._wait(self._packed, PACKED_S)
        self._rest("packed")
        with self._step("list through S3", self._count):
            assert self._list() == 2 * self._count
        with self._step("list through the mount", self._count):
            assert sum(len(os.listdir(each)) for each in os.scandir(self._folder) if each.name != "s3") == self._count
        some = self._random.sample(numbers, min(self._count, 20_000))
        with self._step("read through S3, at random", len(some)):
            self._by_s3(some, self._get)
        with self._step("read through the mount, at random", len(some)):
            self._by_threads(some, self._read)
        with self._step("delete through S3, 1,000 a request", self._count):
            self._delete()
        with self._step("delete through the mount", self._count):
            self._by_threads(numbers, lambda at: self._path(at).unlink())
        with self._step("free", 2 * self._count):
            self._wait(self._freed, FREED_S)
        self._rest("deleted")

    # One object

    def _data(self, at: int) -> bytes:
        return blake3(b"%d %d" % (self._seed, at)).digest(self._size)

    def _key(self, at: int) -> str:
        return f"/{BUCKET}/s3/{at:07}"

    def _path(self, at: int) -> Path:
        return self._folder / f"{at // PER_DIRECTORY:04}" / f"{at:07}"

    def _create(self, at: int) -> None:
        self._path(at).write_bytes(self._data(at))

    def _read(self, at: int) -> None:
        assert self._path(at).read_bytes() == self._data(at), f"{self._path(at)} has other bytes"

    def _get(self, s3: S3, at: int) -> None:
        assert s3.ask("GET", self._key(at)) == self._data(at), f"{self._key(at)} has other bytes"

    # All of them

    def _by_s3(self, numbers: Sequence[int], each: Callable[[S3, int], object]) -> None:
        connections = [S3(self._doors) for _ in range(self._tasks)]

        def work(task: int) -> None:
            for at in numbers[task :: self._tasks]:
                each(connections[task], at)

        _beside(work, self._tasks)
        for connection in connections:
            connection.close()

    def _by_threads(self, numbers: Sequence[int], each: Callable[[int], object]) -> None:
        def work(task: int) -> None:
            for at in numbers[task :: self._tasks]:
                each(at)

        _beside(work, self._tasks)

    def _list(self) -> int:
        s3, found, after = S3(self._doors), 0, b""
        while True:
            query = f"list-type=2&start-after={after.decode().replace('/', '%2F')}"
            keys = _KEYS.findall(s3.ask("GET", f"/{BUCKET}", query=query))
            if not keys:
                return found
            found, after = found + sum(not key.endswith(b"/") for key in keys), keys[-1]

    def _delete(self) -> None:
        s3 = S3(self._doors)
        for start in range(0, self._count, 1000):
            keys = (f"<Object><Key>s3/{at:07}</Key></Object>" for at in range(start, min(start + 1000, self._count)))
            body = f"<Delete><Quiet>true</Quiet>{''.join(keys)}</Delete>"
            s3.ask("POST", f"/{BUCKET}", body.encode(), "delete=")
        s3.close()

    # What it costs

    @contextmanager
    def _step(self, name: str, count: int) -> Iterator[None]:
        began, cpu, written = time.perf_counter(), self._cpu_s(), self._written()
        yield
        took = time.perf_counter() - began
        row = Row(
            name,
            took,
            count / took,
            (self._cpu_s() - cpu) / count * 1e6,
            (self._written() - written) / (count * self._size),
        )
        self.rows.append(row)
        self._console.print(f"{name}: {took:.1f} s")

    def _cpu_s(self) -> float:
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def _written(self) -> int:
        lines = dict(line.split(": ") for line in (self._proc / "io").read_text().splitlines())
        return int(lines["write_bytes"])

    def _rest(self, when: str) -> None:
        status = self._doors.status()
        devices = self._doors.devices
        rest = Rest(
            when,
            status["inodes"],
            status["space"]["inline"],
            catalog=_used(self._doors.store / "catalog"),
            copies=sum(_used(device / "catalog") for device in devices),
            shards=sum(_used(device / "volumes") for device in devices),
        )
        self.rests.append(rest)

    # What is waited for

    def _packed(self, status: dict[str, Any]) -> bool:
        return not status["compaction"]["under_way"] and status["space"]["inline"] < INLINE_BYTES_MAX // 4

    def _freed(self, status: dict[str, Any]) -> bool:
        volumes = status["volumes"]
        return status["space"]["used"] == 0 and volumes["sealed"] + volumes["freed"] == 0

    def _wait(self, done: Callable[[dict[str, Any]], bool], seconds: float) -> None:
        late = time.monotonic() + seconds
        while not done(self._doors.status()):
            if time.monotonic() > late:
                raise TimeoutError("what should happen in the background did not")
            time.sleep(1)


def _beside(work: Callable[[int], None], tasks: int) -> None:
    """Run *work* in so many threads. Raises: the first error."""
    errors: list[BaseException] = []

    def run(task: int) -> None:
        try:
            work(task)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in range(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _used(folder: Path) -> int:
    """Bytes on disk below it."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def show(bench: Bench) -> None:
    steps = Table("step", "s", "a second", "owner's µs each", "bytes written by byte", title="small objects")
    for row in bench.rows:
        figures = f"{row.seconds:.1f}", f"{row.per_second:,.0f}", f"{row.cpu_us:.0f}", f"{row.written:.2f}"
        steps.add_row(row.step, *figures)
    rests = Table("at rest", "objects", "inline MiB", "catalog MiB", "copies MiB", "shards MiB", "bytes an object")
    for rest in bench.rests:
        sizes = (f"{size / (1 << 20):.1f}" for size in (rest.inline, rest.catalog, rest.copies, rest.shards))
        rests.add_row(rest.when, f"{rest.objects:,}", *sizes, f"{rest.per_object:,.0f}")
    console = Console()
    console.print(steps)
    console.print(rests)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/bench small", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="objects through each door")
    parser.add_argument("--size", type=int, default=4096, help="bytes of an object")
    parser.add_argument("--tasks", type=int, default=16, help="clients at once")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the temporary folder")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder, opened_doors(Path(folder), seconds=7200) as doors:
        bench = Bench(doors, given.count, given.size, given.seed, given.tasks)
        bench.run()
    if given.json:
        print(json.dumps({"steps": list(map(asdict, bench.rows)), "rests": list(map(asdict, bench.rests))}))
    else:
        show(bench)
    return 0
