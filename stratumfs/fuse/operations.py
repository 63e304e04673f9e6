"""The handlers of one mount: a thin shell over the store. A write goes to ``files``, ``buffer``, ``store.writer``."""

import pyfuse3
import trio

from stratumfs.fuse.door import DoorOptions
from stratumfs.fuse.files import FileHandlers
from stratumfs.fuse.invalidate import TellEntry, TellInode
from stratumfs.fuse.metadata import MetadataHandlers
from stratumfs.fuse.tree import TreeHandlers
from stratumfs.store.store import Store


# misc: pyfuse3 declares that read returns bytes, and takes any buffer.
class Operations(TreeHandlers, FileHandlers, MetadataHandlers, pyfuse3.Operations):  # type: ignore[misc]
    """All that pyfuse3 calls. Permissions are the kernel's to check (``default_permissions``).

    pyfuse3 has no calls for locks, fallocate or SEEK_HOLE: the kernel's own flock and fcntl locks serve, fallocate is
    EOPNOTSUPP, a file is one run of data.
    """

    supports_dot_lookup = False
    enable_writeback_cache = False
    enable_acl = False

    def __init__(
        self, store: Store, nursery: trio.Nursery, options: DoorOptions, tell_entry: TellEntry, tell_inode: TellInode
    ) -> None:
        super().__init__(store, nursery, options, tell_entry, tell_inode)
        self.answering = trio.Event()

    def init(self) -> None:
        """The kernel has shaken hands: from now on the mount answers."""
        self.answering.set()
