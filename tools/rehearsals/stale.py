"""Change a file at one door and look at once through the other, for what is stale there.

A file and its directory are cached by the kernel (or asked for through S3), then changed through the other door in one
of many ways; the very next operation, whichever it is, must show the change, and so must all others behind it. In every
third sitting of rounds others create, list, rename and unlink in the same directory all the time. Before each sitting
it is counted that a warm stat asks nobody. A run is known by its folder: the same folder goes on where it was stopped.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.doors import Doors, free_port, opened_doors
from tools.rehearsals._s3 import Client
from tools.rehearsals._stale_kinds import BY_MOUNT, BY_S3, Kind
from tools.rehearsals._stale_look import CHURN, MountLook, S3Look, Stale
from tools.rehearsals._stale_scene import Scene

BUCKET = "stale"
SITTING = 100
"""Rounds in one directory."""
CHURN_EVERY = 3
CHURNERS = 3
NAMES = 5
"""That the rounds of a sitting use again and again."""
WARM_STATS = 1000
WARM_TRIES = 5
"""Times that they are made: the kernel may let go of what it keeps, where the machine is short of memory."""
WARM_TIMES_FASTER = 8


class Rehearsal:
    """Rounds in a store that is up, with metrics; *state* is where to go on."""

    def __init__(self, doors: Doors, seed: int, state: Path | None = None, sitting: int = SITTING) -> None:
        self.counts, self.round = Counter[str](), 0
        self._doors, self._seed, self._state, self._sitting = doors, seed, state, sitting
        if state is not None and state.exists():
            found: dict[str, Any] = json.loads(state.read_text())
            if found["seed"] != seed:
                raise SystemExit(f"{state.parent} belongs to a run with --seed {found['seed']}")
            self.round, self.counts = found["round"], Counter(found["counts"])
        self._client = Client(doors)
        (doors.mount / BUCKET).mkdir(exist_ok=True)

    def close(self) -> None:
        self._client.close()

    def sit(self, rounds: int, told: Callable[[], None] = lambda: None) -> None:
        """So many rounds in one directory; *told* is called after each. Raises: Stale."""
        number = self.round // self._sitting
        folder = f"s{self.round}"
        self._client.put(BUCKET, f"{folder}/stays", b"")
        self._check_warm(self._doors.mount / BUCKET / folder)
        with ExitStack() as stack:
            busy = number % CHURN_EVERY == CHURN_EVERY - 1
            if busy:
                stack.enter_context(churn(self._doors.mount / BUCKET / folder))
            for _ in range(rounds):
                self.run_round(folder)
                self.counts["rounds in a busy directory"] += busy
                told()
        self._save()

    def run_round(self, folder: str) -> None:
        """Raises: Stale."""
        rng = random.Random(f"{self._seed} {self.round}")  # noqa: S311 - repeatable is the point
        by_s3 = self.round % 2 == 0
        kinds = BY_S3 if by_s3 else BY_MOUNT
        kind = kinds[self.round // 2 % len(kinds)]
        name = f"n{rng.randrange(NAMES)}"
        scene = Scene(self._doors.mount, BUCKET, folder, name, self._client, rng, {f"{folder}/stays": b""})
        try:
            first = (self._to_mount if by_s3 else self._to_s3)(scene, kind)
        except (Stale, OSError, AssertionError) as error:
            raise Stale(f"{kind.__name__}: {error}") from error
        finally:
            for fd in scene.closing:
                os.close(fd)
        self._clear(scene)
        self.round += 1
        self.counts[f"{'S3' if by_s3 else 'mount'}: {kind.__name__}"] += 1
        self.counts[f"first look: {first}"] += 1

    def _to_mount(self, scene: Scene, kind: Kind) -> str:
        steps = kind(scene)
        next(steps)
        look = MountLook(scene, scene.shown())
        if not scene.linked:
            look.everywhere()
        look.remember()
        after = look.after(lambda: next(steps, None))
        first = after.first()
        after.everywhere()
        return first

    def _to_s3(self, scene: Scene, kind: Kind) -> str:
        steps = kind(scene)
        next(steps)
        before = set(scene.keys)
        S3Look(scene, before).everywhere()
        next(steps, None)
        after = S3Look(scene, before)
        first = after.first()
        after.everywhere()
        if not scene.linked:
            MountLook(scene, scene.shown()).everywhere()
        return first

    def _clear(self, scene: Scene) -> None:
        """By either door; and nothing is left at any."""
        folder = scene.path(scene.folder)
        keys = [key for key in scene.keys if key.startswith(scene.top)]
        if keys and scene.rng.random() < 0.5:
            self._client.delete_many(BUCKET, keys)
        for name in os.listdir(folder):
            if name.startswith((scene.name, f"_-_o{scene.name}")):
                path = folder / name
                (shutil.rmtree if path.is_dir() and not path.is_symlink() else os.unlink)(path)
        if left := list(self._client.list(BUCKET, scene.top.encode())[0]):
            raise Stale(f"S3 still lists {left}")

    def _check_warm(self, folder: Path) -> None:
        """The kernel answers a warm stat by itself, and much faster than Python does. Raises: Stale."""
        paths = folder / "stays", folder, folder.parent
        for _ in range(WARM_TRIES):
            for path in paths:
                os.stat(path)
            before = self._requests()
            warm = [_seconds(lambda: [os.stat(path) for path in paths]) / len(paths) for _ in range(WARM_STATS)]
            asked = self._requests() - before
            if not asked:
                break
        else:
            raise Stale(f"{WARM_STATS} warm stats of {len(paths)} paths asked Python {asked} times, and so at each try")
        cold = [_seconds(lambda: os.path.lexists(folder / ".versions")) for _ in range(WARM_STATS // 10)]
        if self._requests() - before < len(cold):
            raise Stale("a name that must be asked for was not")
        self.counts["warm stats"] += WARM_STATS * len(paths)
        self.faster = statistics.median(cold) / statistics.median(warm)

    def _requests(self) -> int:
        """Look-ups and getattrs that have reached Python."""
        with urllib.request.urlopen(f"http://{self._doors.metrics}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        return sum(
            int(float(line.rpartition(" ")[2]))
            for line in lines
            if "fuse_request_seconds_count{" in line and ('call="lookup"' in line or 'call="getattr"' in line)
        )

    def _save(self) -> None:
        if self._state is None:
            return
        new = self._state.with_suffix(".new")
        new.write_text(json.dumps({"seed": self._seed, "round": self.round, "counts": self.counts}))
        new.replace(self._state)


@contextmanager
def churn(folder: Path, threads: int = CHURNERS) -> Iterator[None]:
    """Create, list, rename and unlink names in *folder* beside the block."""
    stop, errors = threading.Event(), list[BaseException]()

    def work(number: int) -> None:
        try:
            turn = 0
            while not stop.is_set():
                path, turn = folder / f"{CHURN}-{number}-{turn % 5}", turn + 1
                path.write_bytes(b"")
                path.rename(folder / f"{CHURN}ed-{number}")
                os.listdir(folder)
                for name in range(NAMES):
                    os.path.lexists(folder / f"n{name}")
                (folder / f"{CHURN}ed-{number}").unlink()
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in running:
            thread.join()
    if errors:
        raise Stale(f"who worked beside it failed: {errors[0]!r}") from errors[0]


def with_metrics(doors: Doors) -> None:
    """Start it anew with its metrics to be had."""
    doors.metrics = f"127.0.0.1:{free_port()}"
    doors.stop()
    settings = doors.store / "stratumfs.toml"
    text = settings.read_text().partition("\n[metrics]")[0]
    settings.write_text(f'{text}\n[metrics]\nlisten = "{doors.metrics}"\n')
    doors.start()


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse stale", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="goes on there; default: a new temporary folder")
    options = parser.parse_args(argv)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rehearse-stale-"))
    console = Console()
    columns = TextColumn("rounds"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    faster: list[float] = []
    with opened_doors(folder, seconds=3600 + 2.0 * options.rounds) as doors:
        with_metrics(doors)
        rehearsal = Rehearsal(doors, options.seed, folder / "state.json")
        try:
            with Progress(*columns, console=console) as progress:
                bar = progress.add_task("", total=options.rounds, completed=rehearsal.round)
                while rehearsal.round < options.rounds:
                    rounds = min(SITTING - rehearsal.round % SITTING, options.rounds - rehearsal.round)
                    rehearsal.sit(rounds, lambda: progress.update(bar, completed=rehearsal.round))
                    faster.append(rehearsal.faster)
        except Stale as error:
            console.print(f"[red]round {rehearsal.round}, seed {options.seed}: {error}; left in {folder}")
            return 1
        finally:
            rehearsal.close()
        if complaints := doors.complaints():
            console.print(f"[red]seed {options.seed}: the owner complains: {complaints[0]}")
            return 1
    console.print(f"{rehearsal.round} rounds, seed {options.seed}: nothing was stale at the other door")
    for what, count in sorted(rehearsal.counts.items()):
        console.print(f"  {what}: {count}")
    if faster:
        times = statistics.median(faster)
        console.print(f"  a warm stat was {times:.0f} times as fast as the cheapest request that reaches Python")
        if times < WARM_TIMES_FASTER:
            console.print(f"[red]{WARM_TIMES_FASTER} times are wanted")
            return 1
    if options.folder is None:
        shutil.rmtree(folder)
    return 0
