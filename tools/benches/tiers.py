"""Moves to a cold tier and back: how fast, beside boto3 that copies the same bytes, and what readers notice of them.

The store has six devices, 4+2, and its cold tier in a SeaweedFS on loopback. In each round new files are written, and
moved to the cold tier and back, while nobody uses the store; boto3 uploads the same files to the same service, one
after the other as its ``upload_file`` does it, and downloads them to the same disk, and syncs them. What the store
uploads it encrypts, reads back and compares; what it recalls it decrypts, verifies, codes and syncs.

Then small objects are read at both doors, a few hundred in a second: while nobody else is there, and while the engine
carries out what a pin decided, to the cold tier and back; and while somebody moves by hand.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median, quantiles

import boto3
from rich.console import Console
from rich.table import Table

from stratumfs.owner.messages import Move, TierPin, TierStatus
from tests.doors import REGION, Doors
from tests.remotes import opened_cold, write_keys
from tools.benches._s3 import S3
from tools.measure.endpoint import Endpoint
from tools.measure.load import Cpu, Load, clocked
from tools.measure.processes import cpu_s
from tools.measure.report import table, write_json
from tools.measure.row import OURS, Row, Target
from tools.measure.setting import MB, measured
from tools.measure.systems import BUCKET, seaweed

BOTO3 = "boto3"
RATE_MIN = 0.8
LATENCY_MAX = 1.5
MIB = 1 << 20
SIZES = {"large": 16 * MIB, "small": 64 << 10}
"""Of the files of a row."""
_SMALL_PART = 8
"""Small files are so many times fewer bytes: boto3 has a request for each."""
_HOT, _HOT_SIZE = 500, 64 << 10
_PAUSE_S = 0.004
_QUIET_S = 10.0
_LOOK_S, _TICK_S = 0.2, 0.2
_FULL_ROUNDS = 5


def main(argv: list[str]) -> int:
    given = _parsed(argv)
    console = Console(width=None if sys.stdout.isatty() else 160)
    with (
        tempfile.TemporaryDirectory(dir=given.folder, prefix="stratumfs-bench-") as folder,
        _opened(Path(folder)) as (doors, service),
    ):
        scene = Scene(Path(folder), doors, service, given.seed, given.mib * MIB)
        rows = _rates(scene, given.rounds, console) if "rates" in given.parts else []
        found = _latencies(scene, given.rounds, console) if "latencies" in given.parts else {}
    if rows:
        console.print(table(rows))
    if found:
        console.print(_latency_table(found))
    if given.json is not None and rows:
        write_json(given.json, rows, given.seed)
    met = all(target.holds(row.ratio(target) or 0.0) for row in rows for target in row.targets)
    return 0 if met and all(_met(each, what) for each in found.values() for what in each.rounds if _counts(what)) else 1


def _parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench tiers", description=__doc__)
    parser.add_argument("parts", nargs="*", default=["rates", "latencies"], help="rates, latencies; default: both")
    parser.add_argument("--mib", type=int, default=512, help="of the large files of a round")
    parser.add_argument("--rounds", type=int, default=_FULL_ROUNDS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write every sample of the rates there")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the temporary folder")
    return parser.parse_args(argv)


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[Doors, Endpoint]]:
    (folder / "service").mkdir()
    (folder / "store").mkdir()
    with seaweed(folder / "service", mount=False) as system:
        assert system.endpoint is not None
        write_keys(folder / "keys", system.endpoint)
        url = f"http://{system.endpoint.host}"
        with opened_cold(folder / "store", url, folder / "keys", seconds=24 * 3600.0) as doors:
            with (doors.store / "stratumfs.toml").open("a") as settings:
                settings.write(f"\n[tiering]\ntick_s = {_TICK_S}\n")  # a pin is heeded at once
            doors.restart()
            yield doors, system.endpoint


class Scene:
    """Files on the disk and in the store, and who copies them. *size*: bytes of the large files of a round."""

    def __init__(self, folder: Path, doors: Doors, service: Endpoint, seed: int, size: int) -> None:
        self.doors, self.size = doors, size
        self._folder, self._seed = folder, seed
        self._remote = boto3.session.Session().client(
            "s3",
            endpoint_url=f"http://{service.host}",
            region_name=REGION,
            aws_access_key_id=service.access_key,
            aws_secret_access_key=service.secret_key,
        )

    def fill(self, name: str, size: int, total: int) -> None:
        """New files, in a bucket of the store and in a folder beside it; both are synced."""
        rng = random.Random(f"{self._seed} {name}")  # noqa: S311 - repeatable is the point
        for folder in (self.doors.mount / name, self.source(name)):
            folder.mkdir()
        for number in range(total // size):
            data = rng.randbytes(size)
            (self.source(name) / f"{number}").write_bytes(data)
            (self.doors.mount / name / f"{number}").write_bytes(data)
        os.sync()

    def source(self, name: str) -> Path:
        return self._folder / f"source-{name}"

    def move(self, name: str, tier: str) -> int:
        """Returns bytes."""
        found = self.doors.ask(Move(tier, bucket=name, reason="measured"))
        assert (found["outcome"], found["bytes_unreadable"]) == ("done", 0), found
        return int(found["bytes"])

    def unpinned_move(self, name: str, tier: str) -> int:
        self.doors.ask(TierPin(None, bucket=name))
        return self.move(name, tier)

    def pin(self, name: str, tier: str) -> None:
        """Have the engine move it, and wait until all of it is there."""
        total = sum(path.stat().st_size for path in self.source(name).iterdir())
        wanted = self._used(tier) + total
        self.doors.ask(TierPin(tier, bucket=name))
        while self._used(tier) < wanted:
            time.sleep(_LOOK_S)

    def upload(self, name: str) -> int:
        """As `move`, by boto3."""
        paths = sorted(self.source(name).iterdir())
        for path in paths:
            self._remote.upload_file(str(path), BUCKET, f"{name}/{path.name}")
        return sum(path.stat().st_size for path in paths)

    def download(self, name: str) -> int:
        target = self._folder / f"back-{name}"
        target.mkdir()
        total = 0
        for path in self.source(name).iterdir():
            self._remote.download_file(BUCKET, f"{name}/{path.name}", str(target / path.name))
            with (target / path.name).open("rb") as file:
                os.fsync(file.fileno())
            total += path.stat().st_size
        return total

    def clear(self, name: str) -> None:
        """Take it away everywhere but in the service's own volumes."""
        for folder in (self.doors.mount / name, self.source(name), self._folder / f"back-{name}"):
            for path in folder.iterdir() if folder.exists() else ():
                path.unlink()
        for page in self._remote.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{name}/"):
            for each in page.get("Contents", ()):
                self._remote.delete_object(Bucket=BUCKET, Key=each["Key"])

    def _used(self, tier: str) -> int:
        [used] = [each["used"] for each in self.doors.ask(TierStatus())["tiers"] if each["name"] == tier]
        return int(used)

    def owner_cpu_s(self) -> float:
        assert self.doors.pid is not None
        return cpu_s(self.doors.pid)


