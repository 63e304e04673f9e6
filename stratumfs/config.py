"""The settings of a store: ``stratumfs.toml`` in its folder, read once into frozen, checked values.

Every key is described in stratumfs.toml(5). Unknown keys are refused: a misspelt bound that silently keeps its default
is found on the day it was needed.
"""

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from stratumfs.errors import ConfigError
from stratumfs.limits import SHARDS_MAX

SETTINGS_FILE = "stratumfs.toml"
HOT, WARM = "hot", "warm"
_PARITY_MAX = 64
"""More parity than this is a slip of the finger; the code itself would take any k + m up to SHARDS_MAX."""
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """k data and m parity shards of each new volume of a tier. mkfs writes them; old volumes keep their own."""

    k: int
    m: int


class Gateway(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Defaults of stratum-gateway(8) and of the mount option ``gateway``.

    listen           HOST:PORT, where the command names none
    region           the one that requests must be signed for
    domains          names under which ``BUCKET.NAME`` addresses a bucket
    tls_certificate  PEM files, both or none
    tls_key
    """

    listen: str = "127.0.0.1:9000"
    region: str = "us-east-1"
    domains: tuple[str, ...] = ()
    tls_certificate: str | None = None
    tls_key: str | None = None


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: LogLevel = LogLevel.INFO
    format: LogFormat = LogFormat.TEXT


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """hot takes new data; warm: None in a store that has no second tier."""

    hot: Tier
    warm: Tier | None = None
    gateway: Gateway = Gateway()
    log: Log = Log()

    @property
    def tiers(self) -> dict[str, Tier]:
        """Those that there are, by name; the one that takes new data first."""
        return {HOT: self.hot} | ({WARM: self.warm} if self.warm is not None else {})


def load(path: Path) -> Settings:
    """Read and check a settings file. Blocking; a few kilobytes.

    Raises: ConfigError, one line that names the file and the key.
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} is missing: a store without its settings is not opened; stratumfs.toml(5) says how to write it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    return parse(text, str(path))


def parse(text: str, source: str) -> Settings:
    """Check settings given as TOML; *source* names them in errors.

    Raises: ConfigError.
    """
    try:
        settings = msgspec.convert(tomllib.loads(text), Settings)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is no TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_plain(str(error))}") from error
    try:
        _check(settings)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return settings


def check_code(k: int, m: int, tier: str) -> None:
    """k data and m parity shards that a tier may have. Raises: ConfigError."""
    if k < 1:
        raise ConfigError(f"{tier}.k = {k}: a volume needs at least one data shard")
    if not 0 <= m <= _PARITY_MAX:
        raise ConfigError(f"{tier}.m = {m}: parity shards must be 0 to {_PARITY_MAX}")
    if k + m > SHARDS_MAX:
        raise ConfigError(f"{tier}: k + m = {k + m}: a volume has at most {SHARDS_MAX} shards")


def parse_listen(text: str) -> tuple[str, int]:
    """HOST:PORT or [IPV6]:PORT as (host, port); port 0 lets the kernel choose. Raises: ConfigError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{text!r} is no HOST:PORT, as in 127.0.0.1:9000 or [::1]:9000")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_ipv6(host):
            raise ConfigError(f"{text!r}: {host!r} is no IPv6 address")
    elif not _HOST.fullmatch(host):
        raise ConfigError(f"{text!r} is no HOST:PORT, as in 127.0.0.1:9000 or [::1]:9000")
    return host, int(port)


def render(tiers: Mapping[str, Tier]) -> str:
    """What mkfs.stratumfs(8) writes: what must be said, and what may be."""
    return (
        "# Settings of this store; every key is described in stratumfs.toml(5).\n"
        + "".join(_TIER.format(name=name, k=tier.k, m=tier.m) for name, tier in tiers.items())
        + _OPTIONAL
    )


_TIER = """
[{name}]
k = {k}    # data shards of each new volume
m = {m}    # parity shards: as many devices may be lost at once
"""
_OPTIONAL = """
# [gateway]
# listen = "127.0.0.1:9000"
# region = "us-east-1"
# domains = ["s3.example.org"]
# tls_certificate = "/etc/ssl/certs/s3.pem"
# tls_key = "/etc/ssl/private/s3.key"

# [log]
# level = "info"      # debug, info, warning, error
# format = "text"     # text, json
"""


def _check(settings: Settings) -> None:
    for name, tier in settings.tiers.items():
        check_code(tier.k, tier.m, name)
    gateway = settings.gateway
    parse_listen(gateway.listen)
    if not _REGION.fullmatch(gateway.region):
        raise ConfigError(f"gateway.region = {gateway.region!r}: lowercase letters, digits and - only")
    for domain in gateway.domains:
        check_domain(domain)
    check_tls(gateway.tls_certificate, gateway.tls_key)
    for path in (gateway.tls_certificate, gateway.tls_key):
        if path is not None and not path.startswith("/"):
            raise ConfigError(f"gateway: {path!r} is no absolute path, and a daemon is in no folder")


def check_domain(domain: str) -> None:
    """Raises: ConfigError."""
    if not _DOMAIN.fullmatch(domain):
        raise ConfigError(f"gateway domain {domain!r} is no lowercase domain name")


def check_tls(certificate: str | None, key: str | None) -> None:
    """Both or neither. Raises: ConfigError."""
    if (certificate is None) != (key is None):
        raise ConfigError("a TLS certificate and its key go together: give both or neither")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _plain(message: str) -> str:
    """msgspec's words with our path: ``Expected `int`, got `str` - at `$.hot.k``` becomes ``hot.k: expected ...``."""
    text, _, path = message.partition(" - at ")
    text = text[:1].lower() + text[1:]
    where = path.strip("`").removeprefix("$").removeprefix(".")
    return f"{where}: {text}" if where else text
