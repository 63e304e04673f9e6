"""Records every moment at which a run could be stopped."""

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tests.faults.calls import WRITING, Step
from tests.faults.disk import Contents, Disk, Image, image_of, torn
from tests.faults.run import WritePath, play
from tests.faults.story import Expected, Said, Story, after_kill, after_power_cut
from tests.faults.tree import Tree

END = Step("answer", "caller")
"""Behind the last call of a run."""


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
        """Of each kind of step a moment, in the order of the run, and its end."""
        chosen = [rng.choice(numbers) for numbers in self.outline().calls.values()]
        return (self.moments[at] for at in sorted((*chosen, len(self.moments) - 1)))


@dataclass(frozen=True, slots=True)
class Outline:
    """What of a run is worth keeping: the numbers of its calls by the name of their step, and what it told."""

    calls: Mapping[str, Sequence[int]]
    stories: Sequence[Story]

    @property
    def count(self) -> int:
        return sum(map(len, self.calls.values()))

    @property
    def writing(self) -> "Outline":
        """Of those calls alone that write bytes, numbered among themselves."""
        verbs = tuple(f"{verb} " for verb in WRITING)
        kinds = {kind: numbers for kind, numbers in self.calls.items() if kind.startswith(verbs)}
        among = {call: number for number, call in enumerate(sorted(chain.from_iterable(kinds.values())))}
        return Outline({kind: [among[call] for call in numbers] for kind, numbers in kinds.items()}, self.stories)

    def calls_of_kinds(self, count: int, rng: random.Random) -> list[int]:
        """A call of each of so many kinds, or of all if there are fewer, by its number."""
        return [rng.choice(self.calls[kind]) for kind in rng.sample(list(self.calls), min(count, len(self.calls)))]


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


def stops(recorded: Recorded, moments: Iterable[Moment], rng: random.Random, tears: int = 1) -> Iterator[Stop]:
    """The stops at these moments of a run, with so many torn power cuts each.

    Of those that leave the same and may show the same one is enough: what is wrong with it depends on nothing else.
    """
    seen: set[int] = set()
    for number, moment in enumerate(moments):
        for stop in _stops_at(moment, recorded.stories, rng, number, tears):
            allowed = tuple(id(tree) for _, trees in stop.expected.parts for tree in trees)
            key = hash((allowed, tuple(sorted(stop.image.items()))))
            if key not in seen:
                seen.add(key)
                yield stop


def _stops_at(moment: Moment, stories: Sequence[Story], rng: random.Random, number: int, tears: int) -> Iterator[Stop]:
    """What a kill leaves, for the page cache survives it; what a power cut leaves that takes all that was not synced;
    and ones that take some of it."""
    before = f"{moment.step} (moment {number}, {moment.said})"
    killed, cut = after_kill(stories, moment.said), after_power_cut(stories, moment.said)
    yield Stop("a kill", before, image_of(moment.now), killed)
    yield Stop("a power cut", before, image_of(moment.safe), cut)
    for _ in range(tears):
        yield Stop("a torn power cut", before, torn(moment.safe, moment.now, rng), cut)
