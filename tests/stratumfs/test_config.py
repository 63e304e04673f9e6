from pathlib import Path

import pytest

from stratumfs.config import (
    LogFormat,
    LogLevel,
    Settings,
    Tier,
    check_code,
    check_tls,
    load,
    parse,
    parse_listen,
    render,
)
from stratumfs.errors import ConfigError

HOT = "[hot]\nk = 4\nm = 2\n"


def test_what_mkfs_writes_is_read_back() -> None:
    assert parse(render({"hot": Tier(8, 3)}), "x") == Settings(hot=Tier(8, 3))
    both = {"hot": Tier(8, 3), "warm": Tier(1, 1)}
    assert parse(render(both), "x").tiers == both


def test_every_line_that_mkfs_comments_out_is_valid_when_it_is_not() -> None:
    lines = [
        line.removeprefix("# ") if line.startswith(("# [", "# l", "# r", "# d", "# t", "# f")) else line
        for line in render({"hot": Tier(4, 2)}).splitlines()
    ]
    settings = parse("\n".join(lines), "x")
    assert settings.gateway.domains == ("s3.example.org",)
    assert settings.gateway.tls_key == "/etc/ssl/private/s3.key"
    assert (settings.log.level, settings.log.format) == (LogLevel.INFO, LogFormat.TEXT)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "missing required field `hot`"),
        ("[hot]\nk = 4\n", "hot: object missing required field `m`"),
        (HOT + "[gatway]\n", "unknown field `gatway`"),
        (HOT + "[gateway]\nlisen = 'x'\n", "gateway: object contains unknown field `lisen`"),
        ("[hot]\nk = '4'\nm = 2\n", "hot.k: expected `int`, got `str`"),
        ("[hot]\nk = 4.0\nm = 2\n", "hot.k: expected `int`"),
        ("[hot]\nk = true\nm = 2\n", "hot.k: expected `int`"),
        ("[hot]\nk = 0\nm = 2\n", "k = 0"),
        ("[hot]\nk = 4\nm = -1\n", "m = -1"),
        ("[hot]\nk = 250\nm = 6\n", "k + m = 256"),
        ("[hot\n", "is no TOML"),
        (HOT + "[gateway]\nlisten = '9000'\n", "HOST:PORT"),
        (HOT + "[gateway]\nregion = 'US East'\n", "gateway.region"),
        (HOT + "[gateway]\ntls_certificate = '/c.pem'\ntls_key = 'k.pem'\n", "'k.pem' is no absolute path"),
        (HOT + "[gateway]\ndomains = ['Example.ORG']\n", "no lowercase domain name"),
        (HOT + "[gateway]\ntls_key = 'x'\n", "go together"),
        (HOT + "[log]\nlevel = 'loud'\n", "log.level"),
        (HOT + "capacity = 0\n", "hot.capacity = 0: at least 1"),
        (HOT + "usd_gb_month = -0.1\n", "hot.usd_gb_month = -0.1: at least 0"),
        (HOT + "latency_s = nan\n", "hot.latency_s = nan"),
        (HOT + "[tiering]\ntick_s = 0\n", "tiering.tick_s = 0.0: 0.1 to 3600"),
        (HOT + "[tiering]\nwarmup_days = inf\n", "tiering.warmup_days = inf"),
    ],
)
def test_bad_settings_are_one_line_that_names_file_and_key(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "/s/stratumfs.toml")
    message = str(caught.value)
    assert message.startswith("/s/stratumfs.toml")
    assert words in message
    assert "\n" not in message


def test_a_missing_or_unreadable_file_is_an_error_and_never_a_default(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is missing"):
        load(tmp_path / "stratumfs.toml")
    (tmp_path / "stratumfs.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "stratumfs.toml")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("[::1]:0", ("::1", 0)),
        ("s3.example.org:65535", ("s3.example.org", 65535)),
    ],
)
def test_addresses_are_host_and_port(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text", ["", ":", "9000", "host", "host:", "host:x", "host:65536", "::1:9000", "[::g]:1", "h h:1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"HOST:PORT|IPv6"):
        parse_listen(text)


def test_codes_and_certificates_have_bounds() -> None:
    check_code(1, 0, "hot")
    check_code(191, 64, "hot")
    check_tls(None, None)
    check_tls("a", "b")
    with pytest.raises(ConfigError, match=r"warm\.m = 65"):
        check_code(4, 65, "warm")
    with pytest.raises(ConfigError):
        check_tls("a", None)
