"""Histories of eight clients at both doors on twenty names, with kill -9 and moves between tiers under way.

What each call came to, and when, is noted; what never was answered may have happened or not. Then it is looked for an
order of the calls on each name that explains all of it (linearizability). A run is known by its folder: the same folder
goes on with the next history, on the same store.
"""

import argparse
import json
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.doors import BIN, Doors, opened_doors
from tools.rehearsals._history_clients import (
    BUCKET,
    HistoryClient,
    MountHistoryClient,
    Pace,
    S3HistoryClient,
    Wrong,
    by_name,
)
from tools.rehearsals._linear import Call, Do, impossible
from tools.rehearsals._s3 import Client

CLIENTS = 8
KILLS = 3
WARM = 3
"""Devices of the warm tier."""
CALL_S = 60.0
BEFORE_KILL = 4 * CLIENTS
"""Calls that begin between the end of a move and a kill, so that some are under way at it."""


class Broken(Exception):
    """A history that no order explains, or that was not what it should be."""


class Rehearsal:
    """A store with two tiers that is up at the beginning and at the end of each history."""

    def __init__(self, doors: Doors, seed: int) -> None:
        self.counts = Counter[str]()
        self._doors, self._seed = doors, seed
        self._folder = doors.mount / BUCKET
        self._asking = threading.Lock()  # for a command that finds no owner is one itself
        self._folder.mkdir(exist_ok=True)

    def run(self, number: int, calls: int, kills: int = KILLS, told: Callable[[int], None] = lambda left: None) -> None:
        """History *number*. Raises: Broken."""
        rng = random.Random(f"{self._seed} {number}")  # noqa: S311 - repeatable is the point
        self._empty()
        pace = Pace(calls)
        clients = self._clients(pace, f"{self._seed} {number}")
        with self._moving():
            for client in clients:
                client.thread.start()
            for kill in range(1, kills + 1):
                due = calls * kill // (kills + 1) - rng.randrange(calls // (4 * kills))
                pace.hold(due - BEFORE_KILL)
                self._wait(clients, pace, due - BEFORE_KILL, told)
                with self._asking:
                    pace.go_on()
                    self._wait(clients, pace, due, told)
                    self._kill(clients, pace, rng)
            self._wait(clients, pace, calls, told)
            for client in clients:
                client.thread.join(CALL_S)
        self._judge(clients, kills)
        self.counts["histories"] += 1

    def _clients(self, pace: Pace, seed: str) -> list[HistoryClient]:
        found: list[HistoryClient] = []
        for number in range(CLIENTS // 2):
            found.append(S3HistoryClient(pace, f"s3 {seed} {number}", self._doors))
            found.append(MountHistoryClient(pace, f"mount {seed} {number}", self._folder, number))
        return found

    def _wait(self, clients: Sequence[HistoryClient], pace: Pace, begun: int, told: Callable[[int], None]) -> None:
        """Until so many calls have begun, or a client has failed. Raises: Broken."""
        total, last, since = pace.left + pace.value, pace.left, time.monotonic()
        while total - pace.left < begun:
            if (error := next((each.error for each in clients if each.error is not None), None)) is not None:
                raise Broken(f"a client failed: {error!r}") from error
            if pace.left != last:
                last, since = pace.left, time.monotonic()
                told(last)
            elif time.monotonic() - since > CALL_S:
                raise Broken(f"no call has begun for {CALL_S} s")
            time.sleep(0.005)

    def _kill(self, clients: Sequence[HistoryClient], pace: Pace, rng: random.Random) -> None:
        """While calls are under way; none begins until the store is up again."""
        pid = self._doors.pid
        deadline = time.monotonic() + CALL_S
        while True:
            pace.open.clear()
            time.sleep(rng.uniform(0.0, 0.002))
            if not all(each.idle for each in clients):
                break
            pace.open.set()  # all have ended meanwhile
            if time.monotonic() > deadline:
                raise Broken(f"no call is under way for {CALL_S} s")
            time.sleep(0.001)
        self._doors.kill(pid)
        deadline = time.monotonic() + CALL_S
        while not all(each.idle for each in clients):
            if time.monotonic() > deadline:
                raise Broken("a call hangs although the owner is gone")
            time.sleep(0.001)
        self._doors.start()
        pace.kills += 1
        self.counts["kills"] += 1
        pace.open.set()

    def _judge(self, clients: Sequence[HistoryClient], kills: int) -> None:
        if (error := next((each.error for each in clients if each.error is not None), None)) is not None:
            raise Broken(f"a client failed: {error!r}") from error
        if complaints := self._doors.complaints():
            raise Broken(f"the owner complains: {complaints[0]}")
        unknown = sum(each.unknown for each in clients)
        if kills and not unknown:
            raise Broken("no call was under way at any kill")
        self.counts["calls that were never answered"] += unknown
        for client in clients:
            self.counts[f"calls at the {client.door} door"] += sum(map(len, client.calls.values()))
        for name, calls in by_name(clients).items():
            if (call := impossible(calls)) is not None:
                raise Broken(f"{name}: no order explains {_told(call)}; around it: {_around(calls, call)}")
            self.counts["calls in order"] += len(calls)

    def _empty(self) -> None:
        """Each history begins with nothing."""
        client = Client(self._doors)
        try:
            keys = [key.decode() for key in client.list(BUCKET)[0]]
            if keys:
                client.delete_many(BUCKET, keys)
        finally:
            client.close()

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """Move the bucket to the other tier and back beside the block."""
        stop = threading.Event()

        def work() -> None:
            turn = 0
            while not stop.wait(0.2):
                turn += 1
                words = [BIN / "stratum-tier", "move", self._folder, "--to", ("hot", "warm")[turn % 2], "--json"]
                with self._asking:
                    done = subprocess.run(list(map(str, words)), check=False, capture_output=True, timeout=CALL_S)
                if done.returncode == 0:
                    self.counts["moves"] += 1
                    self.counts["bytes moved"] += json.loads(done.stdout)["bytes"]

        mover = threading.Thread(target=work, daemon=True)
        mover.start()
        try:
            yield
        finally:
            stop.set()
            mover.join(CALL_S)


def _told(call: Call) -> str:
    return f"{call.do.name} {call.value} -> {call.outcome} ({call.how}) [{call.begun}, {call.ended}]"


def _around(calls: Sequence[Call], call: Call) -> str:
    near = sorted((each for each in calls if each.begun < call.ended), key=lambda each: each.ended)[-12:]
    changed = [each for each in calls if each.do is Do.WRITE and each.value == call.outcome]
    return "; ".join(map(_told, (*changed, *near)))


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse histories", description=__doc__)
    parser.add_argument("--histories", type=int, default=20)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="goes on there; default: a new temporary folder")
    options = parser.parse_args(argv)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rehearse-histories-"))
    folder.mkdir(parents=True, exist_ok=True)
    console, path = Console(), folder / "state.json"
    state: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"seed": options.seed, "counts": {}}
    if state["seed"] != options.seed:
        raise SystemExit(f"{folder} belongs to a run with --seed {state['seed']}")
    columns = TextColumn("calls"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    warm = [folder / f"w{slot}" for slot in range(WARM)]
    with opened_doors(folder, warm=warm, seconds=600.0 * options.histories) as doors:
        rehearsal = Rehearsal(doors, options.seed)
        rehearsal.counts.update(state["counts"])
        with Progress(*columns, console=console) as progress:
            done = rehearsal.counts["histories"]
            total = options.histories * options.calls
            bar = progress.add_task("", total=total, completed=done * options.calls)
            while (done := rehearsal.counts["histories"]) < options.histories:

                def told(left: int, done: int = done) -> None:
                    progress.update(bar, completed=(done + 1) * options.calls - left)

                try:
                    rehearsal.run(done, options.calls, told=told)
                except (Broken, Wrong) as error:
                    console.print(f"[red]history {done}, seed {options.seed}: {error}; left in {folder}")
                    return 1
                new = path.with_suffix(".new")
                new.write_text(json.dumps({"seed": options.seed, "counts": rehearsal.counts}))
                new.replace(path)
    console.print(f"{options.histories} histories of {options.calls} calls, seed {options.seed}: each has an order")
    for what, count in sorted(rehearsal.counts.items()):
        console.print(f"  {what}: {count}")
    if options.folder is None:
        shutil.rmtree(folder)
    return 0
