"""Brings a catalog back from a backup, as of a moment.

It is folded in a chain of its own and put in force at the end, as a rebuilt one is. What lies on the devices is as it
is now, and so is the cold tier: bytes whose volumes were freed since are lost, and volumes that are younger are set
aside by the next opening, or stay in the cold tier, where nothing names them.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from stratumfs.catalog.connection import wal_end
from stratumfs.catalog.ids import FIRST
from stratumfs.catalog.install import catalog_of_copy
from stratumfs.catalog.rebuilt import IDS_JUMP
from stratumfs.catalog.spool import Piece
from stratumfs.config import SETTINGS_FILE
from stratumfs.errors import ConfigError, NotFound
from stratumfs.owner import credentials
from stratumfs.owner.backup import BASE, Series, read_series
from stratumfs.owner.backup_target import Target
from stratumfs.owner.blame import cause_of
from stratumfs.owner.lost import LostStore, lost_store
from stratumfs.owner.lost_cold import look_in_cold_of
from stratumfs.owner.whereabouts import Lost, Where, Younger, list_lost, place_known
from stratumfs.volumes.found import find_volumes


@dataclass(slots=True)
class Restored:
    """sequence, at_ns: of the last transaction that was brought back, and when it was taken to the backup
    known_sequence  the last that an identity file knew of: what came in between is gone
    gap             later ones were taken to the backup before the moment that was asked for, and pieces are missing
    younger         volumes that the catalog of that time does not know
    cold_not_looked why nobody knows what the cold tier has of what it names; None: all is known
    """

    series: str
    sequence: int
    at_ns: int
    known_sequence: int
    gap: bool = False
    younger: Younger = field(default_factory=lambda: Younger([], []))
    lost: Lost = field(default_factory=Lost)
    new_credentials: bool = False
    cold_not_looked: str | None = None

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "series": self.series,
            "sequence": self.sequence,
            "at": self.at_ns / 1e9,
            "known_sequence": self.known_sequence,
            "gap": self.gap,
            **self.younger.plain(),
            **self.lost.plain(),
            "new_credentials": self.new_credentials,
            "cold_not_looked": self.cold_not_looked,
        }


def restore(
    target: Target,
    named: Path,
    *,
    at_ns: int | None = None,
    force: bool = False,
    told: Callable[[str], None] = lambda text: None,
) -> Restored:
    """Bring the catalog of the store *named* (its folder, or any device) back as of *at_ns*; None: the last moment that
    there is. Blocking; nobody may own the store.

    force  also where a catalog is there, which is set aside, or may be on a place that is not

    Raises: NotFound if the backup has nothing of that time; ConfigError, DeviceFailed, StoreInUse, StoreReadOnly,
    DeviceRefused, CatalogCorrupt, OSError.
    """
    with lost_store(named) as found:
        if not force:
            try:
                trio.run(found.check_lost)
            except BaseExceptionGroup as group:
                raise cause_of(group) from group
        series, pieces = _choose(read_series(target, found.identity.store), at_ns)
        told(f"brings series {series.name} back up to transaction {pieces[-1].sequence}")
        settings = _settings(series)
        found.make_folder()

        def fill(folder: Path) -> None:
            _fetch(target, f"{found.identity.store.hex()}/{series.name}", series, pieces, folder)

        with catalog_of_copy(found.catalog_folder, fill) as made:
            told("looks what lies on the devices")
            devices = found.shards()
            volumes = find_volumes(devices)
            report = Restored(series.name, pieces[-1].sequence, pieces[-1].time_ns, found.known_sequence)
            report.gap = series.lacks_until(at_ns)
            cold = look_in_cold_of(found, made, settings, told)
            volumes.update(cold.volumes)
            report.cold_not_looked = cold.not_looked
            report.younger = place_known(made, volumes, Where(found.identity, {**devices, **cold.readers}), devices)
            report.lost = list_lost(made, volumes, remote=cold.looked)
            found.keep_standings(made, report.sequence)
            ids = {key: made.state(key) + IDS_JUMP for key in FIRST}
            report.new_credentials = not (found.folder / credentials.CREDENTIALS_FILE).exists()
            told("puts the catalog in force")
            sequence = max(report.known_sequence, report.sequence) + 1
            found.put_in_force(made, ids, sequence, lambda: _files(found, settings))
    return report


def _choose(all_series: Sequence[Series], at_ns: int | None) -> tuple[Series, tuple[Piece, ...]]:
    """The youngest that goes back so far. Raises: NotFound."""
    for series in reversed(all_series):
        if pieces := series.until(at_ns):
            return series, pieces
    if not all_series:
        raise NotFound("the backup has nothing of this store")
    first = time.strftime("%F %T", time.localtime(min(each.first_ns for each in all_series) / 1e9))
    raise NotFound(f"the backup begins at {first}")


def _fetch(target: Target, prefix: str, series: Series, pieces: Sequence[Piece], folder: Path) -> None:
    """As a copy whose generations are all closed: a base, and the log of each."""
    with open(folder / "base.0", "wb", opener=_private) as file:
        target.get(f"{prefix}/{BASE}", file.write)
    if (folder / "base.0").stat().st_size != series.head.base_bytes:
        raise ConfigError(f"the base of series {series.name} has not the length that it should")
    ends: dict[int, int] = {}
    for piece in pieces:
        with open(folder / f"wal.{piece.generation}", "ab", opener=_private) as file:
            # One that was taken twice, for a stop came in between, begins before the end of what is there.
            file.truncate(piece.start)
            file.seek(0, os.SEEK_END)
            target.get(f"{prefix}/{piece.name}", file.write)
        ends[piece.generation] = max(piece.end, ends.get(piece.generation, 0))
    frame = wal_end(1, series.head.page_size) - wal_end(0, series.head.page_size)
    for generation, end in ends.items():
        frames = (end - wal_end(0, series.head.page_size)) // frame
        (folder / f"wal.{generation}").rename(folder / f"wal.{generation}.{frames}")


def _settings(series: Series) -> Mapping[str, str]:
    """Nothing else is taken from where backups lie, which need not be trusted with keys. Raises: ConfigError."""
    if others := sorted(series.head.files.keys() - {SETTINGS_FILE}):
        raise ConfigError(f"series {series.name} has a file that no backup has: {others[0]!r}")
    return series.head.files


def _files(found: LostStore, settings: Mapping[str, str]) -> Mapping[str, str]:
    files = dict(settings)
    if not (found.folder / credentials.CREDENTIALS_FILE).exists():
        files[credentials.CREDENTIALS_FILE] = credentials.text(credentials.make())
    return files


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
