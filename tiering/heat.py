"""The file in the store folder that remembers heat: replaced whole, checked by its CRC, begun anew if it is none.

It holds nothing that the catalog does not say better, where bytes lie, and nothing that anybody was promised: a crash
loses what is newer than it. Both calls block.
"""

import os
import zlib
from pathlib import Path
from typing import Any

from tiering.state import encode

HEAT_FILE = "heat"
_NEW = "heat.new"


def save(folder: Path, state: dict[str, Any], last: int | None = None) -> int:
    """Returns a sum of what lies there now; nothing is written if that is *last*. Raises: OSError."""
    data = encode(state)
    found = zlib.crc32(data)
    if found == last:
        return found
    new = folder / _NEW
    with open(new, "wb", opener=_private) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, folder / HEAT_FILE)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return found


def load(folder: Path) -> bytes | None:
    """None if there is none. Raises: OSError."""
    try:
        return (folder / HEAT_FILE).read_bytes()
    except FileNotFoundError:
        return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
