"""kill -9 of an owner that moves a bucket between tiers, under writers at both doors."""

import os
import random
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from stratumfs.errors import StratumError
from stratumfs.owner.messages import Move, Status
from tests.doors import Doors
from tests.model.s3 import Reader
from tools.rehearsals import kill
from tools.rehearsals._tree_sample import Entry, digest
from tools.rehearsals.kill import Lost

WAYS = "cold", "hot"
ENDED_S = 1800.0
_LOOK_S = 0.05
_SAMPLE = 200
_EARLY, _EARLY_S = 0.5, (0.0, 0.5)
"""Part of the kills that come so soon after a move has begun, when perhaps nothing has moved yet."""
_PART = 0.0, 0.8
"""Of its bytes that have moved before the others."""
_TWICE = 0.5
"""Part of the kills that are followed by one of the owner that goes on with the move."""


class Kills(kill.Rehearsal):
    """As the rehearsal of kills, but that *bucket*, which holds *files*, goes to the cold tier and back meanwhile."""

    by_s3, by_mount = "kills-by-s3", "kills-by-mount"

    def __init__(self, doors: Doors, bucket: str, files: Sequence[Entry], seed: int) -> None:
        super().__init__(doors, seed, check_every=1 << 30)
        self._bucket, self._files = bucket, files
        self._to = WAYS[0]
        self._begun = 0
        self._moving: threading.Thread | None = None

    def killed(self, way: str) -> int:
        return self.counts[f"kills during a move to {way}"]

    def wait_moved(self) -> None:
        """No move is under way. Raises: Lost."""
        deadline = time.monotonic() + ENDED_S
        while moves := self._moves():
            if time.monotonic() > deadline:
                raise Lost(f"a move does not end: {moves}")
            time.sleep(_LOOK_S)

    def _load_and_kill(self, rng: random.Random) -> None:
        if rng.random() >= _TWICE:
            self.wait_moved()
        try:
            super()._load_and_kill(rng)
        finally:
            if self._moving is not None:
                self._moving.join()
                self._moving = None

    def _wait_moment(self, rng: random.Random) -> None:
        """Somewhere in a move: soon after it was begun, or when a part of its bytes is elsewhere."""
        if not self._moves():
            self._to = WAYS[self._begun % len(WAYS)]
            self._begun += 1
            self._moving = threading.Thread(target=partial(_move, self.doors, self._bucket, self._to))
            self._moving.start()
            while not self._moves() and self._moving.is_alive():
                time.sleep(_LOOK_S)
        until = time.monotonic() + rng.uniform(*_EARLY_S) if rng.random() < _EARLY else float("inf")
        part = rng.uniform(*_PART)
        while (moves := self._moves()) and time.monotonic() < until:
            if moves[0]["bytes"] > part * moves[0]["total"]:
                break
            time.sleep(_LOOK_S)

    def _kill(self) -> None:
        under_way = bool(self._moves())
        super()._kill()
        self.counts[f"kills during a move to {self._to}" if under_way else "kills behind a move"] += 1

    def _moves(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.doors.ask(Status())["moves"]
        return found

    def _compare(self) -> None:
        super()._compare()
        rng = random.Random(f"{self._seed} {self.round} files")  # noqa: S311 - repeatable is the point
        reader = Reader(self.doors)
        for entry in rng.sample(self._files, min(_SAMPLE, len(self._files))):
            by_s3 = reader.get(self._bucket, os.fsencode(entry.path)).data
            by_mount = (self.doors.mount / self._bucket / entry.path).read_bytes()
            if digest(by_s3) != entry.digest or digest(by_mount) != entry.digest:
                raise Lost(f"{self._bucket}/{entry.path} has other bytes behind a kill")
            self.counts["files of the tree compared behind a kill"] += 1
        reader.close()

    def _check_start(self, seconds: float, rng: random.Random) -> None:
        """How fast a start is behind a kill is the other rehearsal's: here it goes on with a move at once."""


def _move(doors: Doors, bucket: str, tier: str) -> None:
    """Ends with its owner, and is not another one, as the command would be."""
    with suppress(StratumError):
        doors.ask(Move(tier, bucket=bucket, reason="rehearsed"))
