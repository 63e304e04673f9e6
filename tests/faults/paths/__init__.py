"""Every write path, by the name that the crash table gives it."""

from collections.abc import Mapping

from tests.faults.paths import compaction, files, members, mount, moves, objects, repairs, uploads, volumes
from tests.faults.run import WritePath

PATHS: Mapping[str, WritePath] = {
    **objects.PATHS,
    **uploads.PATHS,
    **files.PATHS,
    **mount.PATHS,
    **volumes.PATHS,
    **moves.PATHS,
    **compaction.PATHS,
    **repairs.PATHS,
    **members.PATHS,
}
