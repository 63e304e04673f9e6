"""What volumes lack: by their rows, and by which files their devices have."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from stratumfs.catalog.damage import Shard
from stratumfs.catalog.volumes import VolumeRow
from stratumfs.ids import CellIndex, DeviceId
from stratumfs.limits import REBUILD_READ_S
from stratumfs.repair.fleet import Fleet
from stratumfs.repair.rows import volume_info
from stratumfs.volumes.attached import AttachedDevice
from stratumfs.volumes.presence import shards_present


@dataclass(frozen=True, slots=True)
class Needs:
    """missing: their device is up, their file is not there; doubted: a read met a bad cell; homeless: their device is
    not up; leaving: they are as they should be, and their device is drained."""

    missing: set[CellIndex]
    doubted: set[CellIndex]
    homeless: set[CellIndex]
    leaving: set[CellIndex]

    @property
    def count(self) -> int:
        """Shards that are not counted upon."""
        return len(self.missing) + len(self.doubted) + len(self.homeless)

    def can_be_met(self, taking: Iterable[AttachedDevice], row: VolumeRow) -> bool:
        """Whether anything can be done now: where no device is spare, those that need another one wait for it."""
        if self.missing or self.doubted:
            return True
        return bool(self.homeless or self.leaving) and any(each.id not in row.devices for each in taking)


async def needs_of(
    fleet: Fleet, rows: Sequence[VolumeRow], silent: set[DeviceId], known: Collection[Shard]
) -> list[tuple[VolumeRow, Needs]]:
    """What each of a chunk of volumes lacks. *silent* devices are not asked, and those that are now join them.

    Those of which rows are lost are left out: nobody knows whose they are.

    known: shards that are taken for damaged. What a device that is drained lacks, or is in doubt on it, is made where
    it is to go, if there is such a place: it is homeless.
    """
    rows = [row for row in rows if row.placed]
    up = {each.id: each for tier in {row.tier for row in rows} for each in fleet.up(tier)}
    silent |= {each.id for each in up.values() if each.stalled(REBUILD_READ_S)}
    asked = {ident: device for ident, device in up.items() if ident not in silent}
    present, mute = await shards_present(asked, [volume_info(row) for row in rows], REBUILD_READ_S)
    silent |= mute
    draining, found = set(fleet.draining), []
    for row in rows:
        needs = Needs(set(), set(), set(), set())
        spare = any(each.id not in row.devices for each in fleet.taking(row.tier))
        for number, ident in enumerate(row.devices):
            cell = CellIndex(number)
            missing = cell not in present[row.id] and ident not in silent
            leaves = ident in draining and spare
            if ident not in up or (leaves and (missing or (row.id, cell) in known)):
                needs.homeless.add(cell)
            elif missing:
                needs.missing.add(cell)
            elif (row.id, cell) in known:
                needs.doubted.add(cell)
            elif ident in draining:
                needs.leaving.add(cell)
        found.append((row, needs))
    return found
