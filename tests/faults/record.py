"""Records every moment at which a run could be stopped."""

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.faults.calls import Step
from tests.faults.disk import Contents, Disk, Image, image_of, torn
from tests.faults.run import WritePath, play
from tests.faults.story import Progress, Story
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
    progress: Progress


@dataclass(frozen=True, slots=True)
class Recorded:
    """One run."""

    moments: Sequence[Moment]
    trees: Sequence[Tree]

    def outline(self) -> "Outline":
        calls: dict[str, list[int]] = {}
        for number, moment in enumerate(self.moments[:-1]):
            calls.setdefault(str(moment.step), []).append(number)
        return Outline(calls, self.trees)

    def thinned(self, rng: random.Random) -> Iterator[Moment]:
        """All moments; of a long run of equal calls of SQLite the first two, the last, and one in between."""
        for start, stop in self._runs():
            chosen = range(start, stop)
            if stop - start > 4 and str(self.moments[start].step) in _MANY:
                chosen_set = {start, start + 1, rng.randrange(start + 2, stop - 1), stop - 1}
                yield from (self.moments[at] for at in sorted(chosen_set))
            else:
                yield from (self.moments[at] for at in chosen)

    def _runs(self) -> Iterator[tuple[int, int]]:
        start = 0
        for at in range(1, len(self.moments) + 1):
            if at == len(self.moments) or self.moments[at].step != self.moments[start].step:
                yield start, at
                start = at


@dataclass(frozen=True, slots=True)
class Outline:
    """What of a run is worth keeping: the numbers of its calls by the name of their step, and its trees."""

    calls: Mapping[str, Sequence[int]]
    trees: Sequence[Tree]

    def one_of_each(self, rng: random.Random) -> list[int]:
        """A call of each kind, by its number."""
        return [rng.choice(numbers) for numbers in self.calls.values()]


class Recorder:
    """A `StepWatch` that keeps a moment for each step."""

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self._story: Story | None = None
        self._disk: Disk | None = None

    def begin(self, root: Path, story: Story) -> None:
        self._disk = Disk(root)
        self._story = story

    def end(self) -> None:
        self.before(END, Path())
        self._story = None

    def before(self, step: Step, path: Path) -> None:
        if self._story is not None and self._disk is not None:
            self.moments.append(Moment(step, self._disk.now(), self._disk.safe(), self._story.progress))

    def synced(self, path: Path) -> None:
        if self._story is not None and self._disk is not None:
            self._disk.synced(path)

    def close(self) -> None:
        if self._disk is not None:
            self._disk.close()


async def record(path: WritePath, root: Path, image: Image, tree: Tree, seed: int = 0) -> Recorded:
    """Run *path* once and keep every moment of its recorded part."""
    with closing(Recorder()) as recorder:
        story = await play(path, root, image, tree, recorder, seed)
    assert recorder.moments, "the path recorded nothing"
    return Recorded(recorder.moments, story.trees)


def killed(moment: Moment) -> Image:
    """What a kill leaves: the page cache survives it."""
    return image_of(moment.now)


def power_cut(moment: Moment) -> Image:
    """What a power cut leaves that takes all that was not synced."""
    return image_of(moment.safe)


def power_torn(moment: Moment, rng: random.Random) -> Image:
    """What a power cut leaves that takes some of what was not synced."""
    return torn(moment.safe, moment.now, rng)


@dataclass(frozen=True, slots=True)
class Stop:
    """What one stop leaves, and what it may show."""

    how: str
    before: str
    image: Image
    allowed: Sequence[Tree]

    def __str__(self) -> str:
        return f"{self.how} before {self.before}"


def stops(recorded: Recorded, rng: random.Random) -> Iterator[Stop]:
    """Every stop of a run: a kill and two power cuts at each moment, those that leave the same only once."""
    seen: set[int] = set()
    moments = list(recorded.thinned(rng))
    for number, moment in enumerate(moments, 1):
        said = moment.progress
        for how, image, first in (
            ("a kill", killed(moment), said.returned),
            ("a power cut", power_cut(moment), said.promised),
            ("a torn power cut", power_torn(moment, rng), said.promised),
        ):
            key = hash((first, said.begun, tuple(sorted(image.items()))))
            if key not in seen:
                seen.add(key)
                before = f"{moment.step} ({number} of {len(moments)}, {said})"
                yield Stop(how, before, image, recorded.trees[first : said.begun + 1])
