"""The FUSE door of an owner."""

from stratumfs.errors import ConfigError
from stratumfs.owner.doors import Serve
from stratumfs.owner.messages import OpenMount
from stratumfs.owner.wire import Running


def serving(running: Running, request: OpenMount) -> Serve:
    raise ConfigError("no mount yet")
