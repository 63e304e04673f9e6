"""Identity files as the catalog's epochs write them."""

from dataclasses import replace
from pathlib import Path

import pytest

from stratumfs.catalog.epochs import Named, first_epoch
from stratumfs.devices.identity import STORE_FILE, Identity, read_identity, write_identity
from stratumfs.errors import DeviceRefused
from stratumfs.ids import STORE_PLACE, StoreId
from stratumfs.owner.places import IdentityPlace

EPOCH = first_epoch([STORE_PLACE], [STORE_PLACE])
NAMED = Named(EPOCH, EPOCH, 7)


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    found = Identity(StoreId(b"s" * 16), tmp_path, ())
    write_identity(tmp_path, found)
    return found


def test_an_epoch_writes_what_the_store_says_of_itself_now(tmp_path: Path, identity: Identity) -> None:
    now = [identity]
    place = IdentityPlace(STORE_PLACE, 1, tmp_path, lambda: now[0])
    place.write_named(NAMED)
    assert (read_identity(tmp_path).store_path, place.read_named()) == (tmp_path, NAMED)
    now[0] = replace(identity, store_path=Path("/elsewhere"))
    place.write_named(NAMED)
    assert (read_identity(tmp_path).store_path, place.read_named()) == (Path("/elsewhere"), NAMED)


def test_no_file_is_made_in_a_folder_that_was_emptied(tmp_path: Path, identity: Identity) -> None:
    (tmp_path / STORE_FILE).unlink()
    with pytest.raises(DeviceRefused):
        IdentityPlace(STORE_PLACE, 1, tmp_path, lambda: identity).write_named(NAMED)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_another_store_by_now_stays(tmp_path: Path, identity: Identity) -> None:
    other = replace(identity, store=StoreId(b"o" * 16))
    write_identity(tmp_path, other)
    with pytest.raises(DeviceRefused, match="another"):
        IdentityPlace(STORE_PLACE, 1, tmp_path, lambda: identity).write_named(NAMED)
    assert read_identity(tmp_path) == other
