"""What the seed of a copy makes at its place, and what becomes of it if the copy is not used. All of it blocks."""

import shutil
from pathlib import Path

from stratumfs.catalog import chains
from stratumfs.catalog.copies import seed
from stratumfs.catalog.durability import Primary
from stratumfs.catalog.places import Place
from stratumfs.catalog.progress import Step


def make_base(place: Place, primary: Primary, generation: int, step: Step) -> Path:
    """A new chain at *place* that has the base of *generation*; if that cannot be, nothing is left of it."""
    folder = chains.new_chain(place.folder)
    try:
        seed(folder, primary, generation, step)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def remove(folder: Path, step: Step) -> None:
    """The folder of a chain that no manifest names."""
    shutil.rmtree(folder, ignore_errors=True)
