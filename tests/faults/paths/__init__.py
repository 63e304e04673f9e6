"""Every write path, by the name that the crash table gives it."""

from collections.abc import Mapping

from tests.faults.paths import files, mount, objects, repairs, uploads, volumes
from tests.faults.run import WritePath

PATHS: Mapping[str, WritePath] = {
    **objects.PATHS,
    **uploads.PATHS,
    **files.PATHS,
    **mount.PATHS,
    **volumes.PATHS,
    **repairs.PATHS,
}
