"""Records every moment at which a run could be stopped."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.faults.calls import Step
from tests.faults.disk import Contents, Disk, Image, image_of, torn
from tests.faults.run import WritePath, play
from tests.faults.story import Expected, Said, Story, after_kill, after_power_cut
from tests.faults.tree import Tree

END = Step("answer", "caller")
"""Behind the last call of a run."""
_MANY = ("write WAL", "write database", "write journal")
"""Calls of SQLite that come in runs."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The instant before *step*: what files show, what of it is safe, what was said."""

    step: Step
    now: Contents
    safe: Contents
    said: Said


@dataclass(frozen=True, slots=True)
class Recorded:
    """One run."""

    moments: Sequence[Moment]
    stories: Sequence[Story]

    def outline(self) -> "Outline":
        calls: dict[str, list[int]] = {}
        for number, moment in enumerate(self.moments[:-1]):
            calls.setdefault(str(moment.step), []).append(number)
        return Outline(calls, self.stories)

    def thinned(self, rng: random.Random) -> Iterator[Moment]:
        """All moments; of a long run of equal calls of SQLite, whose own tests are better, the first and two others."""
        for start, stop in self._runs():
            chosen: Sequence[int] = range(start, stop)
            if len(chosen) > 4 and str(self.moments[start].step) in _MANY:
                chosen = [start, *sorted(rng.sample(range(start + 1, stop), 2))]
            yield from (self.moments[at] for at in chosen)

    def _runs(self) -> Iterator[tuple[int, int]]:
        start = 0
        for at in range(1, len(self.moments) + 1):
            if at == len(self.moments) or self.moments[at].step != self.moments[start].step:
                yield start, at
                start = at


@dataclass(frozen=True, slots=True)
class Outline:
    """What of a run is worth keeping: the numbers of its calls by the name of their step, and what it told."""

    calls: Mapping[str, Sequence[int]]
    stories: Sequence[Story]

    def one_of_each(self, rng: random.Random) -> list[int]:
        """A call of each kind, by its number."""
        return [rng.choice(numbers) for numbers in self.calls.values()]


class Recorder:
    """A `StepWatch` that keeps a moment for each step, or for those alone that *keep* chooses."""

    def __init__(self, keep: Callable[[], bool] = lambda: True) -> None:
        self.moments: list[Moment] = []
        self._keep = keep
        self._stories: Sequence[Story] = ()
        self._disk: Disk | None = None

    def begin(self, root: Path, stories: Sequence[Story]) -> None:
        self._disk = Disk(root)
        self._stories = stories

    def end(self) -> None:
        self.before(END, Path())
        self._stories = ()

    def before(self, step: Step, path: Path) -> None:
        if self._stories and self._disk is not None and (step == END or self._keep()):
            said = tuple(story.progress for story in self._stories)
            self.moments.append(Moment(step, self._disk.now(), self._disk.safe(), said))

    def synced(self, path: Path) -> None:
        if self._stories and self._disk is not None:
            self._disk.synced(path)

    def close(self) -> None:
        if self._disk is not None:
            self._disk.close()


async def record(
    path: WritePath, root: Path, image: Image, tree: Tree, seed: int = 0, keep: Callable[[], bool] = lambda: True
) -> Recorded:
    """Run *path* once and keep every moment of its recorded part, or those alone that *keep* chooses."""
    with closing(Recorder(keep)) as recorder:
        stories = await play(path, root, image, tree, recorder, seed)
    assert recorder.moments, "the path recorded nothing"
    return Recorded(recorder.moments, stories)


@dataclass(frozen=True, slots=True)
class Stop:
    """What one stop leaves, and what it may show."""

    how: str
    before: str
    image: Image
    expected: Expected

    def __str__(self) -> str:
        return f"{self.how} before {self.before}"


def stops_at(moment: Moment, stories: Sequence[Story], rng: random.Random, number: int = 0) -> list[Stop]:
    """What a kill leaves, for the page cache survives it; what a power cut leaves that takes all that was not synced;
    and one that takes some of it."""
    before = f"{moment.step} (moment {number}, {moment.said})"
    killed, cut = after_kill(stories, moment.said), after_power_cut(stories, moment.said)
    return [
        Stop("a kill", before, image_of(moment.now), killed),
        Stop("a power cut", before, image_of(moment.safe), cut),
        Stop("a torn power cut", before, torn(moment.safe, moment.now, rng), cut),
    ]


def stops(recorded: Recorded, rng: random.Random) -> Iterator[Stop]:
    """Every stop of a run, those that leave the same only once."""
    seen: set[int] = set()
    for number, moment in enumerate(recorded.thinned(rng)):
        for stop in stops_at(moment, recorded.stories, rng, number):
            key = hash((stop.how == "a kill", moment.said, tuple(sorted(stop.image.items()))))
            if key not in seen:
                seen.add(key)
                yield stop
