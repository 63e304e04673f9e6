"""Both doors beside floors, and with --peers beside SeaweedFS, rclone and JuiceFS: throughput, and CPU of the server.

All rows of a run are measured on one disk, everybody in turn in each round; peers keep one copy and do not sync, the
store keeps 4+2 and does. A floor is the least that the same libraries can do. Which rows: all, or those that are named.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tests.doors import Doors
from tools.measure import systems
from tools.measure.fill import FILES, fill
from tools.measure.mount_rows import CLOSING, STREAM, make_data
from tools.measure.mount_rows import ROWS as MOUNT_ROWS
from tools.measure.report import table, write_json
from tools.measure.row import Row
from tools.measure.s3_rows import LARGE, get4k, get64m, list_pages, put4k, put64m
from tools.measure.setting import Say, Setting

S3_ROWS: dict[str, Callable[[Setting], list[Row]]] = {
    "get4k": get4k,
    "put4k": put4k,
    "list": list_pages,
    "put64m": put64m,
    "get64m": get64m,
}
ROWS = {**S3_ROWS, **MOUNT_ROWS}
_FULL_ROUNDS = 5
_WIDTH = 160
"""Of the table where it goes to a file."""


def main(argv: list[str]) -> int:
    given = _parsed(argv)
    names = given.rows or list(ROWS)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    rows: list[Row] = []
    try:
        _run(given, names, console, rows)
    finally:  # what was measured until an interruption stands
        if rows:
            console.print(table(rows))
    return 0


def _run(given: argparse.Namespace, names: Sequence[str], console: Console, rows: list[Row]) -> None:
    """Adds each row to *rows* when all its rounds are measured."""
    with (
        tempfile.TemporaryDirectory(dir=given.folder, prefix="stratumfs-bench-") as folder,
        _progress(console) as say,
        _setting(Path(folder), names, given, say) as setting,
    ):
        for name in names:
            for row in _measured(setting, name, given.rounds):
                rows.append(row)
                if given.json is not None:
                    write_json(given.json, rows, given.seed)


def _parsed(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of: {' '.join(ROWS)}")
    parser.add_argument(
        "--peers", action="store_true", help="measure SeaweedFS, rclone and JuiceFS beside (extra: bench)"
    )
    parser.add_argument("--rounds", type=int, default=_FULL_ROUNDS)
    parser.add_argument("--keys", type=int, default=1_000_000, help="in the bucket that is listed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write every sample there")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: the temporary folder")
    given = parser.parse_args(argv)
    if unknown := set(given.rows) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    if given.peers and (missing := systems.missing_peers()):
        parser.error(
            f"not installed: {', '.join(missing)}. .venv/bin/pip install -c tools/requirements.lock -e '.[bench]'"
        )
    return given


def _measured(setting: Setting, name: str, rounds: int) -> Iterator[Row]:
    setting.say(f"{name}: what it needs")
    for row in ROWS[name](setting):
        for round_ in range(rounds):
            setting.say(f"{row.title}: round {round_ + 1} of {rounds}")
            row.run(round_)
        yield row


@contextmanager
def _setting(folder: Path, names: Sequence[str], given: argparse.Namespace, say: Say) -> Iterator[Setting]:
    """Everybody who takes part in these rows runs; nothing is left afterwards."""
    setting = Setting(folder, {}, given.seed, given.keys, say)
    by_s3, by_mount = any(name in S3_ROWS for name in names), any(name in MOUNT_ROWS for name in names)
    with ExitStack() as running:

        def place(name: str) -> Path:
            made = folder / name
            made.mkdir()
            return made

        say("making the store")
        doors = Doors(place("stratumfs"))
        doors.make()
        keys, files = given.keys * ("list" in names), FILES * ("rename-dir" in names)
        fill(doors.store, folder / "catalog.db", keys, files, say)
        begin = [systems.stratumfs(doors)]
        if set(names) & set(CLOSING):
            hasty = Doors(place("published"))
            hasty.make()
            fill(hasty.store, folder / "published.db", 0, 0, say)
            begin.append(systems.published(hasty))
        if by_s3:
            begin.append(systems.bare_http(_with_data(place("http"), LARGE, setting)))
        if by_mount:
            begin.append(systems.bare_fuse(_with_data(place("fuse"), STREAM, setting)))
        if given.peers:
            begin.append(systems.seaweed(place("seaweed"), mount=by_mount))
        if given.peers and by_s3:
            begin.append(systems.rclone(place("rclone")))
        if given.peers and by_mount:
            begin.append(systems.juice(place("juice")))
        for each in begin:
            say("starting servers")
            system = running.enter_context(each)
            setting.systems[system.name] = system
        yield setting


def _with_data(folder: Path, size: int, setting: Setting) -> Path:
    """The file that a floor shows."""
    make_data(folder / "data", size, setting)
    return folder


@contextmanager
def _progress(console: Console) -> Iterator[Say]:
    """One line that says what is being done; on something else than a terminal, a line for each."""
    if not console.is_terminal:
        yield lambda text: print(text, flush=True)
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("")
        yield lambda text: progress.update(task, description=text)
