"""What is known to be damaged in a tier in somebody's S3, and by whose word.

A look at headers sees objects that are missing, cut or another's; what is wrong in their bytes only who reads them
meets. So the one does not take back what the other has found.
"""

from collections.abc import Iterator, Mapping

from stratumfs.ids import VolumeId


class KnownBad(Mapping[VolumeId, str]):
    """By volume, what is wrong with its object. On the loop.

    ``_seen`` is what the last look has found, and what was missed since; ``_met`` what those that read its bytes have,
    and when in seconds: it stays until all of the object is read and is whole, or its volume is sealed no more.
    """

    def __init__(self) -> None:
        self._seen: dict[VolumeId, str] = {}
        self._met: dict[VolumeId, tuple[str, float]] = {}

    def meet(self, ident: VolumeId, reason: str, now_s: float) -> bool:
        """Somebody has read it. Returns whether it was not known."""
        new = ident not in self
        self._met[ident] = reason, now_s
        return new

    def miss(self, ident: VolumeId, reason: str) -> bool:
        """It was not there, which the next look can tell. Returns whether it was not known."""
        new = ident not in self
        self._seen[ident] = reason
        return new

    def look(self, found: Mapping[VolumeId, str]) -> list[VolumeId]:
        """All headers were looked at. Returns those that were not known."""
        new = [ident for ident in found if ident not in self]
        self._seen = dict(found)
        return new

    def forget(self, ident: VolumeId) -> None:
        """It was read and is whole, or it goes."""
        self._seen.pop(ident, None)
        self._met.pop(ident, None)

    def met(self) -> tuple[VolumeId, ...]:
        """Those whose bytes somebody has read."""
        return tuple(self._met)

    def met_within(self, ident: VolumeId, now_s: float, seconds: float) -> bool:
        """Whether somebody has read it so short a time ago."""
        found = self._met.get(ident)
        return found is not None and 0 <= now_s - found[1] < seconds

    def __getitem__(self, key: VolumeId) -> str:
        found = self._met.get(key)
        return found[0] if found is not None else self._seen[key]

    def __iter__(self) -> Iterator[VolumeId]:
        yield from self._met
        yield from (ident for ident in self._seen if ident not in self._met)

    def __len__(self) -> int:
        return len(self._met.keys() | self._seen.keys())
