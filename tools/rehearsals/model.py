"""Draw operations through both doors of a real store and compare it with a plain model after every step, for long.

Examples are run in groups, each with a store of its own and a seed of its own; after each group the store is stopped,
opened and compared again, and in the end every cell of it is verified. A run is known by its folder: the same folder
goes on with the next group.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.doors import opened_doors
from tests.model.machine import run_examples
from tests.model.world import opened_world

GROUP = 50
STEPS = 30
GROUP_S = 3600.0


def run_group(folder: Path, examples: int, seed: int) -> Counter[str]:
    """One store, some examples. Returns how often each operation came to which end. Raises: AssertionError."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with opened_doors(folder, seconds=GROUP_S) as doors:
        with opened_world(doors, restarts=True) as world:
            run_examples(world, examples, STEPS, seed)
            world.check_after_restart()
        doors.stop()
        if wrong := doors.audit() + doors.complaints():
            raise AssertionError("\n".join(wrong))
    shutil.rmtree(folder)
    return world.outcomes + Counter({"steps": world.steps, "examples": examples})


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tools/rehearse model", description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="goes on there; default: a new temporary folder")
    options = parser.parse_args(argv)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rehearse-model-"))
    folder.mkdir(parents=True, exist_ok=True)
    console, path = Console(), folder / "state.json"
    state: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"seed": options.seed, "counts": {}}
    if state["seed"] != options.seed:
        raise SystemExit(f"{folder} belongs to a run with --seed {state['seed']}")
    counts = Counter[str](state["counts"])
    columns = TextColumn("examples"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=options.examples, completed=counts["examples"])
        while (done := counts["examples"]) < options.examples:
            seed = options.seed * 1_000_000 + done
            try:
                counts += run_group(folder / "store", min(GROUP, options.examples - done), seed)
            except (AssertionError, BaseExceptionGroup, OSError) as error:
                console.print_exception()
                console.print(f"[red]after {done} examples, group of seed {seed}: {error}; left in {folder}")
                return 1
            new = path.with_suffix(".new")
            new.write_text(json.dumps({"seed": options.seed, "counts": counts, "at": time.time()}))
            new.replace(path)
            progress.update(bar, completed=counts["examples"])
    console.print(f"{counts['steps']} steps in {counts['examples']} examples, seed {options.seed}: no difference")
    for what, count in sorted(counts.items()):
        console.print(f"  {what}: {count}")
    if options.folder is None:
        shutil.rmtree(folder)
    return 0
