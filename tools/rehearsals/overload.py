"""Ask more of a store than it can do, and look whether anything is lost, refused without need, or kept in memory.

Rounds of six kinds, in an order of the seed's, while writers and readers work at both doors: 200 large uploads at once;
2,000 connections that say nothing; a device ten times slower than the others; no file descriptor to be had; and,
of a store of its own, devices that are full, and the disk of its catalog. Nobody is struck, whoever is refused is told
so by the right code, and all goes on when what is wanting is there again. Every file and object is compared with what
was promised. A run is known by its folder: the same folder goes on where it was stopped.
"""

import argparse
import errno
import itertools
import os
import random
import resource
import shutil
import socket
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.progress import Progress

from tests.doors import Doors, opened_doors, run
from tools.measure.endpoint import UNSIGNED, Endpoint
from tools.measure.load import download, upload
from tools.rehearsals._kill_load import digest
from tools.rehearsals.devices import DEADLINE_S, STILL, STORE, Lost, Rehearsal, rehearsal

MIB = 1 << 20
CROWD, CROWD_BYTES, CROWDED = 200, 8 * MIB, "crowded"
"""Uploads at once, and what each brings."""
RESIDENT_MIB_MAX = 700
"""Of the owner, whatever is asked of it; 256 MiB of it may be what a mount has not written yet."""
IDLE = 2000
"""Connections that say nothing."""
ANSWERS = 5
"""Of each writer and reader, that a round waits for where it measures how fast they are."""
SLOW_MS = 10
"""What a device takes longer for each call, which takes others about a millisecond."""
SLOW_READ_SHARE = 0.5
DESCRIPTORS_S = 10.0
"""Without one."""
REFUSED = {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.INSUFFICIENT_STORAGE}
FULL_MIB, FULL_STORE_MIB = 1000, 96
"""Of each device, and of a disk of the catalog that is full before they are."""
LARGE, SMALL = (3 * MIB, 200_000, 3000), (12_000,)
"""What files have."""
FILLINGS = 3
KINDS = ("uploads", "connections", "slow device", "descriptors", "full devices", "full catalog")


