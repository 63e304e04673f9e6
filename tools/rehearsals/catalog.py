"""Kill the catalog's owner under load, again and again, at times as a power cut would, and look for what is missing.

Each round starts a process with 32 writers and a checkpoint every few milliseconds, kills it with SIGKILL at a random
moment, may then damage whatever of the WAL was written after its last finished sync, opens the catalog and compares it
with the journal of what was acknowledged. A run is known by its folder: the same folder goes on where it was stopped.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import trio
from rich.console import Console
from rich.progress import Progress

from stratumfs.catalog.engine import Catalog, Transaction
from stratumfs.errors import CatalogCorrupt
from tools.rehearsals._catalog_child import PAGE, SCHEMA

ROOT = Path(__file__).resolve().parents[2]
ROWS_MAX = 20_000
"""Above it the next round starts with an empty catalog."""
CHUNK = 500
WAL_HEADER_BYTES = 32
SALT_OFFSET = 16


class Lost(Exception):
    """The catalog broke a promise."""


@dataclass
class Journal:
    """What children of one store said: ids drawn, rows acknowledged."""

    drawn: set[int] = field(default_factory=set)
    acknowledged: set[int] = field(default_factory=set)
    counters: dict[int, int] = field(default_factory=dict)
    offset: int = 0

    def read_on(self, path: Path) -> int:
        """Take in what was appended; returns the number of acknowledged rows in it. Raises: Lost on a repeated id."""
        with path.open("rb") as file:
            file.seek(self.offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.offset += len(whole)
        before = len(self.acknowledged)
        for line in whole.decode().splitlines():
            kind, *numbers = line.split()
            ident = int(numbers[0])
            if kind == "D":
                if ident in self.drawn:
                    raise Lost(f"id {ident} was handed out twice")
                self.drawn.add(ident)
            else:
                self.acknowledged.add(ident)
                self.counters[int(numbers[1])] = max(int(numbers[2]), self.counters.get(int(numbers[1]), 0))
        return len(self.acknowledged) - before


class Rehearsal:
    def __init__(self, folder: Path, seed: int) -> None:
        self._folder = folder
        self._seed = seed
        self._state = folder / "state.json"
        self._journal = Journal()
        self.counts: Counter[str] = Counter()
        self.round = 0
        if self._state.exists():
            self._resume()
        else:
            self._new_store()

    def run_round(self) -> None:
        """Raises: Lost."""
        rng = random.Random(f"{self._seed} {self.round}")  # noqa: S311 - repeatable is the point
        self._load_and_kill(rng)
        acknowledged = self._journal.read_on(self._folder / "journal")
        if acknowledged == 0:
            raise Lost("the kill did not happen under load: nothing had been acknowledged")
        if rng.random() < 0.7:
            self._cut_power(rng)
        rows = trio.run(self._compare)
        self.counts.update(rounds=1, acknowledged=acknowledged)
        self.round += 1
        if rows > ROWS_MAX:
            self._new_store()
        self._save()

    def _load_and_kill(self, rng: random.Random) -> None:
        seed = str(rng.getrandbits(32))
        command = [sys.executable, "-m", "tools.rehearsals._catalog_child", os.fspath(self._folder), seed]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
            assert child.stdout is not None
            if child.stdout.readline() != b"READY\n":
                raise Lost(f"the catalog does not open (exit {child.wait()})")
            child.stdout.readline()  # something is acknowledged: from here on a kill comes under load
            try:
                child.wait(rng.uniform(0.1, 0.9))
            except subprocess.TimeoutExpired:
                child.kill()
            else:
                raise Lost(f"the child ended by itself ({child.returncode})")

    def _cut_power(self, rng: random.Random) -> None:
        """Damage what no finished sync covers."""
        store = self._folder / "store"
        held = [line.split() for line in (self._folder / "held").read_text().splitlines()]
        wal = store / "catalog.db-wal"
        with wal.open("r+b") as file:
            file.seek(SALT_OFFSET)
            (salt,) = struct.unpack(">I", file.read(4))
            keep = _held_end(held, salt)
            how = rng.choice(("truncate", "zero", "holes", "garbage"))
            self.counts[f"power cut: {how}"] += 1
            _damage(file.fileno(), keep, how, rng)

    async def _compare(self) -> int:
        """Returns the number of rows. Raises: Lost."""
        catalog = await Catalog.open(self._folder / "store", 1, read_only=True)
        try:
            if (found := await catalog.read(integrity)) != "ok":
                raise Lost(f"integrity_check: {found}")
            present: set[int] = set()
            last = 0
            while rows := await catalog.read(chunk, last):
                present.update(ident for ident, _, _ in rows)
                last = rows[-1][0]
                for ident, digest, value in rows:
                    if hashlib.blake2b(value).digest() != digest:
                        raise Lost(f"row {ident} holds other bytes than were written")
            counters, twins = await catalog.read(others)
        except CatalogCorrupt as error:  # pages so wrong that not even the check of them comes to an end
            raise Lost(f"integrity: {error}") from error
        finally:
            await catalog.close()
        if missing := self._journal.acknowledged - present:
            raise Lost(f"{len(missing)} acknowledged rows are missing, among them {sorted(missing)[:5]}")
        if twins != present:
            raise Lost(f"half a transaction: {sorted(twins ^ present)[:5]}")
        if low := [task for task, n in self._journal.counters.items() if counters.get(task, 0) < n]:
            raise Lost(f"the counters of tasks {low} went back")
        return len(present)

    def _new_store(self) -> None:
        for name in ("journal", "held", "store"):  # no journal: nothing was promised, see `_resume`
            path = self._folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        Catalog.create(self._folder / "store", SCHEMA, 1, page_size=PAGE)
        self._journal = Journal()
        self._save()

    def _save(self) -> None:
        state = {"seed": self._seed, "round": self.round, "counts": self.counts, "journal": self._journal.offset}
        new = self._state.with_suffix(".new")
        new.write_text(json.dumps(state))
        new.replace(self._state)

    def _resume(self) -> None:
        state = json.loads(self._state.read_text())
        if state["seed"] != self._seed:
            raise SystemExit(f"{self._folder} belongs to a run with --seed {state['seed']}")
        self.round = state["round"]
        self.counts.update(state["counts"])
        if (self._folder / "journal").exists():
            self._journal.read_on(self._folder / "journal")
        else:
            self._new_store()


def _held_end(held: list[list[str]], salt: int) -> int:
    """Where the part of the WAL ends that a finished sync covers."""
    # A WAL that was just started over: SQLite synced its header, and nobody any frame yet.
    return max((int(end) for held_salt, end in held if int(held_salt) == salt), default=WAL_HEADER_BYTES)


def _damage(wal: int, keep: int, how: str, rng: random.Random) -> None:
    """What a power cut may leave of the file *wal* behind the byte *keep*."""
    size = os.fstat(wal).st_size
    if size <= keep:
        return
    if how == "truncate":
        os.ftruncate(wal, keep)
        return
    at = keep
    while at < size:
        step = min(PAGE - at % PAGE, size - at)  # a disk writes whole pages, in any order
        if how == "zero" or rng.random() < 0.5:
            os.pwrite(wal, rng.randbytes(step) if how == "garbage" else bytes(step), at)
        at += step


def integrity(tx: Transaction) -> str:
    row = tx.one("pragma integrity_check")
    assert row is not None
    return str(row[0])


def chunk(tx: Transaction, after: int) -> list[tuple[int, bytes, bytes]]:
    rows = tx.all("select id, sum, value from thing where id > ? order by id limit ?", (after, CHUNK))
    return [(ident, digest, value) for ident, digest, value in rows]


def others(tx: Transaction) -> tuple[dict[int, int], set[int]]:
    twins = {ident for (ident,) in tx.all("select id from twin")}
    return dict(tx.all("select task, n from counter")), twins


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse catalog", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="goes on there; default: a new temporary folder")
    options = parser.parse_args(argv)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rehearse-catalog-"))
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    rehearsal = Rehearsal(folder, options.seed)
    with Progress(console=console) as progress:
        bar = progress.add_task("rounds", total=options.rounds, completed=rehearsal.round)
        while rehearsal.round < options.rounds:
            try:
                rehearsal.run_round()
            except Lost as error:
                console.print(f"[red]round {rehearsal.round}, seed {options.seed}: {error}; left in {folder}")
                return 1
            progress.update(bar, completed=rehearsal.round)
    console.print(f"{rehearsal.round} rounds, seed {options.seed}: nothing acknowledged is missing, no byte is wrong")
    for what, count in sorted(rehearsal.counts.items()):
        console.print(f"  {what}: {count}")
    if options.folder is None:
        shutil.rmtree(folder)
    return 0
