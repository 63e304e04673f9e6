"""What each error of the store is to a program: one errno. Total over the tree; a test walks it."""

import errno

from stratumfs import errors

# A comment marks what was a judgement. A class that is missing here has the errno of its nearest ancestor.
_TABLE: dict[type[BaseException], int] = {
    errors.StratumError: errno.EIO,
    errors.RequestError: errno.EINVAL,
    errors.NoSuchBucket: errno.ENOENT,
    errors.NoSuchObject: errno.ENOENT,
    errors.NoSuchUpload: errno.ENOENT,
    errors.BucketExists: errno.EEXIST,
    errors.BucketNotEmpty: errno.ENOTEMPTY,
    errors.InvalidBucketName: errno.EINVAL,  # of mkdir in the root: the name breaks S3's rules for buckets
    errors.KeyTooLong: errno.ENAMETOOLONG,
    errors.InvalidKey: errno.EINVAL,
    errors.PreconditionFailed: errno.EBUSY,  # no mount call states conditions
    errors.NotModified: errno.EBUSY,
    errors.WriteConflict: errno.EAGAIN,
    errors.InvalidPart: errno.EINVAL,
    errors.InvalidPartOrder: errno.EINVAL,
    errors.PartTooSmall: errno.EINVAL,
    errors.InvalidRange: errno.EINVAL,
    errors.NotFound: errno.ENOENT,
    errors.AlreadyExists: errno.EEXIST,
    errors.NotADirectory: errno.ENOTDIR,
    errors.IsADirectory: errno.EISDIR,
    errors.DirectoryNotEmpty: errno.ENOTEMPTY,
    errors.NameTooLong: errno.ENAMETOOLONG,
    errors.InvalidName: errno.EINVAL,
    errors.CrossBucket: errno.EXDEV,  # mv and cp --reflink fall back to copying, as between two file systems
    errors.NotPermitted: errno.EPERM,
    errors.TooManyLinks: errno.EMLINK,
    errors.NoSuchAttribute: errno.ENODATA,
    errors.AttributeExists: errno.EEXIST,
    errors.AttributeTooLarge: errno.ENOSPC,  # setxattr(2): no room left for the attribute; E2BIG is the kernel's
    errors.InvalidArgument: errno.EINVAL,
    errors.StoreError: errno.EIO,
    errors.StoreReadOnly: errno.EROFS,
    errors.StoreFull: errno.ENOSPC,
    errors.StoreBusy: errno.EAGAIN,
    errors.StoreClosing: errno.ESHUTDOWN,
    errors.ColdUnavailable: errno.EIO,  # EAGAIN would have programs ask again at once, for minutes
    errors.StoreInUse: errno.EBUSY,
    errors.DataError: errno.EIO,  # damage is refused, never served
    errors.DeviceError: errno.EIO,
    errors.DeviceFull: errno.ENOSPC,
    errors.DeviceUnasked: errno.EAGAIN,  # EMFILE would be the program's own, and nothing is wrong with any device
    errors.GeometryError: errno.EINVAL,
    errors.ConfigError: errno.EINVAL,
}


def errno_of(error: errors.StratumError) -> int:
    """The errno that *error* is answered with."""
    return next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)
