"""Where the shards of volumes lie, by the devices' own word, and which bytes lie nowhere any more."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stratumfs.catalog.install import NewCatalog
from stratumfs.catalog.rebuilt import LostRun, known_volumes, lost_inline, runs_in
from stratumfs.catalog.transaction import Transaction
from stratumfs.catalog.vacated import forget_all_vacated
from stratumfs.catalog.volumes import place_shards, volume
from stratumfs.config import REMOTE_TIERS
from stratumfs.devices.identity import Identity
from stratumfs.erasure.code import Code
from stratumfs.ids import CellIndex, DeviceId, VolumeId
from stratumfs.shards.backend import ShardBackend, ShardReader
from stratumfs.volumes.found import FoundVolume, by_wholeness, take_back
from stratumfs.volumes.remote import remote_id

LISTED_MAX = 10_000
"""Runs of lost bytes, and files without a name, that are named one by one; all are counted."""


@dataclass(slots=True)
class Lost:
    """inline: that lay in the catalog alone; shards: in volumes with too few shards on the devices that are there."""

    inline: list[LostRun] = field(default_factory=list)
    inline_bytes: int = 0
    shards: list[LostRun] = field(default_factory=list)
    shards_bytes: int = 0

    @property
    def any(self) -> bool:
        return bool(self.inline_bytes or self.shards_bytes)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "lost_inline_bytes": self.inline_bytes,
            "lost_inline": [plain_run(run) for run in self.inline],
            "lost_shards_bytes": self.shards_bytes,
            "lost_shards": [plain_run(run) for run in self.shards],
        }


class Where:
    """tiers: of each device."""

    def __init__(self, identity: Identity, shards: Mapping[DeviceId, ShardReader]) -> None:
        self._store, self._shards = identity.store, shards
        self.tiers: dict[DeviceId, str] = {entry.id: entry.tier for entry in identity.devices}
        self.tiers |= {remote_id(identity.store, tier): tier for tier in REMOTE_TIERS}

    def tier(self, found: FoundVolume, before: Sequence[DeviceId] = ()) -> str:
        """Where most of its cells are; of two with as many the one that it was in *before*: what moved whole lies in
        both until the files that it left are removed."""
        cells = Counter(tier for devices in found.cells.values() for tier in {self.tiers[ident] for ident in devices})
        was = Counter(self.tiers[ident] for ident in before if ident in self.tiers)
        return max(cells, key=lambda tier: (cells[tier], was[tier]))

    def devices(self, found: FoundVolume, code: Code | None, before: Sequence[DeviceId] = ()) -> tuple[DeviceId, ...]:
        """By cell: where it is whole, and of several such places one in its `tier`, and there where it was *before*; if
        it is nowhere, where it was, or another place, where it will be missed, and made anew. *code*: None if *before*
        tells of all cells. Blocking.
        """
        n = code.n if code is not None else len(before)
        devices: dict[int, DeviceId] = {}
        tier = self.tier(found, before)
        for cell in range(n):
            liked = {ident for ident in found.cells.get(CellIndex(cell), ()) if self.tiers[ident] == tier}
            if there := by_wholeness(
                found, CellIndex(cell), self._shards, self._store, liked.intersection(before[cell : cell + 1]) or liked
            ):
                devices[cell] = there[0]
            elif cell < len(before):
                devices[cell] = before[cell]
        spare = [ident for ident, name in self.tiers.items() if name == tier and ident not in devices.values()]
        for cell in range(n):
            if cell not in devices:
                devices[cell] = spare.pop() if spare else next(iter(self.tiers))
        return tuple(devices[cell] for cell in range(n))

    def place(self, tx: Transaction, found: FoundVolume, before: Sequence[DeviceId]) -> None:
        """Rows say where the shards of a volume lie now, whichever tier it has moved to since. Blocking."""
        devices = self.devices(found, None, before)
        tiers = Counter(self.tiers[ident] for ident in devices if ident in self.tiers)
        place_shards(tx, found.id, tuple(enumerate(devices)), max(tiers, key=lambda tier: tiers[tier], default=None))


@dataclass(frozen=True, slots=True)
class Younger:
    """Volumes that the catalog of another time does not know: on devices, and in the cold tier."""

    here: list[VolumeId]
    cold: list[VolumeId]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "volumes_younger": [ident.hex() for ident in self.here],
            "cold_volumes_younger": [ident.hex() for ident in self.cold],
        }


def place_known(
    made: NewCatalog,
    volumes: dict[VolumeId, FoundVolume],
    where: Where,
    devices: Mapping[DeviceId, ShardBackend],
) -> Younger:
    """Shards lie where they lie now; what the catalog knows comes back out of quarantines. Returns volumes that are not
    known. Blocking."""
    with made.transaction() as tx:
        forget_all_vacated(tx)
        known = known_volumes(tx)
    take_back(known, volumes, devices)
    with made.transaction() as tx:
        for ident, (_, before) in known.items():
            if ident in volumes:
                where.place(tx, volumes[ident], before)
    unknown = sorted(ident for ident in volumes if ident not in known)
    cold = [ident for ident in unknown if where.tier(volumes[ident]) in REMOTE_TIERS]
    return Younger([ident for ident in unknown if ident not in cold], cold)


def list_lost(made: NewCatalog, volumes: Mapping[VolumeId, FoundVolume], *, remote: bool = False) -> Lost:
    """Of all that the new catalog names. *remote*: somebody has looked for volumes that lie on no device of ours; of
    those nothing is known otherwise. Blocking."""
    lost = Lost()
    with made.transaction() as tx:
        after = 0
        while chunk := lost_inline(tx, after):
            after = chunk[-1][0]
            lost.inline_bytes += _add(lost.inline, (run for _, run in chunk))
        for ident in known_volumes(tx):
            row, found = volume(tx, ident), volumes.get(ident)
            assert row is not None
            if (found is not None and len(found.cells) >= row.k) or (row.remote and not remote):
                continue
            after = 0
            while chunk := runs_in(tx, ident, after):
                after = chunk[-1][0]
                lost.shards_bytes += _add(lost.shards, (run for _, run in chunk))
    return lost


def plain_run(run: LostRun) -> dict[str, Any]:
    """For JSON; bytes of a path that are no UTF-8 are spelt out."""
    path = run.path.decode("utf-8", "backslashreplace")
    return {"path": path, "inode": run.ino, "offset": run.offset, "length": run.length}


def _add(listed: list[LostRun], runs: Iterable[LostRun]) -> int:
    """Returns how many bytes they are."""
    count = 0
    for run in runs:
        count += run.length
        if len(listed) < LISTED_MAX:
            listed.append(run)
    return count
