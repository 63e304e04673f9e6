"""Has write paths run in processes of their own that end at a step."""

import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.faults.child import STOPPED
from tests.faults.disk import Image
from tests.faults.story import Progress, Said
from tests.faults.tree import Tree

_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Killed:
    """How far a process came: before which call it ended (None: behind the last), and what it had said."""

    before: str | None
    said: Said


class Killer:
    """Starts one process that forks for each run; ``close`` ends it."""

    def __init__(self, root: Path, image: Image, tree: Tree) -> None:
        base = root.with_name("base.pickle")
        base.write_bytes(pickle.dumps((image, tree)))
        command = [sys.executable, "-m", "tests.faults.child", str(root), str(base)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=_REPOSITORY
        )

    def run(self, name: str, stop: int, seed: int) -> Killed:
        """Run the path *name* and end the process before its *stop*-th call; the store is left as it is then."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{name} {stop} {seed}\n")
        before: str | None = None
        said: dict[int, Progress] = {}
        for line in self._process.stdout:
            kind, _, rest = line.strip().partition(" ")
            if kind == "progress":
                number, *numbers = map(int, rest.split())
                said[number] = Progress(*numbers)
            elif kind == "before":
                before = rest
            else:
                assert line == f"ended {STOPPED}\n", line
                return Killed(before, [said[number] for number in sorted(said)])
        raise AssertionError(f"the process that forks ended with {self._process.wait()}")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
