import os
from collections.abc import Callable
from pathlib import Path

import pytest

from stratumfs.devices.identity import read_identity
from stratumfs.errors import ConfigError, DeviceRefused, StoreInUse
from stratumfs.owner import create, locate
from stratumfs.owner.lock import Locks
from tests.stratumfs.owner.helpers import KEYS, devices


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_a_made_store_has_all_its_parts(tmp_path: Path) -> None:
    made = create.make_store(tmp_path / "store", devices(tmp_path), 4, 2, KEYS)
    store = tmp_path / "store"
    names = {"catalog", "credentials", "identity.json", "lock", "stratumfs.toml"}
    assert {path.name for path in store.iterdir()} == names
    assert store.stat().st_mode & 0o777 == 0o700
    assert (made.survival.devices, made.survival.disks) == (2, 0)
    for slot in range(6):
        found = read_identity(tmp_path / f"d{slot}")
        assert found.store == made.identity.store
        assert found.own is not None
        assert found.own.slot == slot
        assert len(found.devices) == 6


Spoil = Callable[[Path, list[Path]], list[Path]]


def _foreign(_: Path, found: list[Path]) -> list[Path]:
    (found[3] / "thesis.doc").write_text("precious")
    return found


def _twice(folder: Path, found: list[Path]) -> list[Path]:
    (folder / "alias").symlink_to(found[0])
    return [*found[:5], folder / "alias"]


def _nested(_: Path, found: list[Path]) -> list[Path]:
    (found[0] / "lost+found").mkdir()
    return [*found[:5], found[0] / "lost+found"]


def _missing(folder: Path, found: list[Path]) -> list[Path]:
    return [*found[:5], folder / "not-mounted"]


def _file(folder: Path, found: list[Path]) -> list[Path]:
    (folder / "file").touch()
    return [*found[:5], folder / "file"]


def _of_another_store(folder: Path, found: list[Path]) -> list[Path]:
    other = [folder / f"other{slot}" for slot in range(2)]
    for path in other:
        path.mkdir()
    create.make_store(folder / "other-store", other, 1, 1, KEYS)
    return [*found[:5], other[0]]


def _store_inside(folder: Path, found: list[Path]) -> list[Path]:
    return [*found[:5], folder]


@pytest.mark.parametrize("spoil", [_foreign, _twice, _nested, _missing, _file, _of_another_store, _store_inside])
def test_a_refused_device_changes_nothing(tmp_path: Path, spoil: Spoil) -> None:
    given = spoil(tmp_path, devices(tmp_path))
    before = tree(tmp_path)
    with pytest.raises(DeviceRefused) as caught:
        create.make_store(tmp_path / "store", given, 4, 2, KEYS)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("k", "m"), [(0, 2), (4, -1), (4, 3), (250, 10)])
def test_a_code_that_does_not_fit_changes_nothing(tmp_path: Path, k: int, m: int) -> None:
    given = devices(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(ConfigError):
        create.make_store(tmp_path / "store", given, k, m, KEYS)
    assert tree(tmp_path) == before


def test_a_store_folder_with_foreign_content_or_a_store_is_refused(tmp_path: Path) -> None:
    given = devices(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes").touch()
    with pytest.raises(DeviceRefused, match="not empty"):
        create.make_store(tmp_path / "full", given, 4, 2, KEYS)
    with pytest.raises(ConfigError, match="mkdir -p"):
        create.make_store(tmp_path / "no" / "parent", given, 4, 2, KEYS)
    create.make_store(tmp_path / "store", given, 4, 2, KEYS)
    fresh = devices(tmp_path / "fresh")
    with pytest.raises(DeviceRefused, match="is a store already"):
        create.make_store(tmp_path / "store", fresh, 4, 2, KEYS)
    with pytest.raises(DeviceRefused, match="belongs to store"):
        create.make_store(tmp_path / "second", given, 4, 2, KEYS)


def test_a_device_that_somebody_holds_is_in_use(tmp_path: Path) -> None:
    given = devices(tmp_path)
    holder = Locks()
    holder.take(given[2])
    before = tree(tmp_path)
    with pytest.raises(StoreInUse, match="d2"):
        create.make_store(tmp_path / "store", given, 4, 2, KEYS)
    assert tree(tmp_path) == before
    holder.release()


def test_what_fails_half_way_is_taken_away_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = devices(tmp_path)
    before = tree(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(create, "_write_settings", full)
    with pytest.raises(OSError, match="No space left"):
        create.make_store(tmp_path / "store", given, 4, 2, KEYS)
    assert tree(tmp_path) == before


def test_the_embedded_store_lies_side_by_side_and_is_made_only_where_nothing_is(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "stratumfs"
    create.make_embedded(folder, KEYS)
    assert sorted(path.name for path in (folder / "devices").iterdir()) == list("012345")
    assert (folder / "catalog").is_dir()
    (folder / "identity.json").unlink()
    before = tree(tmp_path)
    with pytest.raises(ConfigError, match="is no store"):
        create.make_embedded(folder, KEYS)
    assert tree(tmp_path) == before


def test_a_store_is_found_by_its_folder_its_devices_and_where_it_was_moved(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    create.make_embedded(folder, KEYS)
    assert locate.store_folder(folder) == folder
    assert locate.store_folder(folder / "devices" / "3") == folder
    folder.rename(tmp_path / "b")
    moved = tmp_path / "b"
    assert locate.store_folder(moved / "devices" / "3") == moved
    assert {entry.path.parent for entry in locate.identity_of(moved).devices} == {moved / "devices"}


def test_a_store_that_was_moved_to_a_name_that_is_not_utf8_is_refused_in_words(tmp_path: Path) -> None:
    create.make_embedded(tmp_path / "a", KEYS)
    moved = (tmp_path / "a").rename(tmp_path / "\udce9")
    for named in (moved, moved / "devices" / "3"):
        with pytest.raises(ConfigError, match="is not UTF-8"):
            locate.store_folder(named)


def test_devices_without_a_copy_whose_store_folder_is_lost_lead_to_an_error(tmp_path: Path) -> None:
    given = devices(tmp_path)
    create.make_store(tmp_path / "store", given, 4, 2, KEYS)
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    with pytest.raises(DeviceRefused, match="is lost or not mounted"):
        locate.store_folder(given[0])


def test_the_default_place_follows_xdg_for_an_ordinary_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert locate.default_folder() == Path("/var/lib/stratumfs")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert locate.default_folder() == tmp_path / ".local" / "state" / "stratumfs"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert locate.default_folder() == tmp_path / ".local" / "state" / "stratumfs"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert locate.default_folder() == Path("/state/stratumfs")
