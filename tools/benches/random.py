"""Random access in a large file through the mount: what overwrites cost on the shards, and what they leave for readers.

A file is written in order and read back; then 4 KiB are overwritten at random places, with an fsync each 64; then it is
read again, at once and when the background has kept its extent map short. Every byte is compared with a model.

Ends with 1 if a bound is missed.
"""

import argparse
import json
import os
import random
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.doors import Doors, free_port

BLOCK, MIB = 4096, 1 << 20
SYNC_EACH = 64
QUIET_S = 900.0
BOUNDS = {
    "sequential write: bytes on shards by byte": 1.7,
    "random overwrites, and in the background: bytes on shards by byte": 3.0,
    "as written by quiet: times as long": 2.0,
}
"""At most."""


class Bench:
    def __init__(self, doors: Doors, metrics: str, size: int, seed: int) -> None:
        self.rows: dict[str, float] = {}
        self._doors, self._metrics = doors, metrics
        self._random = random.Random(seed)  # noqa: S311
        self._model = bytearray(b"".join(self._random.randbytes(MIB) for _ in range(size // MIB)))
        folder = doors.mount / "random"
        folder.mkdir()
        self._path = folder / "file"

    def run(self, overwrites: int) -> None:
        self._measure("sequential write", self._write, len(self._model))
        self._read("read, as written")
        self._measure("random overwrites", lambda: self._overwrite(overwrites), overwrites * BLOCK)
        self._read("read, just overwritten")
        before = self._counters()
        self._wait_quiet()
        self._tell("in the background", before, overwrites * BLOCK)
        self._read("read, when all is quiet")
        self.rows["random overwrites, and in the background: bytes on shards by byte"] = (
            self.rows["random overwrites: bytes on shards by byte"]
            + self.rows["in the background: bytes on shards by byte"]
        )
        self.rows["as written by quiet: times as long"] = (
            self.rows["read, as written: MB/s"] / self.rows["read, when all is quiet: MB/s"]
        )

    def _write(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            for at in range(0, len(self._model), MIB):
                file.write(self._model[at : at + MIB])
            os.fsync(file.fileno())

    def _overwrite(self, count: int) -> None:
        with self._path.open("r+b", buffering=0) as file:
            for number in track(range(count), "overwrites", console=Console(stderr=True)):
                at = self._random.randrange(len(self._model) // BLOCK) * BLOCK
                data = self._random.randbytes(BLOCK)
                self._model[at : at + BLOCK] = data
                os.pwrite(file.fileno(), data, at)
                if number % SYNC_EACH == SYNC_EACH - 1:
                    os.fsync(file.fileno())
            os.fsync(file.fileno())

    def _read(self, name: str) -> None:
        """By the MiB, none of it in the mount's page cache."""
        with self._path.open("rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            began = time.perf_counter()
            found = bytearray()
            while data := file.read(MIB):
                found += data
            took = time.perf_counter() - began
        assert found == self._model, f"{name}: other bytes"
        self.rows[f"{name}: MB/s"] = len(found) / took / 1e6

    def _measure(self, name: str, step: Callable[[], object], count: int) -> None:
        before, began = self._counters(), time.perf_counter()
        step()
        self.rows[f"{name}: MB/s"] = count / (time.perf_counter() - began) / 1e6
        self._tell(name, before, count)

    def _tell(self, name: str, before: tuple[float, float], count: int) -> None:
        shards, all_ = (now - then for now, then in zip(self._counters(), before, strict=True))
        self.rows[f"{name}: bytes on shards by byte"] = shards / count
        self.rows[f"{name}: other bytes to disk by byte"] = max(0.0, all_ - shards) / count

    def _counters(self) -> tuple[float, float]:
        """Bytes that stripes became on shards; that the owner sent to disk, the catalog and its copies too."""
        os.sync()
        with urllib.request.urlopen(f"http://{self._metrics}/metrics", timeout=60) as answer:
            found = list(text_string_to_metric_families(answer.read().decode()))
        shards = sum(s.value for m in found for s in m.samples if s.name == "stratumfs_shard_bytes_total")
        lines = dict(line.split(": ") for line in Path(f"/proc/{self._doors.pid}/io").read_text().splitlines())
        return shards, float(lines["write_bytes"])

    def _wait_quiet(self) -> None:
        """Until nothing has been under way for a while."""
        late, quiet_since = time.monotonic() + QUIET_S, time.monotonic()
        while time.monotonic() - quiet_since < 60:
            if time.monotonic() > late:
                raise TimeoutError("the background does not come to an end")
            if self._doors.status()["compaction"]["under_way"]:
                quiet_since = time.monotonic()
            time.sleep(1)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/bench random", description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="MiB of the file")
    parser.add_argument("--overwrites", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the temporary folder")
    given = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        doors, metrics = Doors(Path(folder)), f"127.0.0.1:{free_port()}"
        try:
            with doors.within(7200):
                doors.make()
                with (doors.store / "stratumfs.toml").open("a") as file:
                    file.write(f'\n[metrics]\nlisten = "{metrics}"\n')
                doors.start()
                bench = Bench(doors, metrics, given.size * MIB, given.seed)
                bench.run(given.overwrites)
                doors.stop()
        finally:
            doors.destroy()
    if given.json:
        print(json.dumps(bench.rows))
    else:
        table = Table("what", "", "at most", title="random access")
        for name, value in bench.rows.items():
            table.add_row(name, f"{value:,.2f}", f"{BOUNDS[name]:g}" if name in BOUNDS else "")
        Console().print(table)
    return 0 if all(bench.rows[name] <= most for name, most in BOUNDS.items()) else 1
