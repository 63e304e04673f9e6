"""What is left at a place of chains that nobody needs any more."""

import os
from pathlib import Path

import pytest

from stratumfs.catalog.chains import ASIDE_MAX, MANIFEST, new_chain, read_manifest, tidy
from stratumfs.errors import CatalogCorrupt
from tests.stratumfs.catalog.somewhere import FolderPlace, make_catalog, places_in

LATER_NS = 4 * 10**18


@pytest.fixture
def place(tmp_path: Path) -> FolderPlace:
    """With a catalog and four chains that nobody names, which look younger: their clock was ahead."""
    [found] = places_in(tmp_path, 1)
    make_catalog([found])
    for number in range(4):
        folder = new_chain(found.folder)
        os.utime(folder, ns=(LATER_NS + number, LATER_NS + number))
    return found


def test_what_the_manifest_names_stays_however_old_it_is(place: FolderPlace) -> None:
    manifest = read_manifest(place.folder)
    assert manifest is not None
    tidy(place.folder)
    assert (place.folder / manifest.folder).exists()
    assert len(list(place.folder.glob("chain-*"))) == 1 + ASIDE_MAX


def test_where_nobody_can_say_what_is_named_all_stays(place: FolderPlace) -> None:
    (place.folder / MANIFEST).write_text("no manifest")
    with pytest.raises(CatalogCorrupt):
        tidy(place.folder)
    assert len(list(place.folder.glob("chain-*"))) == 5


def test_a_place_that_is_no_member_any_more_keeps_no_more_than_others(place: FolderPlace) -> None:
    (place.folder / MANIFEST).unlink()
    tidy(place.folder)
    assert len(list(place.folder.glob("chain-*"))) == ASIDE_MAX