def _rates(scene: Scene, rounds: int, console: Console) -> list[Row]:
    rows = []
    for kind, size in SIZES.items():
        total = scene.size if kind == "large" else scene.size // _SMALL_PART
        title = f"{total // MIB} MiB in files of {size >> 10} KiB"
        there = _row(scene, f"demote-{kind}", f"to cold: {title}", partial(scene.move, tier="cold"), scene.upload)
        back = _row(scene, f"recall-{kind}", f"back: {title}", partial(scene.move, tier="hot"), scene.download)
        for round_ in range(rounds):
            console.print(f"{title}: round {round_ + 1} of {rounds}")
            scene.fill(_name(there, round_), size, total)
            for row in (there, back):
                row.run(round_)
            scene.clear(_name(there, round_))
        rows += [there, back]
    return rows


def _name(row: Row, round_: int) -> str:
    return f"{row.name.rpartition('-')[2]}{round_}"


def _row(scene: Scene, name: str, title: str, ours: Callable[[str], int], theirs: Callable[[str], int]) -> Row:
    row = Row(name, title, "MB", {}, [Target(BOTO3, RATE_MIN)])

    def copied(call: Callable[[str], int], cpu: Cpu, round_: int) -> tuple[float, Load]:
        found: list[Load] = []
        with clocked(cpu, found):
            count = call(_name(row, round_))
        return count / MB, found[0]

    row.lanes = {
        OURS: measured(partial(copied, ours, scene.owner_cpu_s)),
        BOTO3: measured(partial(copied, theirs, time.process_time)),
    }
    return row


# What readers notice


QUIET, BY_ENGINE, BY_HAND = "nobody else", "the engine moves", "somebody moves by hand"
WAYS = "to cold", "back"


