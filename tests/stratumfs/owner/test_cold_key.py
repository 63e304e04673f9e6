"""The key of the cold tier on devices, and the secret that unwraps it."""

from pathlib import Path

import pytest

from stratumfs.errors import ConfigError
from stratumfs.ids import StoreId, VolumeId
from stratumfs.owner.cold_key import make_key, make_secret, open_key, read_secret, unwrap, write_secret, write_wrapped
from stratumfs.owner.places import COLD_KEY_FILE, PASSPHRASE_VARIABLE

STORE = StoreId(b"s" * 16)
VOLUME = VolumeId(b"v" * 16)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    found = [tmp_path / name for name in ("store", "d0", "d1")]
    for path in found:
        path.mkdir()
    return found


def test_one_device_is_enough_and_the_others_get_it_again(folders: list[Path]) -> None:
    key = make_key(STORE, "secret")
    write_wrapped(folders[1], key)
    (folders[2] / COLD_KEY_FILE).write_text("{}")  # damaged
    assert open_key(folders, STORE, "secret").name(VOLUME) == unwrap(key, "secret").name(VOLUME)
    texts = {(folder / COLD_KEY_FILE).read_text() for folder in folders}
    assert len(texts) == 1
    assert "secret" not in texts.pop()


def test_what_no_secret_has_unwrapped_is_written_over_nothing(folders: list[Path]) -> None:
    """One with a flipped bit, on the device that is asked first."""
    key = make_key(STORE, "secret")
    for folder in folders:
        write_wrapped(folder, key)
    first = folders[0] / COLD_KEY_FILE
    wrapped = key.wrapped.translate(str.maketrans("01", "10"))
    first.write_text(first.read_text().replace(key.wrapped, wrapped))
    assert open_key(folders, STORE, "secret").name(VOLUME) == unwrap(key, "secret").name(VOLUME)
    assert wrapped not in first.read_text()
    with pytest.raises(ConfigError, match="does not fit"):
        open_key(folders, STORE, "another")
    with pytest.raises(ConfigError, match="is gone"):
        open_key(folders, StoreId(b"t" * 16), "secret")


def test_the_secret_is_in_a_file_of_its_owner_or_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "key"
    secret = make_secret()
    write_secret(path, secret)
    assert read_secret(path, {}) == secret
    assert read_secret(None, {PASSPHRASE_VARIABLE: "words"}) == "words"
    path.chmod(0o644)
    for place, words in ((path, "chmod 600"), (tmp_path / "none", "cannot be read"), (None, "neither")):
        with pytest.raises(ConfigError, match=words) as error:
            read_secret(place, {})
        assert secret not in str(error.value)
    path.chmod(0o600)
    path.write_text("\n")
    with pytest.raises(ConfigError, match="empty"):
        read_secret(path, {})
