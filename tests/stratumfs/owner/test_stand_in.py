"""The store folder is lost, or cannot be read, and is made anew by a device."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from stratumfs.config import SETTINGS_FILE, load
from stratumfs.devices.identity import IDENTITY_FORMAT, STORE_FILE, IdentityDamaged, has_identity, read_identity
from stratumfs.ids import STORE_PLACE
from stratumfs.owner import create, locate, stand_in, wire
from stratumfs.owner.asking import NO_ANSWER, ask
from stratumfs.owner.places import IdentityPlace
from stratumfs.owner.stand_in import is_stand_in
from tests.stratumfs.owner.helpers import KEYS, devices
from tests.stratumfs.owner.test_create import tree


@pytest.fixture
async def store(tmp_path: Path) -> Path:
    """One whose devices have copies of the catalog, closed in order."""
    folder = tmp_path / "store"
    create.make_store(folder, devices(tmp_path), 4, 2, KEYS)
    await _opened_once(folder)
    return folder


async def _opened_once(folder: Path) -> None:
    async with wire.locked(folder) as found, wire.opened(found, load(folder / SETTINGS_FILE)) as running:
        assert not running.store.catalog.read_only


def _lose(store: Path, in_the_way: bytes = b"") -> None:
    store.rename(store.with_name("lost"))
    if in_the_way:
        store.write_bytes(in_the_way)


def _damage(store: Path) -> bytes:
    whole = (store / STORE_FILE).read_bytes()
    damaged = whole[:5] + bytes([whole[5] ^ 0x80]) + whole[6:]
    (store / STORE_FILE).write_bytes(damaged)
    return damaged


def _says_nothing(folder: Path) -> bool:
    found = read_identity(folder)
    assert found.own is None
    place = IdentityPlace(STORE_PLACE, 0, folder, lambda: found)
    return place.read_named() is None and found.sequence == 0


async def test_a_store_folder_that_is_made_anew_has_no_word_in_which_epoch_is_in_force(store: Path) -> None:
    _lose(store)
    assert locate.store_folder(store.with_name("d1")) == store
    assert _says_nothing(store)
    await _opened_once(store)
    assert not _says_nothing(store)


async def test_nor_has_what_stands_in_for_one(store: Path) -> None:
    _lose(store, in_the_way=b"no folder")
    folder = locate.store_folder(store.with_name("d1"))
    assert is_stand_in(folder)
    assert _says_nothing(folder)
    await _opened_once(folder)
    assert _says_nothing(folder)


async def test_an_identity_file_with_a_flipped_bit_is_set_aside_and_made_anew(store: Path) -> None:
    for number in range(2):
        damaged = _damage(store)
        with pytest.raises(IdentityDamaged, match="name a device of the store"):
            locate.store_folder(store)
        assert locate.store_folder(store.with_name("d3")) == store
        assert (store / f"{STORE_FILE}.damaged-{number}").read_bytes() == damaged
        assert _says_nothing(store)
        await _opened_once(store)


async def test_one_that_only_a_newer_program_can_read_stays(store: Path) -> None:
    data, now = (store / STORE_FILE).read_bytes(), b'"format": %d' % IDENTITY_FORMAT
    assert now in data
    (store / STORE_FILE).write_bytes(data.replace(now, b'"format": 9'))
    before = tree(store)
    assert is_stand_in(locate.store_folder(store.with_name("d3")))
    assert tree(store) == before


async def test_another_store_that_lies_there_by_now_is_not_taken_for_it(store: Path) -> None:
    _lose(store)
    others = devices(store.with_name("others"))
    create.make_store(store, others, 4, 2, KEYS)
    (store / "credentials").unlink()
    assert is_stand_in(locate.store_folder(store.with_name("d3")))
    assert not (store / "credentials").exists()
    assert all(has_identity(each) for each in others)


async def test_a_store_folder_that_hangs_is_as_good_as_lost_to_who_names_a_device(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(calls: Mapping[Path, Callable[[], Any]]) -> dict[Path, Any]:
        return {folder: NO_ANSWER if folder == store else ask({folder: call})[folder] for folder, call in calls.items()}

    for module in (locate, stand_in):
        monkeypatch.setattr(module, "ask", asked, raising=False)
    folder = locate.store_folder(store.with_name("d1"))
    assert is_stand_in(folder)
    await _opened_once(folder)
