"""In which order decided moves are carried out, so that no tier is above its room on the way.

Pure. Verdicts wait here from the moment they are made; whoever moves bytes takes them in batches, and says what has
become of each. A later verdict about an object replaces an earlier one that has not begun; one that leads back to where
the object is needs no move at all.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tiering.verdict import Cause, Verdict

_ORDER = {Cause.PRESSURE: 0, Cause.PIN: 1, Cause.RESTORED: 1, Cause.PLACED: 2, Cause.POLICY: 2, Cause.GATHERED: 3}
"""What makes room goes first; of a kind, what was decided first."""


@dataclass(frozen=True, slots=True)
class Batch:
    """moves  in the order in which they are to begin; *bytes* is their sum"""

    moves: tuple[Verdict, ...] = ()
    bytes: float = 0.0


class Plan:
    """Moves that wait and moves under way. Each object has at most one of either."""

    def __init__(self) -> None:
        self._waiting: dict[int, Verdict] = {}
        self._under_way: dict[int, Verdict] = {}
        self._alike: Counter[tuple[int, bool]] = Counter()

    def __len__(self) -> int:
        """That wait."""
        return len(self._waiting)

    @property
    def waiting(self) -> Sequence[Verdict]:
        return tuple(self._waiting.values())

    @property
    def under_way(self) -> Sequence[Verdict]:
        return tuple(self._under_way.values())

    def add(self, verdicts: Iterable[Verdict]) -> None:
        """Their sources are where the policy has booked the objects; where they are is known here."""
        for verdict in verdicts:
            if verdict.source is None:
                continue
            before = self._take(verdict.key)
            # What is gathered is a part of an object that lies elsewhere.
            at = verdict.source if before is None or before.cause is Cause.GATHERED else before.source
            current = self._under_way.get(verdict.key)
            if current is not None:
                at = current.target
            if at != verdict.target:
                self._put(verdict if at == verdict.source else _from(verdict, at))

    def alike(self, verdict: Verdict) -> int:
        """How many wait for the same tier. What makes room is counted by itself: nothing else is in its way."""
        return self._alike[_kind(verdict)]

    def preferred(self, tier: int) -> int:
        """How many wait for a tier that do not make room."""
        return self._alike[tier, False]

    def waits(self, key: int) -> Verdict | None:
        return self._waiting.get(key)

    def is_under_way(self, key: int) -> bool:
        return key in self._under_way

    def drop(self, key: int) -> None:
        """It was removed, or moved by somebody else: what waits is not done."""
        self._take(key)

    def next(self, room: Sequence[float], *, bytes_max: float, moves_max: int) -> Batch:
        """What can begin now. *room*: bytes free in each tier, with what moves under way will take taken off.

        Room that a move frees counts once it is done. A single move may have more than *bytes_max*.
        """
        left = list(room)
        moves: list[Verdict] = []
        total = 0.0
        for verdict in sorted(self._waiting.values(), key=lambda each: _ORDER[each.cause]):
            size = verdict.inputs.use.size
            if len(moves) >= moves_max or (moves and total + size > bytes_max):
                break
            if verdict.key in self._under_way or size > left[verdict.target]:
                continue
            left[verdict.target] -= size
            moves.append(verdict)
            total += size
        for verdict in moves:
            self._take(verdict.key)
            self._under_way[verdict.key] = verdict
        return Batch(tuple(moves), total)

    def ended(self, key: int, *, done: bool) -> Verdict | None:
        """A move has ended. Returns it if it was not done: the policy is to be told where the object still lies."""
        verdict = self._under_way.pop(key)
        if done:
            return None
        after = self._take(key)
        if after is not None and verdict.source is not None and after.target != verdict.source:
            self._put(_from(after, verdict.source))
            return None
        return verdict

    def _put(self, verdict: Verdict) -> None:
        self._waiting[verdict.key] = verdict
        self._alike[_kind(verdict)] += 1

    def _take(self, key: int) -> Verdict | None:
        verdict = self._waiting.pop(key, None)
        if verdict is not None:
            self._alike[_kind(verdict)] -= 1
        return verdict


def lifetime(verdict: Verdict) -> tuple[int, float]:
    """Into one tier together, and side by side there what is expected to be read about as often: it will be moved on,
    or up again, at about the same time, and leave whole volumes empty."""
    return verdict.target, verdict.inputs.reads_day


def _kind(verdict: Verdict) -> tuple[int, bool]:
    return verdict.target, verdict.cause is Cause.PRESSURE


def _from(verdict: Verdict, source: int | None) -> Verdict:
    return Verdict(
        verdict.key, source, verdict.target, verdict.now, verdict.cause, verdict.inputs, verdict.case, verdict.for_key
    )
