"""What a user names in a store: a path below a mount, or s3://BUCKET/KEY."""

from pathlib import Path
from typing import NamedTuple

from stratumfs.errors import ConfigError
from stratumfs.owner import locate
from stratumfs.owner.mounts import mount_of

SCHEME = "s3://"


class Target(NamedTuple):
    """A store, and what is named in it: an inode, or a bucket and a key (empty: all of it)."""

    folder: Path
    inode: int | None = None
    bucket: str | None = None
    key: str | None = None


def find_target(target: str, store: Path | None) -> Target:
    """*store*: whose s3://BUCKET/KEY; None: the default store's. Raises: ConfigError, OSError."""
    if not target.startswith(SCHEME):
        return _path(Path(target))
    bucket, _, key = target.removeprefix(SCHEME).partition("/")
    if not bucket:
        raise ConfigError(f"{target!r} names no bucket: s3://BUCKET/KEY")
    try:
        target.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"{target!r} names no object: keys are UTF-8") from None
    return Target(locate.store_folder(store if store is not None else locate.default_folder()), None, bucket, key)


def _path(path: Path) -> Target:
    """The file's own inode number is what the store calls it; the mount of its filesystem tells whose it is."""
    found = path.lstat()
    there = mount_of(found.st_dev)
    if there is None or not there.ours:
        raise ConfigError(f"{path} does not lie on a mount of stratumfs")
    return Target(there.store, found.st_ino)
