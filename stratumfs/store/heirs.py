"""Volumes whose bytes were moved to others that cannot tell of them yet.

What lies in a volume its table of contents says, which it is given when it is sealed; a namespace image says it too.
Until one of them tells of bytes that were moved, the volume that they came from is not removed, for a catalog that is
lost is made again from what tables and images say. Nothing of this is written down: an owner that ends seals what it
has written to, and so does the next one for an owner that died.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from stratumfs.ids import VolumeId


@dataclass(slots=True)
class _Left:
    """heirs: that are open; untabled: a table will never tell of all that some have; sequence: of the last swap."""

    heirs: set[VolumeId] = field(default_factory=set)
    untabled: bool = False
    sequence: int = 0


class Heirs:
    """Of what is moved into the volumes of one tier. On the loop."""

    def __init__(self) -> None:
        self._left: dict[VolumeId, _Left] = {}

    def moved(
        self, sources: Iterable[VolumeId], to: Iterable[VolumeId], telling: Collection[VolumeId], sequence: int
    ) -> None:
        """Rows that named *sources* name *to* instead, as of transaction *sequence*. *telling*: volumes whose table is
        yet to be made of what rows say."""
        heirs = set(to)
        own = set(sources) - heirs
        # What was moved to one of them before, and may be moved on now, has these heirs too.
        own |= {ident for ident, left in self._left.items() if not left.heirs.isdisjoint(own)}
        for ident in own if heirs else ():
            left = self._left.setdefault(ident, _Left())
            left.heirs |= heirs.intersection(telling)
            left.untabled |= not heirs.issubset(telling)
            left.sequence = max(left.sequence, sequence)

    def ended(self, heir: VolumeId, tabled: bool) -> None:
        """One of them was sealed, and has its table, or never will."""
        for ident, left in list(self._left.items()):
            if heir in left.heirs:
                left.heirs.discard(heir)
                left.untabled |= not tabled
                if not left.heirs and not left.untabled:
                    del self._left[ident]

    def imaged(self, sequence: int) -> None:
        """A namespace image shows all up to transaction *sequence*, and every place that is there names it."""
        for ident in [ident for ident, left in self._left.items() if left.sequence <= sequence]:
            del self._left[ident]

    def wait_for(self, ident: VolumeId) -> frozenset[VolumeId] | None:
        """None: it may go. Else the volumes that are to be sealed first; none of them: an image must come first."""
        left = self._left.get(ident)
        return frozenset(left.heirs) if left is not None else None

    def forget(self, ident: VolumeId) -> None:
        """It has gone."""
        self._left.pop(ident, None)
