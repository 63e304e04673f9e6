"""Readers that go through an object piece by piece: what belongs together is one access, however many requests it took.

A video player or a copy reads an object in thousands of pieces, one behind the other, and heats it no more than one GET
of the same bytes; a random reader comes back to it each time.
"""

from dataclasses import dataclass, replace

RUN_IDLE_S = 60.0
"""A reader that makes a longer pause begins a new access."""
NEAR_PIECES = 4
"""The kernel reads ahead in several pieces at once, and they are answered in any order: what begins no further from
where the reader was than so many of its pieces goes on there."""
RUNS_MAX = 1024
"""Under way at once; the one that was begun first is ended for a further one."""


@dataclass(slots=True)
class _Run:
    end: int | None
    bytes: float
    last_s: float


class Runs:
    """By slot, those under way, in the order in which they began."""

    def __init__(self) -> None:
        self._runs: dict[int, _Run] = {}

    def read(self, slot: int, count: float, offset: int | None, now: float) -> tuple[bool, list[tuple[int, float]]]:
        """Whether an access begins here; and the slots and bytes of the accesses that have ended.

        offset  None where the door does not know it: pieces that follow soon are then taken for one access
        """
        run = self._runs.get(slot)
        if run is not None and now - run.last_s <= RUN_IDLE_S and _goes_on(run, count, offset):
            run.bytes += count
            run.last_s = now
            run.end = None if offset is None else max(run.end or 0, offset + int(count))
            return False, []
        ended = [] if run is None else [(slot, self._runs.pop(slot).bytes)]
        if len(self._runs) >= RUNS_MAX:
            first = next(iter(self._runs))
            ended.append((first, self._runs.pop(first).bytes))
        self._runs[slot] = _Run(None if offset is None else offset + int(count), count, now)
        return True, ended

    def fork(self) -> "Runs":
        made = Runs()
        made._runs = {slot: replace(run) for slot, run in self._runs.items()}
        return made

    def drop(self, slot: int) -> None:
        self._runs.pop(slot, None)


def _goes_on(run: _Run, count: float, offset: int | None) -> bool:
    return offset is None or (run.end is not None and abs(offset - run.end) <= NEAR_PIECES * count)
