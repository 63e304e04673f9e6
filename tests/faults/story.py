"""What a run has said so far: which trees a stop may show."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.faults.tree import NO_STORE, Tree


@dataclass(frozen=True, slots=True)
class Progress:
    """Indices into the trees of a story: the last that was begun, that was returned from, that is promised.

    After a kill a store shows one of the trees from *returned* to *begun*: what returned is in the page cache at least.
    After a power cut one from *promised* to *begun*.
    """

    begun: int = 0
    returned: int = 0
    promised: int = 0


@dataclass(slots=True)
class Story:
    """One line of changes, each atomic. *told* hears of each step that it makes.

    scope  the bucket (``bucket/``) that it is about; empty: everything
    """

    tree: Tree
    scope: str = ""
    told: Callable[["Progress"], None] = lambda progress: None
    trees: list[Tree] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    damaged: bool = False
    """The store was damaged before, and it is about what mends it."""

    def __post_init__(self) -> None:
        self.trees.append(self.tree)

    @contextmanager
    def changing(self, *trees: Tree, durable: bool = True) -> Iterator[None]:
        """The block leads through *trees*. On its end the last of them is shown; *durable*: and promised."""
        self.trees += trees
        self.tree = self.trees[-1]
        last = len(self.trees) - 1
        self._tell(Progress(last, self.progress.returned, self.progress.promised))
        yield
        self._tell(Progress(last, last, last if durable else self.progress.promised))

    @contextmanager
    def promising(self) -> Iterator[None]:
        """On the block's end all that was shown before is promised: fsync, close, an answer that depends on it."""
        yield
        self._tell(Progress(self.progress.begun, self.progress.returned, self.progress.returned))

    def _tell(self, progress: Progress) -> None:
        self.progress = progress
        self.told(progress)


Said = Sequence[Progress]
"""How far each story of a run had come."""


@dataclass(frozen=True, slots=True)
class Expected:
    """For each scope the trees of which a store must show one. damaged: it is fsck that sees to what is left."""

    parts: Sequence[tuple[str, Sequence[Tree]]]
    damaged: bool = False

    @property
    def perhaps_nothing(self) -> bool:
        """There may be no store at all."""
        return any(NO_STORE in trees for _, trees in self.parts)

    def differences(self, found: Tree) -> list[str]:
        """How *found* differs from what is nearest to it, a line each; nothing if it is one of those expected."""
        lines = []
        for scope, trees in self.parts:
            part = found.under(scope)
            each = [tree.under(scope).differences(part) for tree in trees]
            nearest = min(each, key=len)
            lines += nearest
        known = tuple(scope for scope, _ in self.parts)
        return lines + [f"{path}: expected nothing" for path in found.nodes if not path.startswith(known)]


def after_kill(stories: Sequence[Story], said: Said) -> Expected:
    pairs = zip(stories, said, strict=True)
    parts = [(story.scope, story.trees[each.returned : each.begun + 1]) for story, each in pairs]
    return Expected(parts, any(story.damaged for story in stories))


def after_power_cut(stories: Sequence[Story], said: Said) -> Expected:
    pairs = zip(stories, said, strict=True)
    parts = [(story.scope, story.trees[each.promised : each.begun + 1]) for story, each in pairs]
    return Expected(parts, any(story.damaged for story in stories))
