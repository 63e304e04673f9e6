"""What a catalog says of itself, for status and metrics."""

from dataclasses import dataclass

from stratumfs.catalog.rounds import RoundStatistics


@dataclass(frozen=True, slots=True)
class CatalogStatistics:
    rounds: RoundStatistics
    sequence: int
    """Of the last committed transaction."""
    synced: int
    """Of the last one that every member holds."""
    unsynced: int
    waiting: int
    wal_bytes: int
    checkpoints: int
    checkpoints_put_off: int
    """Begun, and left for later: no room, or a reader that stayed."""
