"""Kill a store with kill -9 under load from both doors, again and again, and look for what is missing or wrong.

Each round opens the store (now and then the opening is killed too), compares every file and object with what was
promised, lets three writers at each door work, and kills the owner at a random moment. A round counts only if both
doors were busy then. No start behind a kill may take twice as long as one behind a stop of the same store. Then the
store is stopped, fsck reads every cell of it, and it is started again.
A run is known by its folder: the same folder goes on where it was stopped.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from tests.doors import BIN, Doors, opened_doors
from tests.model.s3 import Reader
from tools.rehearsals._kill_load import GONE, MountWorker, Promises, S3Worker, Worker, digest

BUSY_S = 0.1
WORKERS = 3
BY_S3, BY_MOUNT = "by-s3", "by-mount"
LOAD_S = 0.2, 1.2
FIRST_S = 60.0
OPENING_KILLED = 0.2
"""Part of the openings that are killed half-way."""
OPENINGS_EXPECTED = 50
"""Rounds of which one must have had its opening killed."""
AGAIN_TRIES = 3
TIMES_SLOWER = 2.0
STUMBLES_EVERY = 100
"""Rounds for each start, beside one, that may have taken too long because of the machine."""


class Lost(Exception):
    """The store broke a promise."""


class Rehearsal:
    """A store that is up at the beginning and at the end of each round; fsck looks at it after every
    *check_every*-th.

    by_s3, by_mount  the buckets in which it writes; nobody else does
    """

    by_s3, by_mount = BY_S3, BY_MOUNT

    def __init__(self, doors: Doors, seed: int, state: Path | None = None, check_every: int = 1) -> None:
        self.doors, self.counts, self.round = doors, Counter[str](), 0
        self._seed, self._state, self._check_every = seed, state, check_every
        self._promises = Promises()
        self.undisturbed: list[float] = []
        self.after_kills: list[float] = []
        if state is not None and state.exists():
            self._resume()
        for bucket in (self.by_s3, self.by_mount):
            (doors.mount / bucket).mkdir(exist_ok=True)
        self._known: dict[str, bytes] = {}
        self._clients = [doors.client(max_pool_connections=1) for _ in range(WORKERS)]  # each takes 12 MB, for ever

    def run_round(self) -> None:
        """Raises: Lost."""
        rng = random.Random(f"{self._seed} {self.round}")  # noqa: S311 - repeatable is the point
        if not self.undisturbed:
            self._start_undisturbed()
        self._load_and_kill(rng)
        self._open_again(rng)
        self._compare()
        self._check_start(self.after_kills[-1], rng)
        if (self.round + 1) % self._check_every == 0:
            self._check()
        self.round += 1
        self.counts["rounds"] += 1
        self._save()

    def _load_and_kill(self, rng: random.Random) -> None:
        stop = threading.Event()
        workers = self._workers(stop)
        for worker in workers:
            worker.thread.start()
        self._wait_busy(workers)
        self._wait_moment(rng)
        busy = self._wait_both_busy(workers)
        errors = [worker.error for worker in workers if worker.error is not None]
        stop.set()
        self._kill()
        for worker in workers:
            worker.thread.join(FIRST_S)
            self.counts[f"acknowledged at the {worker.door} door"] += worker.acknowledged
        if any(worker.thread.is_alive() for worker in workers):
            raise Lost("a call hangs although the owner is gone")
        if errors:
            raise Lost(f"a call was refused before the kill: {errors[0]!r}")
        if not all(busy.values()):
            raise Lost(f"the kill did not happen under load: {busy}")
        self.counts["calls under way or just acknowledged at the kill"] += sum(busy.values())

    def _wait_both_busy(self, workers: Sequence[Worker]) -> dict[str, int]:
        """Calls at each door; none in the end if there comes no moment with some at both."""
        deadline = time.monotonic() + FIRST_S
        while True:
            busy = {door: _busy(workers, door) for door in ("s3", "mount")}
            if all(busy.values()) or any(worker.error for worker in workers) or time.monotonic() > deadline:
                return busy
            time.sleep(0.001)

    def _wait_moment(self, rng: random.Random) -> None:
        """Until the owner is to be killed; its writers are busy."""
        time.sleep(rng.uniform(*LOAD_S))

    def _kill(self) -> None:
        self.doors.kill()

    def _workers(self, stop: threading.Event) -> list[Worker]:
        found: list[Worker] = []
        for number in range(WORKERS):
            seed = f"{self._seed} {self.round} {number}"
            client = self._clients[number]
            client.close()  # its connections are those of the owner that is gone
            found.append(S3Worker(self._promises, stop, f"s3 {seed}", number, client, self.by_s3))
            writer = MountWorker(self._promises, stop, f"mount {seed}", number, self.doors.mount / self.by_mount)
            writer.know(self._known)
            found.append(writer)
        return found

    def _wait_busy(self, workers: Sequence[Worker]) -> None:
        """Return when every worker has been answered once, or one has failed."""
        deadline = time.monotonic() + FIRST_S
        while not all(worker.acknowledged or worker.error for worker in workers):
            if time.monotonic() > deadline:
                raise Lost(f"not every writer was answered within {FIRST_S} s")
            time.sleep(0.01)

    def _open_again(self, rng: random.Random) -> None:
        if rng.random() < OPENING_KILLED:
            self._kill_opening(rng)
        self.after_kills.append(self._start())

    def _start(self) -> float:
        """Returns the seconds until both doors answer."""
        began = time.monotonic()
        self.doors.start()
        return time.monotonic() - began

    def _start_undisturbed(self) -> None:
        self.doors.stop()
        self.undisturbed.append(self._start())

    def _check(self) -> None:
        """What fsck finds between a stop and a start. Raises: Lost."""
        self.doors.stop()
        found = self.doors.fsck()
        if wrong := self.doors.findings(found):
            raise Lost(f"fsck finds {wrong[:3]}")
        self.counts["fsck clean"] += 1
        self.counts["cells that fsck read"] += found["cells"]
        self.undisturbed.append(self._start())

    def _check_start(self, seconds: float, rng: random.Random) -> None:
        """Raises: Lost if too many took twice as long as any undisturbed one, those of the same moment among them, and
        so did each start behind another such kill."""
        for left in range(AGAIN_TRIES, -1, -1):
            if seconds <= TIMES_SLOWER * max(self.undisturbed):
                return
            if left:
                self._start_undisturbed()  # perhaps the machine is slower by now, or was just for that start
                seconds = min(seconds, self._start_killed(rng))
        self.counts["starts behind a kill that took too long"] += 1
        if self.counts["starts behind a kill that took too long"] > 1 + self.round // STUMBLES_EVERY:
            raise Lost(f"a start took {seconds:.2f} s behind a kill, undisturbed {max(self.undisturbed):.2f} s at most")

    def _start_killed(self, rng: random.Random) -> float:
        self._load_and_kill(rng)
        seconds = self._start()
        self._compare()
        return seconds

    def _kill_opening(self, rng: random.Random) -> None:
        """Begin to open it, and kill the new owner wherever it is then."""
        doors = self.doors
        command = [BIN / "mount.stratumfs", doors.store, doors.mount, "-o", f"gateway=127.0.0.1:{doors.port}"]
        words = [*map(str, command), "--log", str(doors.log)]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as opening:
            while opening.poll() is None and doors.holder is None:
                time.sleep(0.005)
            with suppress(subprocess.TimeoutExpired):
                opening.wait(rng.uniform(0.0, 0.3))
            self.counts["openings killed"] += opening.poll() is None
            doors.kill_holder()
            opening.wait(FIRST_S)

    def _compare(self) -> None:
        """Every name through both doors. Raises: Lost."""
        reader = Reader(self.doors)
        self._known.clear()
        try:
            for bucket in (self.by_s3, self.by_mount):
                self._compare_bucket(bucket, reader)
        finally:
            reader.close()
        if complaints := self.doors.complaints():
            raise Lost(f"the owner complains: {complaints[0]}")

    def _compare_bucket(self, bucket: str, reader: Reader) -> None:
        listed, _ = reader.list(bucket)
        found = {key.decode() for key in listed if not key.endswith(b"/")}
        top = self.doors.mount / bucket
        shown = {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()}
        if found != shown:
            raise Lost(f"the doors disagree on the names in {bucket}: {sorted(found ^ shown)[:5]}")
        promised = {name.partition("/")[2] for name in self._promises.may if name.startswith(f"{bucket}/")}
        if unknown := found - promised:
            raise Lost(f"nobody wrote {sorted(unknown)[:5]} into {bucket}")
        for key in promised:
            data = self._read(top / key, bucket, key, reader) if key in found else None
            self._judge(f"{bucket}/{key}", data)

    def _read(self, path: Path, bucket: str, key: str, reader: Reader) -> bytes:
        data, got = path.read_bytes(), reader.get(bucket, key.encode())
        if got.status != 200 or got.data != data:
            raise Lost(f"the doors disagree on the bytes of {bucket}/{key}: {got.status} {len(got.data)} {len(data)}")
        return data

    def _judge(self, name: str, data: bytes | None) -> None:
        found, may = GONE if data is None else digest(data), self._promises.may[name]
        if found not in may:
            what = "missing" if data is None else "there again" if may == {GONE} else "holds other bytes than any write"
            raise Lost(f"{name} is {what}; {len(may)} outcomes were possible")
        self.counts["outcomes left open by the kill"] += len(may) > 1
        self._promises.settle(name, found)
        if data is not None and name.startswith(f"{self.by_mount}/"):
            self._known[name] = data
        self.counts["names compared"] += 1

    def _save(self) -> None:
        if self._state is None:
            return
        state = {
            "seed": self._seed,
            "round": self.round,
            "counts": self.counts,
            "undisturbed": self.undisturbed,
            "after_kills": self.after_kills,
        }
        new = self._state.with_suffix(".new")
        new.write_text(json.dumps(state))
        new.replace(self._state)

    def _resume(self) -> None:
        """Go on after the last round that was saved, with empty buckets: what the next one promised nobody knows."""
        assert self._state is not None
        state: dict[str, Any] = json.loads(self._state.read_text())
        if state["seed"] != self._seed:
            raise SystemExit(f"{self._state.parent} belongs to a run with --seed {state['seed']}")
        self.round, self.counts = state["round"], Counter(state["counts"])
        self.undisturbed, self.after_kills = state["undisturbed"], state["after_kills"]
        for bucket in (self.by_s3, self.by_mount):
            shutil.rmtree(self.doors.mount / bucket)


def _busy(workers: Sequence[Worker], door: str) -> int:
    now = time.monotonic()
    return sum(bool(each.begun) or now - each.last < BUSY_S for each in workers if each.door == door)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse kill", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="goes on there; default: a new temporary folder")
    options = parser.parse_args(argv)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rehearse-kill-"))
    console = Console()
    try:
        with opened_doors(folder, seconds=60.0 * options.rounds) as doors:
            rehearsal = Rehearsal(doors, options.seed, folder / "state.json")
            with Progress(console=console) as progress:
                bar = progress.add_task("rounds", total=options.rounds, completed=rehearsal.round)
                while rehearsal.round < options.rounds:
                    rehearsal.run_round()
                    progress.update(bar, completed=rehearsal.round)
    except Lost as error:
        console.print(f"[red]round {rehearsal.round}, seed {options.seed}: {error}; left in {folder}")
        return 1
    if rehearsal.round >= OPENINGS_EXPECTED and not rehearsal.counts["openings killed"]:
        console.print(f"[red]seed {options.seed}: no opening was killed")
        return 1
    console.print(f"{rehearsal.round} rounds, seed {options.seed}: nothing acknowledged is missing, no byte is wrong")
    for name, found in ("undisturbed", rehearsal.undisturbed), ("behind a kill", rehearsal.after_kills):
        console.print(f"  seconds of a start, {name}: median {statistics.median(found):.2f}, most {max(found):.2f}")
    for what, count in sorted(rehearsal.counts.items()):
        console.print(f"  {what}: {count}")
    if options.folder is None:
        shutil.rmtree(folder)
    return 0
