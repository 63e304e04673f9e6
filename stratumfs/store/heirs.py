"""Volumes whose bytes were moved to others that cannot tell of them yet.

What lies in a volume its table of contents says, which it is given when it is sealed; a namespace image says it too.
Until one of them tells of bytes that were moved, the volume that they came from is not removed, for a catalog that is
lost is made again from what tables and images say. An owner that ends seals what it has written to, and so does the
next one for an owner that died; that something waits for an image is written down, but not what.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from stratumfs.ids import VolumeId, random_id


@dataclass(slots=True)
class _Left:
    """heirs: that are open; untabled: a table will never tell of all that some have; sequence: of the last swap."""

    heirs: set[VolumeId] = field(default_factory=set)
    untabled: bool = False
    sequence: int = 0


class Heirs:
    """One a store, for what is moved on to another tier has heirs there. On the loop.

    untold  how often it was found that something is to wait for an image
    """

    def __init__(self) -> None:
        self.untold = 0
        self._left: dict[VolumeId, _Left] = {}
        self._before = 0  # the last transaction of an earlier owner of which only an image tells

    def begun(self, sequence: int) -> None:
        """An earlier owner has left something to wait for an image that shows transaction *sequence*: it may be any
        volume, for one is removed long after the first bytes of it were moved away."""
        self._before = sequence

    def moved(
        self, sources: Iterable[VolumeId], to: Iterable[VolumeId], telling: Collection[VolumeId], sequence: int
    ) -> None:
        """Rows that named *sources* name *to* instead, as of transaction *sequence*. *telling*: volumes whose table is
        yet to be made of what rows say."""
        heirs = set(to)
        own = set(sources) - heirs
        # What was moved to one of them before, and may be moved on now, has these heirs too.
        own |= {ident for ident, left in self._left.items() if not left.heirs.isdisjoint(own)} - heirs
        for ident in own if heirs else ():
            left = self._left.setdefault(ident, _Left())
            left.heirs |= heirs.intersection(telling)
            if not heirs.issubset(telling):
                left.untabled = True
                self.untold += 1
            left.sequence = max(left.sequence, sequence)

    @contextmanager
    def moving(
        self,
        sources: Collection[VolumeId],
        to: Collection[VolumeId],
        telling: Callable[[], Collection[VolumeId]],
        sequence: Callable[[], int],
    ) -> Iterator[None]:
        """As `moved`, around the transactions that swap the rows: one that is sealed between two of them has a table
        that does not tell of all, and what waits for it waits on."""
        step = VolumeId(random_id())  # stands for *to* until then
        self.moved(sources, [step], [step], sequence())
        try:
            yield
        finally:
            waiting = {ident for ident, left in self._left.items() if step in left.heirs}
            self.moved(waiting.union(sources), to, telling(), sequence())
            self.ended(step, True)

    def ended(self, heir: VolumeId, tabled: bool) -> None:
        """One of them was sealed, and has its table, or never will."""
        for ident, left in list(self._left.items()):
            if heir in left.heirs:
                left.heirs.discard(heir)
                if not tabled:
                    left.untabled = True
                    self.untold += 1
                if not left.heirs and not left.untabled:
                    del self._left[ident]

    def imaged(self, sequence: int) -> None:
        """A namespace image shows all up to transaction *sequence*, and every place that is there names it."""
        for ident in [ident for ident, left in self._left.items() if left.sequence <= sequence]:
            del self._left[ident]
        if self._before <= sequence:
            self._before = 0

    def wait_for(self, ident: VolumeId) -> frozenset[VolumeId] | None:
        """None: it may go. Else the volumes that are to be sealed first; none of them: an image must come first."""
        left = self._left.get(ident)
        if left is not None:
            return frozenset(left.heirs)
        return frozenset() if self._before else None

    def forget(self, ident: VolumeId) -> None:
        """It has gone."""
        self._left.pop(ident, None)
