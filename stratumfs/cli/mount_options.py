"""The ``-o`` list of mount.stratumfs(8): mount(8)'s own words, the kernel's, and ours."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from stratumfs.config import check_tls, parse_listen
from stratumfs.errors import ConfigError

_IGNORED = """
    defaults auto noauto user nouser users owner group nofail _netdev async
    atime relatime strictatime nolazytime diratime silent loud
"""
IGNORED = frozenset(_IGNORED.split())
"""Words for mount(8) or defaults of ours: fstab hands them on, they change nothing here."""
IGNORED_PREFIXES = ("x-", "comment=", "user=", "subtype=", "fsname=")
KERNEL = frozenset(("exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime", "nodiratime", "sync", "dirsync"))
"""Handed to libfuse as they are. Unless asked otherwise a mount is nosuid,nodev."""


@dataclass(frozen=True, slots=True)
class MountOptions:
    """What the words of ``-o`` ask for; a later word wins over an earlier one."""

    read_only: bool = False
    allow_other: bool | None = None
    nonempty: bool = False
    published: bool = False
    gateway: str | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None
    log: Path | None = None
    kernel: tuple[str, ...] = ()


def parse_options(texts: Iterable[str], *, sloppy: bool = False) -> MountOptions:
    """Parse the comma-separated lists of all ``-o``. *sloppy* (``-s``) ignores words that nobody knows.

    Raises: ConfigError naming the word.
    """
    options = MountOptions()
    kernel: dict[str, None] = {"nosuid": None, "nodev": None}
    for word in (word.strip() for text in texts for word in text.split(",")):
        if word == "remount":
            raise ConfigError("a mount keeps its options: unmount it, then mount it with others")
        if not word or word in IGNORED or word.startswith(IGNORED_PREFIXES):
            continue
        if word in KERNEL:
            kernel.pop(_opposite(word), None)
            kernel[word] = None
            continue
        known = _apply(options, word)
        if known is not None:
            options = known
        elif not sloppy:
            raise ConfigError(f"unknown mount option {word!r}; mount.stratumfs(8) lists them")
    check_tls(options.tls_certificate, options.tls_key)
    if options.tls_key is not None and options.gateway is None:
        raise ConfigError("mount options tls_cert and tls_key need gateway=HOST:PORT")
    return replace(options, kernel=tuple(kernel))


def _apply(options: MountOptions, word: str) -> MountOptions | None:
    name, equals, value = word.partition("=")
    if not equals:
        flag = _FLAGS.get(name)
        return flag(options) if flag else None
    setting = _SETTINGS.get(name)
    if setting is None:
        return None
    if not value:
        raise ConfigError(f"mount option {name}= needs a value")
    return setting(options, value)


def _opposite(word: str) -> str:
    return word.removeprefix("no") if word.startswith("no") else f"no{word}"


def _gateway(options: MountOptions, value: str) -> MountOptions:
    parse_listen(value)
    return replace(options, gateway=value)


def _close(options: MountOptions, value: str) -> MountOptions:
    if value not in ("durable", "published"):
        raise ConfigError(f"mount option close={value}: durable or published")
    return replace(options, published=value == "published")


_FLAGS: dict[str, Callable[[MountOptions], MountOptions]] = {
    "ro": lambda options: replace(options, read_only=True),
    "rw": lambda options: replace(options, read_only=False),
    "allow_other": lambda options: replace(options, allow_other=True),
    "noallow_other": lambda options: replace(options, allow_other=False),
    "nonempty": lambda options: replace(options, nonempty=True),
    "default_permissions": lambda options: options,
}
_SETTINGS: dict[str, Callable[[MountOptions, str], MountOptions]] = {
    "gateway": _gateway,
    "close": _close,
    "tls_cert": lambda options, value: replace(options, tls_certificate=str(Path(value).absolute())),
    "tls_key": lambda options, value: replace(options, tls_key=str(Path(value).absolute())),
    "log": lambda options, value: replace(options, log=Path(value).absolute()),
}
OPTIONS = frozenset(_FLAGS) | frozenset(_SETTINGS) | KERNEL
"""All that the manual must name."""
