"""The settings of a store: ``stratumfs.toml`` in its folder, read once into frozen, checked values.

Every key is described in stratumfs.toml(5). Unknown keys are refused: a misspelt bound that silently keeps its default
is found on the day it was needed.
"""

import ipaddress
import json
import math
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from stratumfs.errors import ConfigError
from stratumfs.limits import SHARDS_MAX

SETTINGS_FILE = "stratumfs.toml"
HOT, WARM, COLD = "hot", "warm", "cold"
EMBEDDED_K, EMBEDDED_M = 4, 2
"""The code of a tier where nothing else is said."""
REMOTE_TIERS = frozenset({COLD})
"""Whose volumes lie on none of the store's devices."""
SCRUB_DAYS_MIN, SCRUB_DAYS_MAX = 0.01, 3650
_PARITY_MAX = 64
"""More parity than this is a slip of the finger; the code itself would take any k + m up to SHARDS_MAX."""
_REGION = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DOMAIN = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_TARGET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^\0]*)?")
_WINDOW_DAYS_MAX = 3650
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class Priced(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a tier costs and gives, for the tier engine. Dollars, seconds and bytes; None: as usual of such a tier.

    capacity           bytes of content that may lie there
    usd_gb_month       storage; a GB has 10**9 bytes, a month 30 days, as in price lists
    usd_get, usd_put   one request
    usd_read_gb        retrieval and egress
    latency_s          to the first byte
    bandwidth          bytes a second of one reader
    stay_days_min      that are billed at least for what enters
    billed_bytes_min   that are billed at least for each object
    """

    capacity: int | None = None
    usd_gb_month: float | None = None
    usd_get: float | None = None
    usd_put: float | None = None
    usd_read_gb: float | None = None
    latency_s: float | None = None
    bandwidth: float | None = None
    stay_days_min: float | None = None
    billed_bytes_min: int | None = None


class Tier(Priced, frozen=True, forbid_unknown_fields=True):
    """k data and m parity shards of each new volume of a tier. mkfs writes them; old volumes keep their own."""

    k: int
    m: int


class Tiering(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tier engine, of a store with more than one tier.

    enabled        False: objects move when somebody says so, and not by themselves
    warmup_days    for so long it observes before it moves by preference; what pressure demands it moves at once
    tick_s         from one look at what was read and written to the next
    usd_wait_hour  what an hour of a user's waiting is worth
    payback_days   in which a move must have paid its fees
    """

    enabled: bool = True
    warmup_days: float = 7.0
    tick_s: float = 10.0
    usd_wait_hour: float = 1.0
    payback_days: float = 30.0


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


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """listen  HOST:PORT at which Prometheus asks; None: nowhere"""

    listen: str | None = None


class Backup(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the catalog, by the owner itself.

    to           a folder, or s3://BUCKET/PREFIX; None: nowhere
    endpoint     URL of the S3 service; None: AWS
    credentials  a file with keys in AWS's form; None: where AWS's own tools look
    every_s      seconds from one to the next
    window_days  for so long volumes that are freed are kept, and what is needed to bring a catalog back
    """

    to: str | None = None
    endpoint: str | None = None
    credentials: str | None = None
    every_s: int = 300
    window_days: float = 7.0


class Verify(StrEnum):
    READ = "read"
    CHECKSUM = "checksum"


class OverBudget(StrEnum):
    WAIT = "wait"
    REFUSE = "refuse"


class Cold(Priced, frozen=True, forbid_unknown_fields=True):
    """A tier in somebody's S3: one encrypted object a volume.

    to           s3://BUCKET/PREFIX; the store has a folder of its own below that
    endpoint     URL of the S3 service; None: AWS
    credentials  a file with keys in AWS's form; None: where AWS's own tools look
    key_file     holds the secret that unwraps the key of the cold tier; None: STRATUM_COLD_PASSPHRASE is it
    verify       of an upload, before the local copy goes: read it back and compare, or trust the service's checksum
    deadline_s   a read that waits longer for the service fails
    recall_bytes_day, recall_usd_day
                 what may be read from it in a day, in bytes and by the price list; None: any amount
    keep_days    so long what was brought back stays there too, so that it goes there again without an upload
    over_budget  whether who reads when that is used up waits, for deadline_s at most, or is refused at once
    """

    to: str
    endpoint: str | None = None
    credentials: str | None = None
    key_file: str | None = None
    verify: Verify = Verify.READ
    deadline_s: int = 60
    recall_bytes_day: int | None = None
    recall_usd_day: float | None = None
    over_budget: OverBudget = OverBudget.WAIT
    keep_days: float = 7.0


class Scrub(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """
    period_days  in which all that lies on the store's devices is read once and verified, and all objects of the cold
                 tier are looked at
    cold_days    in which these are read once; 0: they are not
    """

    period_days: float = 14.0
    cold_days: float = 0.0


class Log(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    level: LogLevel = LogLevel.INFO
    format: LogFormat = LogFormat.TEXT


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """hot takes new data; warm, cold: None in a store that has no such tier."""

    hot: Tier
    warm: Tier | None = None
    cold: Cold | None = None
    gateway: Gateway = Gateway()
    metrics: Metrics = Metrics()
    tiering: Tiering = Tiering()
    backup: Backup = Backup()
    scrub: Scrub = Scrub()
    log: Log = Log()

    @property
    def tiers(self) -> dict[str, Tier]:
        """Those on devices that there are, by name; the one that takes new data first."""
        return {HOT: self.hot} | ({WARM: self.warm} if self.warm is not None else {})

    @property
    def priced(self) -> dict[str, Priced]:
        """All that there are, by name, fastest first."""
        return {**self.tiers} | ({COLD: self.cold} if self.cold is not None else {})


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


def parse(text: str, source: str, under: str = "") -> Settings:
    """Check settings given as TOML; *source* names them in errors. What they do not say is as in the TOML *under* them.

    Raises: ConfigError.
    """
    try:
        settings = msgspec.convert(_merged(tomllib.loads(under), tomllib.loads(text)), Settings)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{source} is no TOML: {error}") from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_plain(str(error))}") from error
    try:
        _check(settings)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from error
    return settings


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Key by key, in sections too."""
    found = dict(under)
    for name, value in over.items():
        below = found.get(name)
        found[name] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return found


def check_priced(tier: Priced, name: str) -> None:
    """Raises: ConfigError."""
    for field in msgspec.structs.fields(Priced):
        value = getattr(tier, field.name)
        least = 1 if field.name in ("bandwidth", "capacity") else 0
        if value is not None and not least <= value < math.inf:
            raise ConfigError(f"{name}.{field.name} = {value}: at least {least}")


def _check_tiering(tiering: Tiering) -> None:
    """Raises: ConfigError."""
    for name, least, most in (
        ("warmup_days", 0.0, 3650.0),
        ("tick_s", 0.1, 3600.0),
        ("usd_wait_hour", 0.0, 1e6),
        ("payback_days", 0.001, 3650.0),
    ):
        value = getattr(tiering, name)
        if not least <= value <= most:
            raise ConfigError(f"tiering.{name} = {value}: {least:g} to {most:g}")


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


def render(tiers: Mapping[str, Tier], cold: Cold | None = None) -> str:
    """What mkfs.stratumfs(8) writes: what must be said, and what may be."""
    return (
        "# Settings of this store; every key is described in stratumfs.toml(5).\n"
        + "".join(render_tier(name, tier) for name, tier in tiers.items())
        + (render_cold(cold) if cold is not None else _COLD)
        + _OPTIONAL
    )


def render_tier(name: str, tier: Tier) -> str:
    """The table of a tier on devices."""
    return _TIER.format(name=name, k=tier.k, m=tier.m)


def render_cold(cold: Cold) -> str:
    """The table [cold], with what differs from the defaults."""
    lines = ["\n[cold]\n"]
    for field, value in msgspec.structs.asdict(cold).items():
        if value is not None and value != getattr(_COLD_DEFAULT, field):
            lines.append(f"{field} = {json.dumps(value)}\n")
    return "".join(lines)


_COLD_DEFAULT = Cold("")
_COLD = """
# [cold]
# to = "s3://bucket/prefix"
# endpoint = "https://s3.example.org"
# credentials = "/etc/stratumfs/cold"
# key_file = "/etc/stratumfs/cold.key"
# verify = "read"     # or "checksum"
# deadline_s = 60
# recall_bytes_day = 100_000_000_000
# recall_usd_day = 10.0
# over_budget = "wait"     # or "refuse"
# keep_days = 7            # what was brought back stays there as well
"""


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

# [metrics]
# listen = "127.0.0.1:9001"

# [tiering]
# enabled = true
# warmup_days = 7     # observed before objects move by preference
# tick_s = 10
# usd_wait_hour = 1.0
# payback_days = 30

# [backup]
# to = "s3://bucket/prefix"    # or a folder
# endpoint = "https://s3.example.org"
# credentials = "/etc/stratumfs/backup"
# every_s = 300
# window_days = 7.0

# [scrub]
# period_days = 14    # in which all is read once and verified
# cold_days = 0       # the same of the cold tier, where reading costs money; 0: never

# [log]
# level = "info"      # debug, info, warning, error
# format = "text"     # text, json
"""


def _check(settings: Settings) -> None:
    for name, tier in settings.tiers.items():
        check_code(tier.k, tier.m, name)
    for name, priced in settings.priced.items():
        check_priced(priced, name)
    _check_tiering(settings.tiering)
    if not SCRUB_DAYS_MIN <= settings.scrub.period_days <= SCRUB_DAYS_MAX:
        raise ConfigError(f"scrub.period_days = {settings.scrub.period_days}: {SCRUB_DAYS_MIN} to {SCRUB_DAYS_MAX}")
    if settings.scrub.cold_days and not SCRUB_DAYS_MIN <= settings.scrub.cold_days <= SCRUB_DAYS_MAX:
        raise ConfigError(f"scrub.cold_days = {settings.scrub.cold_days}: 0, or {SCRUB_DAYS_MIN} to {SCRUB_DAYS_MAX}")
    gateway = settings.gateway
    parse_listen(gateway.listen)
    if settings.metrics.listen is not None:
        _check_metrics(settings.metrics.listen, gateway.listen)
    if not _REGION.fullmatch(gateway.region):
        raise ConfigError(f"gateway.region = {gateway.region!r}: lowercase letters, digits and - only")
    for domain in gateway.domains:
        check_domain(domain)
    _check_backup(settings.backup)
    if settings.cold is not None:
        check_cold(settings.cold)
    check_tls(gateway.tls_certificate, gateway.tls_key)
    for path in (gateway.tls_certificate, gateway.tls_key):
        if path is not None and not path.startswith("/"):
            raise ConfigError(f"gateway: {path!r} is no absolute path, and a daemon is in no folder")


def _check_backup(backup: Backup) -> None:
    """Raises: ConfigError."""
    if backup.to is not None:
        check_target(backup.to)
    if backup.credentials is not None and not backup.credentials.startswith("/"):
        raise ConfigError(
            f"backup.credentials = {backup.credentials!r} is no absolute path, and a daemon is in no folder"
        )
    if backup.every_s < 1:
        raise ConfigError(f"backup.every_s = {backup.every_s}: at least a second")
    if not 0 <= backup.window_days <= _WINDOW_DAYS_MAX:
        raise ConfigError(f"backup.window_days = {backup.window_days}: 0 to {_WINDOW_DAYS_MAX}")


def check_cold(cold: Cold) -> None:
    """Raises: ConfigError."""
    if not _TARGET.fullmatch(cold.to):
        raise ConfigError(f"cold.to = {cold.to!r}: s3://BUCKET/PREFIX")
    for name, path in (("credentials", cold.credentials), ("key_file", cold.key_file)):
        if path is not None and not path.startswith("/"):
            raise ConfigError(f"cold.{name} = {path!r} is no absolute path, and a daemon is in no folder")
    if cold.deadline_s < 1:
        raise ConfigError(f"cold.deadline_s = {cold.deadline_s}: at least a second")
    if cold.recall_bytes_day is not None and cold.recall_bytes_day < 1:
        raise ConfigError(f"cold.recall_bytes_day = {cold.recall_bytes_day}: at least 1")
    if not 0 <= cold.keep_days <= _WINDOW_DAYS_MAX:
        raise ConfigError(f"cold.keep_days = {cold.keep_days}: 0 to {_WINDOW_DAYS_MAX}")
    if cold.recall_usd_day is not None and not 0 < cold.recall_usd_day < math.inf:
        raise ConfigError(f"cold.recall_usd_day = {cold.recall_usd_day}: more than 0")


def check_target(to: str) -> None:
    """Where a backup may go. Raises: ConfigError."""
    if not (to.startswith("/") or _TARGET.fullmatch(to)):
        raise ConfigError(f"backup to {to!r}: an absolute path, or s3://BUCKET/PREFIX")


def _check_metrics(listen: str, gateway: str) -> None:
    """Raises: ConfigError."""
    (host, port), (other, taken) = parse_listen(listen), parse_listen(gateway)
    if port == 0:
        raise ConfigError(f"metrics.listen = {listen!r}: nobody would learn which port it is")
    if port == taken and (host == other or {host, other} & {"", "0.0.0.0", "::"}):  # noqa: S104
        raise ConfigError(f"metrics.listen = {listen!r}: that is the address of the gateway, and it needs its own")


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
