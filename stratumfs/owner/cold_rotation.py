"""Gives the master key of the cold tier another secret: it is wrapped anew on each device; nothing is encrypted anew.

With a key file the order is: the new secret beside the old one, safe; each wrapped key, replaced as a whole; where each
device of the store has it, the new secret in the place of the old one. A stop on the way, and a device that is away,
leave wrapped keys of both kinds, and both secrets: each opening goes on. Each wrapping counts those before it, and no
older one is written over it: a device that comes back, or a dump that is loaded, brings an old secret back into force
nowhere. Who has the old secret *and* an old copy of a device has the master key: that stays what it was. All of it
blocks.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from stratumfs.devices.identity import sync_folder
from stratumfs.errors import ConfigError, DeviceError, of_device
from stratumfs.ids import StoreId
from stratumfs.owner.asking import ask
from stratumfs.owner.cold_key import (
    WrappedKey,
    make_secret,
    open_key,
    put_wrapped,
    read_secret,
    read_wrapped,
    rewrap,
    write_secret,
)
from stratumfs.owner.mounts import mount_at
from stratumfs.owner.places import NEW_PASSPHRASE_VARIABLE, PASSPHRASE_VARIABLE
from stratumfs.shards.encrypted import MasterKey

_DIGITS = frozenset(b"0123456789abcdef")

_log = structlog.get_logger(__name__)


def next_secret(path: Path) -> Path:
    """Where the secret lies that is to take the place of the one at *path*: of a link, beside what it leads to."""
    path = Path(os.path.realpath(path))
    return path.with_name(f"{path.name}.new")


def rotate(
    folders: Sequence[Path], away: Sequence[Path], store: StoreId, key_file: Path | None, passphrase: str | None
) -> list[Path]:
    """Wrap the master key by a new secret: one that is made, where it is a key file, else *passphrase*.

    Returns the folders that have the old wrapping still, *away* or not: until there are none both secrets are kept.
    Raises: ConfigError, DeviceError; then either secret opens the tier, or the old one. Used by one task.
    """
    old = read_secret(key_file, os.environ)
    if key_file is None:
        if not passphrase:
            raise ConfigError(f"the tier has no key file: {NEW_PASSPHRASE_VARIABLE} must have the new passphrase")
        if passphrase == old:
            raise ConfigError(
                f"{NEW_PASSPHRASE_VARIABLE} has what {PASSPHRASE_VARIABLE} has, for the owner: nothing new"
            )
        return [*_wrap_anew(folders, store, old, passphrase), *away]
    if passphrase:
        raise ConfigError(f"the secret of the tier is in {key_file}: unset {NEW_PASSPHRASE_VARIABLE} to change it")
    new = next_secret(key_file)
    key_file = Path(os.path.realpath(key_file))
    try:
        if mount_at(key_file) is not None:  # as containers are given secrets: what lies beside it goes with them
            raise ConfigError(f"{key_file} is a mount of its own, and cannot be replaced: mount the folder that has it")
        if new.exists() and not _is_whole(new):  # nothing was wrapped by it
            new.unlink()
        if not new.exists():
            write_secret(new, make_secret())
        left = [*_wrap_anew(folders, store, old, read_secret(new, os.environ)), *away]
        if not left:
            os.replace(new, key_file)
            sync_folder(key_file.parent)
    except OSError as error:
        raise of_device(error, f"cannot change {key_file}: {error.strerror}", str(key_file)) from error
    return left


def open_rotated(
    folders: Sequence[Path], away: Sequence[Path] | None, store: StoreId, key_file: Path | None
) -> MasterKey:
    """As `open_key`, by either secret; what was begun and not brought to its end is gone on with, unless nobody knows
    what is *away*. Raises: ConfigError."""
    if key_file is not None and next_secret(key_file).exists():
        try:
            if away is not None:
                left = rotate(folders, away, store, key_file, None)
                _log.warning("cold_secret_rotated", left=[str(each) for each in left])
        except (ConfigError, DeviceError) as error:
            _log.warning("cold_secret_not_rotated", reason=str(error))
        if next_secret(key_file).exists():
            with suppress(ConfigError):
                return open_key(folders, store, read_secret(next_secret(key_file), os.environ))
    return open_key(folders, store, read_secret(key_file, os.environ))


def _is_whole(path: Path) -> bool:
    """Whether a secret was written there to its end. Raises: ConfigError if it is somebody else's file; OSError."""
    found, length = path.read_bytes().strip(b"\0\n"), len(make_secret())
    if len(found) > length or not _DIGITS.issuperset(found):
        raise ConfigError(f"{path} is in the way of the new secret: move it, for it is none that was made for this")
    return len(found) == length


def _wrap_anew(folders: Sequence[Path], store: StoreId, old: str, new: str) -> list[Path]:
    """Wherever either secret opens what lies there. Raises: ConfigError if neither opens anything."""
    answers = ask({folder: partial(read_wrapped, folder, store) for folder in folders})
    found = sorted((each for each in answers.values() if isinstance(each, WrappedKey)), key=lambda each: -each.rotation)
    key = _wrapped_by(found, store, old, new)
    left = []
    for folder, answer in ask({folder: partial(put_wrapped, folder, key) for folder in folders}).items():
        if isinstance(answer, DeviceError):
            _log.warning("cold_key_not_written", folder=str(folder), error=str(answer))
            left.append(folder)
    if len(left) == len(folders):
        raise ConfigError("no device takes the key of the cold tier")
    open_key([folder for folder in folders if folder not in left], store, new)  # it is there, and opens
    return left


def _wrapped_by(found: Sequence[WrappedKey], store: StoreId, old: str, new: str) -> WrappedKey:
    """*found*: the newest first."""
    error = ConfigError("the key of the cold tier is gone: no device has it")
    for key in found:
        for secret in (old, new):
            try:
                return rewrap(key, store, secret, new, found[0].rotation + 1)
            except ConfigError as other:
                error = other
    raise error
