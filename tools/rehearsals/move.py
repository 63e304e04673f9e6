"""Move a large part of this machine's own files to the warm tier and back, twice, while both doors are used.

One bucket is filled through the mount, another one through S3, as ``tools/rehearse tree`` does it. Then both are moved,
with readers, writers, overwrites, copies and deletes at both doors all the time, and a file and a GET that are open
from before a move until behind it. After each move everything is compared with the source through both doors, times and
ETags too, and every file must lie where it was moved to.
"""

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.doors import BIN, Doors, opened_doors, run
from tests.model.s3 import Reader
from tools.rehearsals import tree
from tools.rehearsals._move_load import Load
from tools.rehearsals._tree_sample import Entry, digest, sample
from tools.rehearsals.tree import BY_MOUNT, BY_S3, FILL_S, Different, Tell

ROUNDS = 2
WARM = 3
"""Devices of the warm tier."""


Moving = TypeVar("Moving", bound="Rehearsal")


class Rehearsal(tree.Rehearsal):
    """As that of the tree, of a store with two tiers. *moved*: what each move said of itself, with its seconds."""

    def __init__(self, doors: Doors, entries: list[Entry], tell: Tell, seed: int = 1) -> None:
        super().__init__(doors, entries, tell)
        self.load = Load(doors, entries, BY_MOUNT, BY_S3, seed)
        self.moved: list[dict[str, Any]] = []

    @property
    def steps(self) -> dict[str, Callable[[], None]]:
        steps = {
            "fill a bucket through the mount": self.fill_by_mount,
            "fill a bucket through S3": self.fill_by_s3,
        }
        for number in range(1, ROUNDS + 1):
            for tier in ("warm", "hot"):
                steps[f"move to {tier}, round {number}"] = partial(self.move, tier)
        return steps

    def move(self, tier: str) -> None:
        """Raises: Different, Wrong."""
        before = self._etags()
        with self._open_all_the_time(), self.load.running():
            for target in (self.doors.mount / BY_MOUNT, f"s3://{BY_S3}"):
                self._move(target, tier)
        self.load.check()
        self.load.clear()
        self.compare()
        if self._etags() != before:
            raise Different("ETags or times of objects are others than before the move")
        self._each(f"look whether it lies in {tier}", partial(self._lies_in, tier), self._files)

    def _move(self, target: Path | str, tier: str) -> None:
        begun = time.monotonic()
        command = [BIN / "stratum-tier", "move", str(target), "--to", tier, "--store", self.doors.store, "--json"]
        said = json.loads(run(command, timeout=FILL_S))
        self.moved.append({**said, "seconds": time.monotonic() - begun})
        if (said["outcome"], said["bytes_unreadable"], said["files_damaged"]) != ("done", 0, 0):
            raise Different(f"the move of {target} says {said}")

    def _lies_in(self, tier: str, entry: Entry) -> None:
        for bucket in (BY_MOUNT, BY_S3):
            found = os.getxattr(self.doors.mount / bucket / entry.path, "user.stratum.tier").decode()
            if found not in (tier, "catalog"):
                raise Different(f"{bucket}/{entry.path} lies in {found}")

    def _etags(self) -> dict[str, tuple[str, int]]:
        """ETag and Last-Modified of all keys; nobody writes."""
        reader = Reader(self.doors)
        found = {
            f"{bucket}/{os.fsdecode(key)}": (each.etag, each.modified_s)
            for bucket in (BY_MOUNT, BY_S3)
            for key, each in reader.list(bucket)[0].items()
        }
        reader.close()
        return found

    @contextmanager
    def _open_all_the_time(self) -> Iterator[None]:
        """The largest file is open, half read, and a GET of it goes on slowly: one that takes nothing is given up."""
        entry = max(self._files, key=lambda each: each.size)
        got = self.doors.client().get_object(Bucket=BY_MOUNT, Key=entry.path)["Body"]
        taken: list[bytes] = []
        over = threading.Event()

        def take() -> None:
            while not over.wait(1.0):
                taken.append(got.read(max(1 << 16, entry.size // 200)))

        taking = threading.Thread(target=take)
        taking.start()
        try:
            with (self.doors.mount / BY_S3 / entry.path).open("rb") as file:
                half = file.read(entry.size // 2)
                yield
                rest = file.read()
        finally:
            over.set()
            taking.join()
        for where, data in (("file", half + rest), ("GET", b"".join((*taken, got.read())))):
            if digest(data) != entry.digest:
                raise Different(f"{entry.path}: the {where} that was open during a move gave other bytes")


def main(argv: list[str]) -> int:
    options, entries = chosen("move", __doc__, argv)
    folder, console = options.folder, Console()
    warm = [folder / f"w{slot}" for slot in range(WARM)]
    with opened_doors(folder, warm=warm, seconds=8 * FILL_S) as doors:
        rehearsal = carry_out(lambda tell: Rehearsal(doors, entries, tell, options.seed), console)
    print_moves(rehearsal, console)
    if not is_whole(doors, console):
        return 1
    console.print("everything is where it was moved to, and the same through both doors, to the byte")
    if options.temporary:
        shutil.rmtree(folder)
    return 0


More = Callable[[argparse.ArgumentParser], None]


def chosen(name: str, about: str | None, argv: list[str], more: More | None = None) -> tuple[Any, list[Entry]]:
    """What the command line says, and a sample of this machine's files. *more* adds arguments."""
    parser = argparse.ArgumentParser(prog=f"tools/rehearse {name}", description=about)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--bytes", type=int, default=10**9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="a new one; default: a temporary folder")
    if more is not None:
        more(parser)
    options = parser.parse_args(argv)
    options.temporary = options.folder is None
    options.folder = options.folder or Path(tempfile.mkdtemp(prefix=f"rehearse-{name}-"))
    options.folder.mkdir(parents=True, exist_ok=True)
    entries = sample(options.files, options.bytes, options.seed)
    files = [entry for entry in entries if entry.is_file]
    size = sum(entry.size for entry in files)
    print(f"{len(files)} files, {size} bytes in each of two buckets, in {options.folder}", flush=True)
    return options, entries


def carry_out(made: Callable[[Tell], Moving], console: Console) -> Moving:
    """All steps of a rehearsal, with a line that says how far it is. Raises: what a step raises."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bars = progress.add_task("", total=None)
        rehearsal = made(
            lambda what, done, all_: progress.update(bars, description=what, completed=done, total=all_),
        )
        for name, step in rehearsal.steps.items():
            progress.reset(bars, description=name, total=None)
            step()
            console.print(f"done: {name}, {progress.tasks[0].elapsed or 0.0:.0f} s")
    return rehearsal


def print_moves(rehearsal: Rehearsal, console: Console) -> None:
    for said in rehearsal.moved:
        rate = said["bytes"] / said["seconds"] / 1e6
        console.print(
            f"{said['path']} to {said['to']}: {said['bytes']} bytes, {said['seconds']:.0f} s, {rate:.0f} MB/s"
        )
    for what, count in sorted(rehearsal.load.counts.items()):
        console.print(f"{what} meanwhile: {count}")


def is_whole(doors: Doors, console: Console) -> bool:
    """Once it is stopped. What is wrong is printed."""
    wrong = doors.complaints() + doors.audit()
    for line in wrong:
        console.print(f"[red]{line}")
    return not wrong
