"""Whether a catalog is lost: its places have answered that they have none, or what they have is proved damaged.

Who is silent, or cannot be read just now, may have all that was ever answered.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import apsw
import trio

from stratumfs.catalog.boot import FOLD_S
from stratumfs.catalog.chains import last_sequence, read_manifest
from stratumfs.catalog.connection import DATABASE
from stratumfs.catalog.deadlines import Stalled, call_within
from stratumfs.catalog.places import Place
from stratumfs.errors import CatalogCorrupt, StratumError

_DAMAGE = (FileNotFoundError, apsw.CorruptError, apsw.NotADBError, apsw.FormatError)


async def doubts(places: Sequence[Place], folders: Sequence[Path] = ()) -> list[str]:
    """Why the catalog may not be lost, of each place that may have it; *folders* are catalog folders of none."""
    found: list[str] = []

    async def ask(label: str, call: partial[str]) -> None:
        try:
            doubt = await call_within(FOLD_S, trio.CapacityLimiter(1), call)
        except Stalled:
            doubt = f"{label} does not answer"
        if doubt:
            found.append(doubt)

    async with trio.open_nursery() as nursery:
        for place in places:
            nursery.start_soon(ask, place.label, partial(_of_place, place))
        for folder in folders:
            nursery.start_soon(ask, str(folder), partial(_of_folder, folder))
    return sorted(found)


def _of_place(place: Place) -> str:
    try:
        place.read_named()
    except (StratumError, OSError) as error:
        return f"{place.label} cannot be read: {error}"
    return _of_folder(place.folder)


def _of_folder(folder: Path) -> str:
    """Empty if it has none, or that is proved damaged."""
    try:
        manifest = read_manifest(folder)
    except (StratumError, OSError) as error:
        return f"{folder} cannot be read: {error}"
    if manifest is None:
        return ""
    try:
        sequence = last_sequence(folder, manifest)
    except (StratumError, OSError) as error:
        proved = _is_damage(error) or _is_missing(folder / manifest.folder)
        return "" if proved else f"{folder} cannot be read: {error}"
    return f"{folder} has a catalog up to transaction {sequence}"


def _is_damage(error: BaseException) -> bool:
    """Of what was read; an error of the disk is none, and passes perhaps."""
    if isinstance(error, _DAMAGE):
        return True
    if isinstance(error, CatalogCorrupt):
        return error.__cause__ is None or _is_damage(error.__cause__)
    return False


def _is_missing(chain: Path) -> bool:
    """Whether the chain has no database at all, for which SQLite has no error of its own."""
    try:
        names = [each.name for each in chain.iterdir()]
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return not any(name == DATABASE or name.startswith("base.") for name in names)
