"""The secret of the cold tier is changed: by a key file, by a passphrase, with devices that are away."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from stratumfs.errors import ConfigError
from stratumfs.ids import StoreId
from stratumfs.owner import cold_key, cold_rotation
from stratumfs.owner.cold_key import make_key, make_secret, open_key, read_secret, read_wrapped, write_secret
from stratumfs.owner.cold_rotation import next_secret, open_rotated, rotate
from stratumfs.owner.places import COLD_KEY_FILE, NEW_PASSPHRASE_VARIABLE, PASSPHRASE_VARIABLE

STORE = StoreId(b"s" * 16)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold_key, "_SCRYPT_N", 2)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """With a key that is wrapped by the secret in the file `secret`."""
    write_secret(tmp_path / "secret", make_secret())
    key = make_key(STORE, (tmp_path / "secret").read_text().strip())
    found = [tmp_path / name for name in ("store", "d0", "d1")]
    for each in found:
        each.mkdir()
        cold_key.write_wrapped(each, key)
    return found


def fingerprint(folders: Sequence[Path], secret: str) -> str:
    return open_key(folders, STORE, secret).fingerprint


def opens(folder: Path, secret: str) -> bool:
    found = read_wrapped(folder, STORE)
    assert found is not None
    try:
        cold_key.unwrap(found, secret)
    except ConfigError:
        return False
    return True


def test_the_new_secret_opens_it_everywhere_and_the_old_one_nowhere(folders: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "secret"
    old = read_secret(path, {})
    before = fingerprint(folders, old)
    assert rotate(folders, [], STORE, path, None) == []
    new = read_secret(path, {})
    assert new != old
    assert not next_secret(path).exists()
    assert path.stat().st_mode & 0o777 == 0o600
    assert fingerprint(folders, new) == before
    assert not any(opens(each, old) for each in folders)


def test_while_a_device_is_away_both_are_kept_and_either_opens_it(folders: list[Path], tmp_path: Path) -> None:
    path, away = tmp_path / "secret", folders[2]
    old = read_secret(path, {})
    before = fingerprint(folders, old)
    assert rotate(folders[:2], [away], STORE, path, None) == [away]
    assert read_secret(path, {}) == old
    new = read_secret(next_secret(path), {})
    assert opens(away, old)
    assert open_rotated([away], None, STORE, path).fingerprint == before, "of all devices that one is left"
    assert open_rotated(folders[:2], [away], STORE, path).fingerprint == before
    assert read_secret(path, {}) == old
    assert open_rotated(folders, [], STORE, path).fingerprint == before
    assert read_secret(path, {}) == new
    assert all(opens(each, new) for each in folders)
    assert not next_secret(path).exists()


def test_a_secret_that_is_not_whole_is_made_anew(folders: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "secret"
    before = fingerprint(folders, read_secret(path, {}))
    next_secret(path).touch(0o600)
    assert open_rotated(folders, [], STORE, path).fingerprint == before
    assert len(read_secret(path, {})) == len(make_secret())


def test_a_file_of_somebody_else_in_its_place_is_left_alone(folders: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "secret"
    before = fingerprint(folders, read_secret(path, {}))
    for text in ("correct horse battery staple\n", make_secret() * 2):
        next_secret(path).write_text(text)
        next_secret(path).chmod(0o600)
        with pytest.raises(ConfigError, match="in the way"):
            rotate(folders, [], STORE, path, None)
        assert open_rotated(folders, [], STORE, path).fingerprint == before
        assert next_secret(path).read_text() == text


def test_a_device_that_cannot_be_written_to_keeps_the_old_one(folders: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "secret"
    (folders[1] / f"{COLD_KEY_FILE}.new").mkdir()
    assert rotate(folders, [], STORE, path, None) == [folders[1]]
    assert next_secret(path).exists()


def test_a_passphrase_is_changed_to_another_one(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = read_secret(tmp_path / "secret", {})
    before = fingerprint(folders, old)
    monkeypatch.setitem(os.environ, PASSPHRASE_VARIABLE, old)
    with pytest.raises(ConfigError, match=NEW_PASSPHRASE_VARIABLE):
        rotate(folders, [], STORE, None, None)
    assert rotate(folders, [], STORE, None, "a new one") == []
    assert fingerprint(folders, "a new one") == before
    assert not any(opens(each, old) for each in folders)


def test_with_another_secret_nothing_is_changed(folders: list[Path], tmp_path: Path) -> None:
    before = [(each / COLD_KEY_FILE).read_bytes() for each in folders]
    path = tmp_path / "other"
    write_secret(path, make_secret())
    with pytest.raises(ConfigError, match="does not fit"):
        rotate(folders, [], STORE, path, None)
    assert [(each / COLD_KEY_FILE).read_bytes() for each in folders] == before


def test_an_old_passphrase_that_a_device_has_still_undoes_nothing(folders: list[Path], tmp_path: Path) -> None:
    old, new = read_secret(tmp_path / "secret", {}), "a new one"
    before = fingerprint(folders, old)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, PASSPHRASE_VARIABLE, old)
        assert rotate(folders[:2], folders[2:], STORE, None, new) == folders[2:]
    assert fingerprint(folders, old) == before, "it is opened by what came back"
    assert [opens(each, new) for each in folders] == [True, True, False]
    assert fingerprint(folders, new) == before
    assert all(opens(each, new) for each in folders)


class _Stopped(BaseException):
    """As by a power cut."""


@pytest.mark.parametrize("by_passphrase", [False, True])
def test_wherever_it_is_stopped_each_device_alone_is_opened_and_it_is_gone_on_with(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_passphrase: bool
) -> None:
    path = tmp_path / "secret"
    old, new = read_secret(path, {}), "a new one" if by_passphrase else None
    before = fingerprint(folders, old)
    monkeypatch.setitem(os.environ, PASSPHRASE_VARIABLE, old)
    stops, left = 0, 1
    while left == 1:
        left = stops = stops + 1

        def step(*_: object, **__: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                raise _Stopped

        with monkeypatch.context() as patch:
            for owner, name in ((cold_key, "sync_folder"), (cold_rotation, "sync_folder"), (os, "fsync")):
                patch.setattr(owner, name, step)
            patch.setattr(cold_rotation, "ask", lambda calls: {each: call() for each, call in calls.items()})
            try:
                rotate(folders, [], STORE, None if by_passphrase else path, new)
            except _Stopped:
                left = 1
        for each in folders:
            if by_passphrase:
                assert opens(each, old) or opens(each, "a new one")
            else:
                assert open_rotated([each], None, STORE, path).fingerprint == before
        if not by_passphrase and left == 1:
            assert open_rotated(folders, [], STORE, path).fingerprint == before
            assert all(opens(each, read_secret(path, {})) for each in folders)
            assert not next_secret(path).exists()
    assert stops > 2 * len(folders)


def test_what_a_link_leads_to_is_replaced_and_not_the_link(folders: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "secret")
    old = read_secret(path, {})
    assert rotate(folders, [], STORE, path, None) == []
    assert path.is_symlink()
    assert read_secret(tmp_path / "secret", {}) != old


def test_a_key_file_that_is_a_mount_of_its_own_is_refused_before_anything_is_changed(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    monkeypatch.setattr(cold_rotation, "mount_at", lambda point: point if point == path else None)
    with pytest.raises(ConfigError, match="mount the folder"):
        rotate(folders, [], STORE, path, None)
    assert all(opens(each, read_secret(path, {})) for each in folders)
    assert not next_secret(path).exists()


def test_a_passphrase_that_would_not_be_the_secret_is_refused(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    old = read_secret(path, {})
    with pytest.raises(ConfigError, match="unset"):
        rotate(folders, [], STORE, path, "a new one")
    monkeypatch.setitem(os.environ, PASSPHRASE_VARIABLE, old)
    with pytest.raises(ConfigError, match="nothing new"):
        rotate(folders, [], STORE, None, old)
    assert all(opens(each, old) for each in folders)


def test_what_a_passphrase_wraps_is_read_by_its_owner_alone(folders: list[Path]) -> None:
    assert {(each / COLD_KEY_FILE).stat().st_mode & 0o777 for each in folders} == {0o600}
