"""Every bound, and how the bounds relate (asserted below, on import)."""

from stratumfs.ids import GIB, KIB, MIB

# Coding
STRIPE_PAYLOAD_MAX = 1 * MIB
"""A stripe holds up to this many bytes in k data cells (rounded down to a multiple of k)."""
SHARDS_MAX = 255
"""n = k + m of a code over GF(256)."""

# Volumes
VOLUME_PAYLOAD_SEAL = 256 * MIB
"""A volume is sealed when it holds about this much payload."""
VOLUME_IDLE_SEAL_S = 60.0
SHARD_PREALLOCATE = 8 * MIB
UNSYNCED_BYTES_MAX = 64 * MIB
"""A long stream syncs at least this often: payload stays in memory until every shard has it."""
VOLUME_FREE_GRACE_S = 60.0
"""From the sync of the commit that emptied a volume to the unlink of its shards."""

# Catalog
INLINE_MAX = 16 * KIB
"""Any flushed run up to this long is an inline extent."""
INLINE_BYTES_MAX = 256 * MIB
"""Inline bytes of the whole store; above it small writes go to volumes."""
TRANSACTION_ROWS_MAX = 200
ROUND_BYTES_MAX = 4 * MIB
ROUND_INTERVAL_S = 1.0
CHECKPOINT_BYTES = 64 * MIB
CATALOG_PAGE_SIZE = 4096
ID_BLOCK = 1 << 16
NAME_MAX = 255
"""POSIX: bytes of one name."""
LINK_MAX = 65_000
SYMLINK_MAX = 4095
XATTR_VALUE_MAX = 64 * KIB
XATTRS_BYTES_MAX = 256 * KIB
"""Of one inode, names and values."""

# Objects
KEY_MAX = 1024
"""S3: bytes of one key; the mount can make longer ones, which are listed."""
USER_METADATA_MAX = 2 * KIB
OBJECT_MAX = 5 * 1024 * GIB
PART_MIN = 5 * MIB
PART_MAX = 5 * GIB
PARTS_MAX = 10_000
LIST_MAX = 1000
DELETE_MAX = 1000

# Doors
PENDING_BYTES_MAX = 1 * GIB
"""Of one inode, written through the mount and not published yet."""
PENDING_EXTENTS_MAX = 200
PENDING_AGE_S_MAX = 30.0
INVALIDATE_WAIT_S = 5.0
READAHEAD_STRIPES = 2
STRIPE_CACHE_BYTES = 64 * MIB
DEVICE_THREADS = 8
FUSE_TASKS_MAX = 1024
READS_WAITING_MAX = 512
"""FUSE reads that may wait for devices at once; further ones get EAGAIN."""

assert STRIPE_PAYLOAD_MAX <= UNSYNCED_BYTES_MAX <= VOLUME_PAYLOAD_SEAL
assert INLINE_MAX <= STRIPE_PAYLOAD_MAX
assert INLINE_MAX * TRANSACTION_ROWS_MAX <= ROUND_BYTES_MAX
assert PART_MIN <= PART_MAX <= OBJECT_MAX
assert PART_MAX * PARTS_MAX >= OBJECT_MAX
assert PENDING_EXTENTS_MAX <= TRANSACTION_ROWS_MAX
assert READS_WAITING_MAX < FUSE_TASKS_MAX
