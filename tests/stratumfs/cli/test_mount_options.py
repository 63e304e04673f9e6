from pathlib import Path

import pytest

from stratumfs.cli.mount_options import OPTIONS, MountOptions, parse_options
from stratumfs.errors import ConfigError


def test_nothing_means_nosuid_nodev_and_the_store_writable() -> None:
    assert parse_options([]) == MountOptions(kernel=("nosuid", "nodev"))


def test_what_fstab_hands_on_changes_nothing() -> None:
    words = "rw,auto,noauto,user,_netdev,nofail,x-systemd.automount,user=root,comment=mine,relatime,defaults"
    assert parse_options([words]) == parse_options([])


def test_several_lists_add_up_and_later_words_win() -> None:
    found = parse_options(["ro,gateway=127.0.0.1:1", "allow_other, suid ,noexec", "gateway=127.0.0.1:2,exec"])
    assert found.read_only
    assert found.allow_other is True
    assert found.gateway == "127.0.0.1:2"
    assert set(found.kernel) == {"suid", "nodev", "exec"}
    assert not parse_options(["ro", "rw"]).read_only
    assert parse_options(["rw,ro"]).read_only


def test_paths_become_absolute() -> None:
    found = parse_options(["gateway=127.0.0.1:1,tls_cert=a,tls_key=b,log=c"])
    assert found.tls_certificate == str(Path("a").absolute())
    assert found.log == Path("c").absolute()


def test_close_is_durable_or_published() -> None:
    assert parse_options(["close=published"]).published
    assert not parse_options(["close=published,close=durable"]).published
    with pytest.raises(ConfigError, match="durable or published"):
        parse_options(["close=never"])


@pytest.mark.parametrize(
    "text", ["alow_other", "gateway", "gateway=", "ro=1", "gateway=9000", "tls_key=x", "log=", "remount"]
)
def test_bad_words_are_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_options([text])


def test_sloppy_ignores_what_nobody_knows_and_nothing_else() -> None:
    assert parse_options(["noidea,what=ever"], sloppy=True) == parse_options([])
    with pytest.raises(ConfigError):
        parse_options(["gateway=nonsense"], sloppy=True)


def test_the_list_for_the_manual_is_whole() -> None:
    assert {"ro", "allow_other", "gateway", "close", "log", "nodev", "nonempty"} <= OPTIONS
