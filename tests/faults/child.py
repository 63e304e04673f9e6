"""Runs write paths in processes that end at a step, as by kill -9: ``python -m tests.faults.child ROOT BASE``.

Reads a line ``PATH STOP SEED`` for each run and forks: the child runs the path (``traffic``: that of the seed) below
ROOT on the store that BASE (pickled) holds, and ends before its STOP-th call (from 0; one that is not reached ends
behind the last). It says how far it came on standard output, and a last line ``ended CODE``. This process itself opens
nothing, so that no child inherits a database.
"""

import logging
import os
import pickle
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog
import trio

from tests.faults.calls import Step
from tests.faults.paths import PATHS
from tests.faults.run import play
from tests.faults.story import Progress, Story
from tests.faults.traffic import traffic

STOPPED, FAILED = 9, 1


class Stopper:
    """A `StepWatch` that ends the process."""

    def __init__(self, stop: int) -> None:
        self._left = stop
        self._counting = False

    def begin(self, root: Path, stories: Sequence[Story]) -> None:
        for number, story in enumerate(stories):
            story.told = partial(self._tell, number)
            _say(f"progress {number} 0 0 0")
        self._counting = True

    def end(self) -> None:
        os._exit(STOPPED)

    def before(self, step: Step, path: Path) -> None:
        if self._counting:
            if self._left == 0:
                _say(f"before {step}")
                os._exit(STOPPED)
            self._left -= 1

    def synced(self, path: Path) -> None:
        pass

    def _tell(self, number: int, progress: Progress) -> None:
        _say(f"progress {number} {progress.begun} {progress.returned} {progress.promised}")


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())  # at once, whatever happens to this process next


def _run(root: Path, base: Path, name: str, stop: int, seed: int) -> None:
    image, tree = pickle.loads(base.read_bytes())
    try:
        path = traffic(seed) if name == "traffic" else PATHS[name]
        trio.run(play, path, root, image, tree, Stopper(stop), seed)
    except BaseException:
        traceback.print_exc()
    os._exit(FAILED)


def main() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    root, base = map(Path, sys.argv[1:])
    for line in sys.stdin:
        name, stop, seed = line.split()
        pid = os.fork()
        if pid == 0:
            _run(root, base, name, int(stop), int(seed))
        _, status = os.waitpid(pid, 0)
        _say(f"ended {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
