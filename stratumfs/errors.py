"""What can go wrong, named by what happened and whose doing it was.

    StratumError
    ├── RequestError                the caller's doing; nothing was changed
    │   ├── NoSuchBucket  NoSuchObject  NoSuchUpload
    │   ├── BucketExists  BucketNotEmpty  InvalidBucketName
    │   ├── KeyTooLong  InvalidKey
    │   ├── PreconditionFailed  NotModified  WriteConflict
    │   ├── InvalidPart  InvalidPartOrder  PartTooSmall  InvalidRange
    │   ├── NotFound  AlreadyExists  NotADirectory  IsADirectory  DirectoryNotEmpty
    │   ├── NameTooLong  InvalidName  CrossBucket  NotPermitted  TooManyLinks
    │   ├── NoSuchAttribute  AttributeExists  AttributeTooLarge
    │   └── InvalidArgument
    ├── StoreError                  the store's state; may pass
    │   ├── StoreReadOnly           names the device and why
    │   ├── StoreFull
    │   ├── StoreBusy               too much is waiting already
    │   ├── StoreClosing
    │   ├── ColdUnavailable         what keeps the cold tier does not answer, or its key is not there
    │   └── StoreInUse              another owner holds it
    ├── DataError                   bytes or rows that fail their check
    │   ├── ShardCorrupt  ShardMissing
    │   ├── TooFewShards
    │   ├── CatalogCorrupt
    │   │   └── ExtentCorrupt       one row of where bytes are, or its inline bytes; carries ``ident``
    │   └── CatalogRefused          a statement that the database refuses: a row against the schema, a program's fault
    ├── DeviceError                 one device's doing; carries ``device``
    │   ├── DeviceFull
    │   ├── DeviceFailed
    │   ├── DeviceSilent            it has not answered in time; it may yet
    │   │   └── DeviceUnasked       nobody could ask it: this process has no descriptor or memory left
    │   └── DeviceRefused           foreign, in a wrong slot, twice the same folder, not mounted
    │       └── AnotherHistory      a clone's, or what a forced opening left behind
    ├── GeometryError               k, m or a length that no code can have
    └── ConfigError                 settings or an environment that cannot work

The core raises these and nothing protocol-shaped. Each door maps them once: ``stratumfs/fuse/errno.py`` to errno,
``gateway/errors.py`` to S3's codes; ``stratumfs/cli`` to exit codes.
"""

import errno

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})


class StratumError(Exception):
    """Root of everything that stratumfs raises on purpose."""


class RequestError(StratumError):
    """The caller asked for what cannot be had."""


class NoSuchBucket(RequestError):
    pass


class NoSuchObject(RequestError):
    pass


class NoSuchUpload(RequestError):
    pass


class BucketExists(RequestError):
    pass


class BucketNotEmpty(RequestError):
    pass


class InvalidBucketName(RequestError):
    pass


class KeyTooLong(RequestError):
    pass


class InvalidKey(RequestError):
    pass


class PreconditionFailed(RequestError):
    """A condition of the request did not hold; ``args[0]`` names it."""


class NotModified(RequestError):
    """A read's condition says that the caller has this version already; ``args[0]`` is its ObjectInfo."""


class WriteConflict(RequestError):
    """What the request builds on was changed under it; asking again may work."""


class StaleIds(WriteConflict):
    """A move has given the inode's extents later ids than those that were drawn for it: draw again."""


class InvalidPart(RequestError):
    pass


class InvalidPartOrder(RequestError):
    pass


class PartTooSmall(RequestError):
    pass


class InvalidRange(RequestError):
    pass


class NotFound(RequestError):
    pass


class AlreadyExists(RequestError):
    pass


class NotADirectory(RequestError):
    pass


class IsADirectory(RequestError):
    pass


class DirectoryNotEmpty(RequestError):
    pass


class NameTooLong(RequestError):
    pass


class InvalidName(RequestError):
    pass


class CrossBucket(RequestError):
    """A rename or link between two buckets."""


class NotPermitted(RequestError):
    pass


class TooManyLinks(RequestError):
    pass


class NoSuchAttribute(RequestError):
    pass


class AttributeExists(RequestError):
    pass


class AttributeTooLarge(RequestError):
    pass


class InvalidArgument(RequestError):
    pass


class StoreError(StratumError):
    """The store cannot do it now."""


class StoreReadOnly(StoreError):
    pass


class StoreFull(StoreError):
    pass


class StoreBusy(StoreError):
    pass


class StoreClosing(StoreError):
    pass


class ColdUnavailable(StoreError):
    """Says nothing of the bytes: they may be whole, and cannot be had now."""


class StoreInUse(StoreError):
    pass


class DataError(StratumError):
    """Stored bytes that cannot be served, because they would be wrong."""


class ShardCorrupt(DataError):
    pass


class ShardMissing(DataError):
    pass


class TooFewShards(DataError):
    pass


class CatalogCorrupt(DataError):
    pass


class ExtentCorrupt(CatalogCorrupt):
    """A row fails its check, and nothing else is known to be wrong; ``ident`` is its id."""

    def __init__(self, message: str, ident: int = 0) -> None:
        super().__init__(message)
        self.ident = ident


class CatalogRefused(DataError):
    """A statement that the database refuses; nothing was changed by it."""


class DeviceError(StratumError):
    """One device's doing; ``device`` names it."""

    def __init__(self, message: str, device: str = "") -> None:
        super().__init__(message)
        self.device = device


class DeviceFull(DeviceError):
    pass


class DeviceFailed(DeviceError):
    pass


class DeviceSilent(DeviceError):
    pass


class DeviceUnasked(DeviceSilent):
    """What the process lacks says nothing of the device: nobody is struck for it."""


class DeviceRefused(DeviceError):
    pass


class AnotherHistory(DeviceRefused):
    pass


class GeometryError(StratumError):
    pass


class ConfigError(StratumError):
    pass


def is_full(error: OSError) -> bool:
    """A disk or a quota has no room left."""
    return error.errno in _FULL


def is_starved(error: BaseException) -> bool:
    """The process, or the machine, has no file descriptor or thread left: no device's doing, and the call can be made
    again.

    ENOMEM is not among them: a sync may say it of pages that it has lost, and must not be believed the next time.
    """
    return isinstance(error, DeviceUnasked) or (isinstance(error, OSError) and error.errno in _NO_DESCRIPTOR)


def of_device(error: OSError, message: str, device: str, otherwise: type[DeviceError] = DeviceFailed) -> DeviceError:
    """What *error* means that a call on *device* met; raise it ``from`` that. *otherwise*: what it is if nothing more
    is known of it."""
    if is_starved(error) or error.errno == errno.ENOMEM:
        return DeviceUnasked(message, device)
    return (DeviceFull if is_full(error) else otherwise)(message, device)
