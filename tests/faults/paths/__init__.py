"""Every write path, by the name that the crash table gives it."""

from collections.abc import Mapping

from tests.faults.paths import (
    catalogs,
    cold,
    compaction,
    devices,
    files,
    members,
    mends,
    mount,
    moves,
    objects,
    repairs,
    uploads,
    volumes,
)
from tests.faults.run import WritePath

PATHS: Mapping[str, WritePath] = {
    **objects.PATHS,
    **uploads.PATHS,
    **files.PATHS,
    **mount.PATHS,
    **volumes.PATHS,
    **moves.PATHS,
    **cold.PATHS,
    **compaction.PATHS,
    **repairs.PATHS,
    **devices.PATHS,
    **members.PATHS,
    **catalogs.PATHS,
    **mends.PATHS,
}

LACKING = frozenset({*repairs.PATHS, "restore"})
"""Those whose store lacks a shard already when they begin: it may lose no more."""
