"""The FUSE door of an owner."""

import trio

from stratumfs.errors import ConfigError
from stratumfs.fuse.session import Mounted, SessionOptions, serve
from stratumfs.fuse.unmount import unmount
from stratumfs.owner.doors import Ready, Serve
from stratumfs.owner.messages import OpenMount
from stratumfs.owner.mounts import encode_source
from stratumfs.owner.wire import Running

__all__ = ["serving", "unmount"]


def serving(running: Running, request: OpenMount) -> Serve:
    """A door that mounts the store as *request* says. Raises: ConfigError for a path that is not absolute."""
    if not request.mountpoint.startswith("/"):
        raise ConfigError(f"mount point {request.mountpoint!r} is not absolute")
    options = SessionOptions(
        read_only=request.read_only,
        allow_other=request.allow_other,
        filesystem_name=encode_source(running.folder),
        kernel=request.options,
        published=request.published,
    )

    async def run(stop: trio.Event, ready: Ready) -> None:
        async with trio.open_nursery() as nursery:
            mounted: Mounted = await nursery.start(serve, running.store, request.mountpoint, options, stop)
            ready(mounted)

    return run
