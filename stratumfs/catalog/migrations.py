"""Steps from one version of the tables to the next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stratumfs.catalog.schema import CLEAN, DECISION_TABLES, DRAIN, SCRUB_TABLES, USAGE, VACATED, VOLUME_INDEXES
from stratumfs.catalog.transaction import Transaction
from stratumfs.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Migration:
    """Leads to *version* from the one before it; runs in one transaction, once."""

    version: int
    run: Callable[[Transaction], None]


def _index_volumes(tx: Transaction) -> None:
    """Which ones are worth compacting is found by an index."""
    for statement in VOLUME_INDEXES:
        tx.run(statement)


def _keep_drains(tx: Transaction) -> None:
    """Which devices are to be emptied outlasts an owner."""
    tx.run(DRAIN)


def _remember_scrubs(tx: Transaction) -> None:
    """How far the scrubber is, and what it has verified when."""
    for statement in SCRUB_TABLES:
        tx.run(statement)


def _keep_usage(tx: Transaction) -> None:
    """What lies below each bucket is known without a walk."""
    tx.run(USAGE)


def _keep_decisions(tx: Transaction) -> None:
    """What the tier engine moves, and why."""
    for statement in DECISION_TABLES:
        tx.run(statement)


def _index_volumes_by_tier(tx: Transaction) -> None:
    """Dead volumes of a tier that is seldom compacted are not looked at by who chooses in another one."""
    for name in ("volume_live", "volume_half_dead", "volume_width"):
        tx.run(f"drop index if exists {name}")
    _index_volumes(tx)


def _keep_clean(tx: Transaction) -> None:
    """What was brought back from the cold tier goes there again without an upload."""
    for statement in CLEAN:
        tx.run(statement)


def _keep_vacated(tx: Transaction) -> None:
    """A volume moves to another tier whole."""
    tx.run(VACATED)


MIGRATIONS: tuple[Migration, ...] = (
    Migration(2, _index_volumes),
    Migration(3, _remember_scrubs),
    Migration(4, _keep_drains),
    Migration(5, _keep_usage),
    Migration(6, _keep_decisions),
    Migration(7, _index_volumes_by_tier),
    Migration(8, _keep_clean),
    Migration(9, _keep_vacated),
)


def due(found: int, wanted: int, migrations: Sequence[Migration]) -> list[Migration]:
    """What leads from version *found* to *wanted*, in order.

    Raises: ConfigError if the catalog is newer than this program, or a step is missing.
    """
    if found > wanted:
        raise ConfigError(f"the catalog has version {found}, made by a newer stratumfs; this one knows {wanted}")
    by_version = {migration.version: migration for migration in migrations}
    missing = [version for version in range(found + 1, wanted + 1) if version not in by_version]
    if missing:
        raise ConfigError(f"the catalog has version {found}; no way is known to version {missing[0]}")
    return [by_version[version] for version in range(found + 1, wanted + 1)]