@dataclass
class Noticed:
    """Of one door: seconds of each read, by round, for each of what happens meanwhile."""

    rounds: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))

    def times(self, what: str, of: Callable[[Sequence[float]], float]) -> float:
        """How many times as long as with nobody else: the median of the rounds."""
        return median(of(busy) / of(quiet) for busy, quiet in zip(self.rounds[what], self.rounds[QUIET], strict=True))

    def typical(self, what: str, of: Callable[[Sequence[float]], float]) -> float:
        return median(map(of, self.rounds[what]))


def p99(found: Sequence[float]) -> float:
    return quantiles(found, n=100)[98]


def _latencies(scene: Scene, rounds: int, console: Console) -> dict[str, Noticed]:
    found = {door: Noticed() for door in ("GET", "read in the mount")}
    readers = Readers(scene)
    for round_ in range(rounds):
        console.print(f"latencies: round {round_ + 1} of {rounds}")
        name = f"latency{round_}"
        scene.fill(name, SIZES["large"], scene.size // 2)
        acts: dict[str, Callable[[], object]] = {QUIET: partial(time.sleep, _QUIET_S)}
        for way, tier in zip(WAYS, ("cold", "hot"), strict=True):
            acts[f"{BY_ENGINE} {way}"] = partial(scene.pin, name, tier)
        for way, tier in zip(WAYS, ("cold", "hot"), strict=True):
            acts[f"{BY_HAND} {way}"] = partial(scene.unpinned_move, name, tier)
        for what, act in acts.items():
            for door, seconds in readers.during(act).items():
                found[door].rounds[what].append(seconds)
        scene.clear(name)
    return found


class Readers:
    """One at each door, of small objects in the hot tier, drawn anew each time."""

    def __init__(self, scene: Scene) -> None:
        self._place, self._doors = scene.doors.mount / "hot", scene.doors
        self._rng = random.Random(1)  # noqa: S311 - repeatable is the point
        self._place.mkdir()
        self._held = [self._rng.randbytes(_HOT_SIZE) for _ in range(_HOT)]
        for number, data in enumerate(self._held):
            (self._place / f"{number}").write_bytes(data)

    def during(self, act: Callable[[], object]) -> dict[str, list[float]]:
        """Seconds of each read, by door. Raises: what *act* raises, or a reader met."""
        over = threading.Event()
        with ThreadPoolExecutor(2) as threads:
            got = threads.submit(self._get, over)
            read = threads.submit(self._read, over)
            try:
                act()
            finally:
                over.set()
            return {"GET": got.result(), "read in the mount": read.result()}

    def _get(self, over: threading.Event) -> list[float]:
        client, found = S3(self._doors), list[float]()
        while not over.wait(_PAUSE_S):
            number = self._rng.randrange(_HOT)
            began = time.perf_counter()
            data = client.ask("GET", f"/hot/{number}")
            found.append(time.perf_counter() - began)
            assert data == self._held[number], f"object {number} has other bytes"
        client.close()
        return found

    def _read(self, over: threading.Event) -> list[float]:
        """What the kernel has of it is dropped before, else nobody would ask the store."""
        found: list[float] = []
        while not over.wait(_PAUSE_S):
            number = self._rng.randrange(_HOT)
            file = os.open(self._place / f"{number}", os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            began = time.perf_counter()
            data = os.pread(file, _HOT_SIZE, 0)
            found.append(time.perf_counter() - began)
            os.close(file)
            assert data == self._held[number], f"file {number} has other bytes"
        return found


def _counts(what: str) -> bool:
    """Whether it is held against the bound."""
    return what != QUIET


def _met(noticed: Noticed, what: str) -> bool:
    return all(noticed.times(what, of) <= LATENCY_MAX for of in (median, p99))


def _latency_table(found: Mapping[str, Noticed]) -> Table:
    made = Table(title=f"latency of reads of {_HOT_SIZE >> 10} KiB in the hot tier; medians of the rounds")
    for column in ("", "meanwhile", "median, ms", "p99, ms", "times quiet", "p99, times quiet", ""):
        made.add_column(column, justify="right" if column.endswith(("ms", "quiet")) else "left")
    for door, noticed in found.items():
        for number, what in enumerate(noticed.rounds):
            verdict = ""
            if _counts(what):
                met = _met(noticed, what)
                verdict = f"at most {LATENCY_MAX}: " + ("[green]met[/green]" if met else "[red]missed[/red]")
            made.add_row(
                "" if number else door,
                what,
                *(f"{noticed.typical(what, of) * 1e3:.2f}" for of in (median, p99)),
                *(f"{noticed.times(what, of):.2f}" for of in (median, p99)),
                verdict,
            )
        made.add_section()
    return made
