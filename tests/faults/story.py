"""What a run has said so far: which trees a stop may show."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.faults.tree import Tree


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
    """One line of changes, each atomic. *told* hears of each step that it makes."""

    tree: Tree
    told: Callable[["Progress"], None] = lambda progress: None
    trees: list[Tree] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)

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
