"""Exit codes of all commands: one table, repeated in stratumfs(1).

The numbers are those of mount(8), which hands a helper's code on as its own: 1 bad use, 2 system, 4 a bug,
8 interrupted, 32 the mount failed. Between them stand ours.
"""

from enum import IntEnum

from stratumfs.errors import (
    ConfigError,
    DataError,
    DeviceError,
    GeometryError,
    RequestError,
    StoreError,
    StoreInUse,
)


class Exit(IntEnum):
    OK = 0
    USAGE = 1
    """A wrong command line, wrong settings, or no permission."""
    SYSTEM = 2
    """The operating system refused: no /dev/fuse, no space, an I/O error."""
    NOT_FOUND = 3
    """What was named does not exist: a store, a path, a bucket, a key."""
    INTERNAL = 4
    """A bug: the log has the traceback."""
    IN_USE = 5
    """Another owner, an occupied mount point or address, open files."""
    DEVICE = 6
    """A device was refused or failed: foreign, in a wrong slot, missing, not mounted."""
    DATA = 7
    """Stored bytes that fail their check, or too few shards."""
    INTERRUPTED = 8
    """By a signal from the terminal."""
    STORE = 9
    """The store cannot do it now: read-only, full, closing."""
    MOUNT = 32
    """The mount failed for another reason."""


_CODES: tuple[tuple[type[BaseException], Exit], ...] = (
    (ConfigError, Exit.USAGE),
    (GeometryError, Exit.USAGE),
    (StoreInUse, Exit.IN_USE),
    (StoreError, Exit.STORE),
    (DataError, Exit.DATA),
    (DeviceError, Exit.DEVICE),
    (RequestError, Exit.NOT_FOUND),
    (KeyboardInterrupt, Exit.INTERRUPTED),
    (PermissionError, Exit.USAGE),
    (FileNotFoundError, Exit.NOT_FOUND),
    (OSError, Exit.SYSTEM),
)


def exit_code(error: BaseException) -> Exit:
    """The code for an error; what is in no row is a bug."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return Exit.INTERNAL
