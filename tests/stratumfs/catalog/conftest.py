from pathlib import Path

import pytest

from tests.stratumfs.catalog.somewhere import FolderPlace, make_catalog, places_in


@pytest.fixture
def places(tmp_path: Path) -> list[FolderPlace]:
    """The store folder's and six devices', with an empty catalog on the first."""
    found = places_in(tmp_path, 7)
    make_catalog(found)
    return found