class Overload(Rehearsal):
    """Rounds beside those of ``tools/rehearse devices``, by their kinds."""

    def run_kind(self, kind: str, folder: Path) -> None:
        """Raises: Lost."""
        kinds: dict[str, Callable[[], None]] = {
            "uploads": self._crowd,
            "connections": self._idle,
            "slow device": self._slow,
            "descriptors": self._without_descriptors,
            "full devices": lambda: self._fill(folder, 2 * FULL_MIB, LARGE),
            "full catalog": lambda: self._fill(folder, FULL_STORE_MIB, SMALL),
        }
        kinds[kind]()
        self._compare()
        self._check_sound()
        self._check_states()
        self._note("MiB resident, most", self._resident_mib())
        if self.counts["MiB resident, most"] > RESIDENT_MIB_MAX:
            raise Lost(f"the owner has {self.counts['MiB resident, most']} MiB resident")
        self.round += 1
        self.counts[f"rounds, {kind}"] += 1
        self._save()

    def _crowd(self) -> None:
        """Each is acknowledged, and read back through both doors."""
        (self.doors.mount / CROWDED).mkdir()
        names = [f"u{number}" for number in range(CROWD)]
        endpoint = Endpoint(self.doors.port, *self.doors.credentials)
        with tempfile.NamedTemporaryFile() as body:
            body.write(data := random.Random(self._seed).randbytes(CROWD_BYTES))  # noqa: S311 - repeatable
            body.flush()
            heads = [endpoint.head("PUT", f"/{CROWDED}/{name}", sha256=UNSIGNED, length=CROWD_BYTES) for name in names]
            with self._load() as (workers, readers):
                self._wait_answered(workers, readers)
                load = upload(endpoint.port, heads, Path(body.name), CROWD)
                self._wait_answered(workers, readers)
        self._note(f"MB/s of {CROWD} uploads at once", int(CROWD * CROWD_BYTES / load.seconds / 1e6))
        gets = [endpoint.head("GET", f"/{CROWDED}/{name}", sha256=UNSIGNED) for name in names]
        download(endpoint.port, gets, CROWD_BYTES, 8)
        for name in names:
            if (self.doors.mount / CROWDED / name).read_bytes() != data:
                raise Lost(f"{CROWDED}/{name} has other bytes")
        shutil.rmtree(self.doors.mount / CROWDED)

    def _idle(self) -> None:
        """Who works is served as without them."""
        with self._load() as (workers, readers):
            alone = self._seconds_for_answers(workers, readers)
            with ExitStack() as stack:
                for _ in range(IDLE):
                    stack.enter_context(socket.create_connection(("127.0.0.1", self.doors.port)))
                beside = self._seconds_for_answers(workers, readers)
        self._note(f"% of the time alone, beside {IDLE} connections", int(100 * beside / alone))

    def _slow(self) -> None:
        """Writes are answered in time, and reads lose no more than half of their speed."""
        slot = random.Random(f"{self._seed} {self.round}").randrange(STORE)  # noqa: S311 - repeatable
        before = self._read_still()
        self._disks[slot].slow(SLOW_MS)
        try:
            with self._load() as (workers, readers):
                for _ in range(ANSWERS):
                    self._wait_answered(workers, readers)
            during = self._read_still()
        finally:
            self._disks[slot].fail(0)
        self._note("% of the speed of reads, beside a slow device", int(100 * before / during))
        if during * SLOW_READ_SHARE > before:
            raise Lost(f"reads take {during:.1f} s where they took {before:.1f} s, for one device is slow")

    def _without_descriptors(self) -> None:
        """The owner can open nothing more; who is refused asks again."""
        pid = self.doors.pid
        if pid is None:
            raise Lost("the owner is gone")
        limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")), limits[1]))
        try:
            self._work_refused(DESCRIPTORS_S)
        finally:
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        with self._load() as (workers, readers):
            self._wait_answered(workers, readers)

    def _work_refused(self, seconds: float) -> None:
        """Writers that go on when they are refused, each with names of its own."""
        until = time.monotonic() + seconds
        for number in itertools.count(1000 * (self.round + 1)):
            stop_at = time.monotonic() + 1.0
            with self._load(number, refused=True) as (workers, _):
                while time.monotonic() < stop_at and any(each.thread.is_alive() for each in workers):
                    time.sleep(0.01)
            self.counts["refused without a descriptor"] += sum(each.error is not None for each in workers)
            if time.monotonic() > until:
                return

    def _fill(self, folder: Path, store_mib: int, sizes: Sequence[int]) -> None:
        """Until both doors refuse; what is there is read and deleted, and there is room again."""
        with small_disks(folder, store_mib) as place, opened_doors(place) as doors:
            filled = Filled(doors, self.counts, f"{self._seed} {self.round}", sizes)
            for _ in range(FILLINGS):
                filled.fill()
                filled.compare()
                filled.empty_half()
            if (found := doors.status())["read_only"] is not None:
                raise Lost(f"a store that is full is read-only: {found['read_only']}")
            doors.stop()
            if wrong := doors.audit():
                raise Lost(f"the audit of the store that was full finds: {wrong[0]}")

    def _read_still(self) -> float:
        """Seconds for all that lies still, by S3."""
        client = self.doors.client(max_pool_connections=1, read_timeout=DEADLINE_S)
        began = time.monotonic()
        for name, expected in self._still.items():
            if digest(client.get_object(Bucket=STILL, Key=name)["Body"].read()) != expected:
                raise Lost(f"{STILL}/{name} has other bytes")
        return time.monotonic() - began

    def _seconds_for_answers(self, workers: Sequence[Any], readers: Sequence[Any]) -> float:
        began = time.monotonic()
        for _ in range(ANSWERS):
            self._wait_answered(workers, readers)
        return time.monotonic() - began

    def _check_states(self) -> None:
        states = {device["path"]: device["state"] for device in self.doors.status()["devices"]}
        if bad := {path: state for path, state in states.items() if state not in ("online", "suspect")}:
            raise Lost(f"devices were struck that are well: {bad}")

    def _resident_mib(self) -> int:
        lines = Path(f"/proc/{self.doors.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) // 1024

    def _note(self, what: str, value: int) -> None:
        self.counts[what] = max(self.counts[what], value)


class Filled:
    """A small store, and what was promised in it: one name after the other, by one door and the other."""

    def __init__(self, doors: Doors, counts: Counter[str], seed: str, sizes: Sequence[int]) -> None:
        self._doors, self._counts, self._sizes = doors, counts, sizes
        self._rng = random.Random(seed)  # noqa: S311 - repeatable is the point
        self._held: dict[str, str] = {}
        self._numbers = itertools.count()
        self._client = doors.client(read_timeout=DEADLINE_S)
        self._client.create_bucket(Bucket="bucket")

    def fill(self) -> None:
        """Until each door has refused. Raises: Lost if one does so by another code."""
        left: list[Callable[[str, bytes], bool]] = [self._put, self._write]
        while left:
            for door in tuple(left):
                name = f"n{next(self._numbers)}"
                data = self._rng.randbytes(self._rng.choice(self._sizes))
                if door(name, data):
                    self._held[name] = digest(data)
                else:
                    left.remove(door)
        self._counts["fillings"] += 1
        self._counts["files in full stores"] += len(self._held)

    def empty_half(self) -> None:
        """And wait until there is room. Raises: Lost."""
        for name in self._rng.sample(sorted(self._held), len(self._held) // 2):
            if self._rng.random() < 0.5:
                (self._doors.mount / "bucket" / name).unlink()
            else:
                self._client.delete_object(Bucket="bucket", Key=name)
            del self._held[name]
        deadline = time.monotonic() + 4 * DEADLINE_S
        while not self._put("again", bytes(max(self._sizes))):
            if time.monotonic() > deadline:
                raise Lost(f"no room {4 * DEADLINE_S:.0f} s after half of what filled it was deleted")
            time.sleep(0.5)
        self._client.delete_object(Bucket="bucket", Key="again")

    def compare(self) -> None:
        """All that was promised, through both doors. Raises: Lost."""
        listed = {path.name for path in (self._doors.mount / "bucket").iterdir()}
        if listed != set(self._held):
            raise Lost(f"names are there that were refused, or others are missing: {listed ^ set(self._held)}")
        for name, expected in self._held.items():
            data = (self._doors.mount / "bucket" / name).read_bytes()
            got = self._client.get_object(Bucket="bucket", Key=name)["Body"].read()
            if {digest(data), digest(got)} != {expected}:
                raise Lost(f"bucket/{name} has other bytes")

    def _put(self, name: str, data: bytes) -> bool:
        try:
            self._client.put_object(Bucket="bucket", Key=name, Body=data)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            if status not in REFUSED:
                raise Lost(f"a full store answers {status} {error}") from error
            return False
        except BotoCoreError as error:  # it closes the connection of a body that it does not want
            raise Lost(f"a full store does not say so: {error!r}") from error
        return True

    def _write(self, name: str, data: bytes) -> bool:
        path = self._doors.mount / "bucket" / name
        try:
            path.write_bytes(data)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise Lost(f"a full store says {error!r}") from error
            with suppress(FileNotFoundError):
                path.unlink()
            return False
        return True


@contextmanager
def small_disks(folder: Path, store_mib: int) -> Iterator[Path]:
    """A folder with a disk of its own for the store folder and each of six devices."""
    place = Path(tempfile.mkdtemp(dir=folder, prefix="full-"))
    points = {place / "store": store_mib, **{place / f"d{slot}": FULL_MIB for slot in range(6)}}
    try:
        for point, mib in points.items():
            point.mkdir()
            run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", point])
        yield place
    finally:
        for point in points:
            subprocess.run(["umount", "-l", str(point)], check=False, capture_output=True)
        shutil.rmtree(place, ignore_errors=True)


def rounds(seed: int, count: int) -> list[str]:
    """Of each kind *count*, in an order of the seed's."""
    found = list(KINDS) * count
    random.Random(seed).shuffle(found)  # noqa: S311 - repeatable is the point
    return found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse overload", description=__doc__)
    parser.add_argument("--size", type=int, default=400, help="MB that lie in the store; default: 400")
    parser.add_argument("--rounds", type=int, default=2, help="of each kind; default: 2")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of rounds; default: all")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="goes on there; default: a new temporary folder")
    options = parser.parse_args(argv)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rehearse-overload-"))
    folder.mkdir(parents=True, exist_ok=True)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    console, kind = Console(), ""
    plan = [each for each in rounds(options.seed, options.rounds) if each in options.kinds]
    try:
        with (
            rehearsal(folder, options.size * 10**6, options.seed, 900.0 * len(plan), Overload) as found,
            Progress(console=console) as progress,
        ):
            bar = progress.add_task("rounds", total=len(plan), completed=found.round)
            for kind in plan[found.round :]:
                progress.update(bar, description=kind)
                found.run_kind(kind, folder)
                progress.update(bar, completed=found.round)
    except Lost as error:
        console.print(f"[red]{kind}, seed {options.seed}: {error}; left in {folder}")
        return 1
    console.print(f"{len(plan)} rounds, seed {options.seed}: nothing acknowledged is missing, no byte is wrong")
    for what, count in sorted(found.counts.items()):
        console.print(f"  {what}: {count}")
    if options.folder is None:
        shutil.rmtree(folder)
    return 0
