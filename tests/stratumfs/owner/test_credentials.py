import stat
from pathlib import Path

import pytest

from stratumfs.errors import ConfigError
from stratumfs.owner.credentials import from_environment, make, read, write
from stratumfs.owner.messages import Credentials


def test_made_credentials_are_random_and_read_back(tmp_path: Path) -> None:
    first, second = make(), make()
    assert first.access_key != second.access_key
    assert first.secret_key != second.secret_key
    assert len(first.access_key) == 20
    assert len(first.secret_key) == 40
    path = write(tmp_path, first)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read(tmp_path) == first


def test_a_file_is_never_written_over(tmp_path: Path) -> None:
    write(tmp_path, make())
    with pytest.raises(FileExistsError):
        write(tmp_path, make())


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    write(tmp_path, make()).chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["", "x", "[default]\n", "[default]\naws_access_key_id = AKIA\n", "[other]\na = 1\n"])
def test_a_malformed_file_is_refused_without_its_contents(tmp_path: Path, text: str) -> None:
    path = tmp_path / "credentials"
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"needs a \[default\] section") as caught:
        read(tmp_path)
    assert "AKIA" not in str(caught.value)


def test_a_missing_file_names_the_variables(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="STRATUM_ACCESS_KEY_ID"):
        read(tmp_path)


def test_the_environment_gives_both_or_none() -> None:
    both = {"STRATUM_ACCESS_KEY_ID": "root", "STRATUM_SECRET_ACCESS_KEY": "correct-horse"}
    assert from_environment({}) is None
    assert from_environment(both) == Credentials("root", "correct-horse")
    with pytest.raises(ConfigError, match="go together"):
        from_environment({"STRATUM_ACCESS_KEY_ID": "root"})
    for bad in ({"STRATUM_ACCESS_KEY_ID": "a/b c"}, {"STRATUM_SECRET_ACCESS_KEY": "short"}):
        with pytest.raises(ConfigError) as caught:
            from_environment(both | bad)
        assert "short" not in str(caught.value)
