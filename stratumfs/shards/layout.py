"""Where a shard lies below its device's folder: ``volumes/<xx>/<volume in hex>.<cell index>``.

xx is the first byte of the volume's id, so that no folder holds more than a 256th of the shards.
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from stratumfs.ids import CellIndex, VolumeId

VOLUMES_FOLDER = "volumes"
QUARANTINE_FOLDER = "quarantine"
FOLDERS = tuple(f"{first:02x}" for first in range(256))
UNFINISHED = ".new"
_FILE = re.compile(r"([0-9a-f]{32})\.(0|[1-9][0-9]{0,2})")


@dataclass(frozen=True, slots=True, order=True)
class ShardName:
    """The shard that holds the cells of one index of one volume."""

    volume: VolumeId
    index: CellIndex

    def __str__(self) -> str:
        return f"{self.volume.hex()}.{self.index}"


def folder_of(name: ShardName) -> PurePosixPath:
    """The shard's folder, relative to the device's."""
    return PurePosixPath(VOLUMES_FOLDER, name.volume[:1].hex())


def path_of(name: ShardName) -> PurePosixPath:
    """The shard's file, relative to the device's folder."""
    return folder_of(name) / str(name)


def unfinished_path_of(name: ShardName) -> PurePosixPath:
    """Where a shard is built that is to replace *name*, or to be it; no shard's file is called so."""
    return folder_of(name) / f"{name}{UNFINISHED}"


def parse_file_name(text: str) -> ShardName | None:
    """The shard whose file is called *text*; None if no shard's is."""
    match = _FILE.fullmatch(text)
    if match is None or int(match[2]) > 254:
        return None
    return ShardName(VolumeId(bytes.fromhex(match[1])), CellIndex(int(match[2])))
