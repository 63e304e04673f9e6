"""Every bound, and how the bounds relate (asserted below, on import)."""

from itertools import pairwise

from stratumfs.ids import GIB, KIB, MIB

# Coding
STRIPE_PAYLOAD_MAX = 1 * MIB
"""Of every code alike: a stripe with so many bytes is full, and may have others of its run behind it."""
SHARDS_MAX = 255
"""n = k + m of a code over GF(256)."""

# Volumes
VOLUME_PAYLOAD_SEAL = 256 * MIB
"""A volume is sealed when it holds about this much payload."""
VOLUME_IDLE_SEAL_S = 60.0
SHARD_PREALLOCATE = 8 * MIB
SHARD_FILES_OPEN_MAX = 64
"""Descriptors that a device keeps open for reading."""
VOLUMES_OPEN_MAX = 16
"""Volumes that a tier's writer holds open, full ones that wait for their sealing included; each has n descriptors."""
TOC_ENTRIES_MAX = 200_000
"""Entries of one table of contents; what else lies in a volume is known to the catalog alone."""
UNSYNCED_BYTES_MAX = 48 * MIB
"""A long stream syncs at least this often: payload stays in memory until every shard has it."""
UNSYNCED_TOTAL_MAX = 48 * MIB
"""Of all streams of the S3 door together, but for STRIPES_IN_FLIGHT and one that fills of each: above it each syncs
after every stripe. Of a mount it is PENDING_MEMORY_MAX."""
SYNC_AHEAD_BYTES = 16 * MIB
"""Of one stream, appended: their sync begins beside what still comes in."""
SYNC_CROWDED_BYTES = 4 * MIB
"""The same where all streams together have half of UNSYNCED_TOTAL_MAX."""
WINDOW_FREE_SHARE = 10
"""Where less than such a share of a tier is free, volumes that backups may name go early, the oldest first."""
VOLUME_FREE_GRACE_S = 60.0
"""From the sync of the commit that emptied a volume to the unlink of its shards."""

# Repair
REBUILD_BYTES = 16 * MIB
"""Of all cells of the stripes that a rebuild has in its hands at once; one stripe at least."""
REBUILD_BATCHES = 3
"""Of one rebuild, that are read, decoded or written at once."""
REBUILDS_MAX = 2
"""Volumes that are repaired at once while nobody asks at the doors, each with so much memory."""
REBUILD_SYNC_BYTES = 8 * MIB
"""Of one shard, behind which a sync begins beside the next writes: a disk that is busy has no more to do within its
deadline than that and what is in flight."""
REBUILD_READ_S = 10.0
"""A device that gives a repair nothing for so long is asked last, and what needs it is put off."""
LISTING_S = 1.0
"""One call that lists what lies on a device ends behind the folder in which so much has passed."""
VERIFY_STRIPES = 16
"""Of one shard, that one call verifies: it has REBUILD_READ_S."""
HEADERS_LISTED = 64
"""Of one shard, read by one call to find stripes that no row names: each may be a seek, and it has REBUILD_READ_S."""
REPAIRS_QUEUED_MAX = 4096
"""Volumes that wait to be repaired; those that are least exposed are found again when there is room."""
DAMAGE_NOTED_MAX = 4096
"""Damaged shards heard of and not yet in the catalog; others are met again."""
REPAIR_LOOK_S = 10.0
"""How often the folders of devices are looked at: emptied, unmounted, there again."""
REPAIR_SURVEY_S = 3600.0
"""How often all volumes are looked at if nothing happens."""
REPAIR_RETURN_S = 60.0
"""From a strike to the first try to take the device back; twice as long for each time that it came back before."""
REPAIR_AGAIN_S = 60.0
"""From a repair that could not make all to the next try; twice as long each time, up to REPAIR_SURVEY_S."""

# Compaction
COMPACT_LOOK_S = 10.0
"""How often it is looked whether volumes are worth a repack."""
COMPACT_AGAIN_S = 3600.0
"""From a repack that left something where it was (damaged, lost until a device is back) to the next of that volume."""
MERGE_VOLUMES = 8
"""So many small volumes of one class are merged."""
MERGE_BOUNDS = (1, 512 * KIB, 4 * MIB, 32 * MIB)
"""Bytes in use where a class of small volumes begins and the one before it ends. So many of one class make one of the
next: what is merged is copied once for each class, not again for each volume that comes after it."""

# Namespace images
IMAGE_INTERVAL_S = 3600.0
"""From one image to the next, if anything has changed."""
IMAGE_AGE_MAX_S = 7 * 86400.0
"""Behind it another one is written also if nothing has changed: nobody verifies images, and disks rot."""
IMAGE_CHANGES = 1_000_000
"""So many transactions make one due earlier, but not before IMAGE_AGAIN_S."""
IMAGE_AGAIN_S = 600.0
"""From an image that could not be written, or that lost a device, to the next try."""
IMAGE_FIRST_S = 60.0
"""From the start of an owner to its first look whether one is due."""
IMAGE_LOOK_S = 10.0
IMAGE_ROWS = 200
"""Rows that are read at once, by a thread that the loop waits for when it wants its turn."""
IMAGE_FRAME_MAX = 1 * MIB
"""Of one frame, unpacked."""
IMAGES_KEPT = 2
IMAGE_BYTES_MAX = 1 << 40
"""An image is one volume, however long it is."""

# Catalog
INLINE_MAX = 16 * KIB
"""Any flushed run up to this long is an inline extent."""
INLINE_BYTES_MAX = 256 * MIB
"""Inline bytes of the whole store; above it small writes go to volumes. They are packed from a quarter of it on."""
PACKED_CELL = 16 * KIB
"""Of stripes that short runs share: as much is read and verified, at least, to read one of them."""
PACK_AGAIN_S = 10.0
"""From a packing that found nothing to do, or could not, to the next."""
TRANSACTION_ROWS_MAX = 200
COUNTED_ROWS_MAX = 20_000
"""Rows that one transaction only counts: half a millisecond."""
SUMMED_ROWS_MAX = 2000
"""The same where each is looked up in another table: 2 ms."""
MAKE_CHUNK = 50
"""Files that one transaction of a bulk call makes: 2 ms."""
ROUND_BYTES_MAX = 4 * MIB
ROUND_INTERVAL_S = 1.0
COMMITS_WAITING_MAX = 8192
"""Functions queued for a round; further ones are refused."""
UNSYNCED_TRANSACTIONS_MAX = 4096
"""Transactions that are committed and not yet synced; further ones wait for a round."""
CHECKPOINT_BYTES, CHECKPOINT_SHARE, CHECKPOINT_BYTES_MIN = 64 * MIB, 32, 8 * MIB
"""Of the log, until it is folded; of a small disk that holds the catalog such a share, but so much at least."""
CHECKPOINT_LATE_BYTES = 4 * CHECKPOINT_BYTES
"""A checkpoint waits for a copy that is being seeded until the log is so long: it would have to be seeded again."""
SNAPSHOT_LOG_MAX = 16 * CHECKPOINT_LATE_BYTES
"""Whoever reads one moment of the catalog hurries once the log is as long as that of a late checkpoint, and gives up
here: as long as it reads the log is not started over."""
CHECKPOINT_LOOKS_S = 0.5
SPOOL_S = 5.0
"""For the end of a log that a backup wants to have: writers wait for it."""
BACKUP_RENEW = 4
"""A series of the backup whose log is so many times as long as its base ends, and another one begins."""
BACKUP_LOG_MIN = 64 * MIB
"""… but not before its log is so long."""
SPOOL_SPARE_BYTES, SPOOL_SPARE_LOG_BYTES = 2 * GIB, 512 * MIB
"""Of the catalog's disk: the first, or a share of it if that is less, but the second, or half of it, at least. What
waits for a backup leaves it free: with half as much a disk gives its copy away (`spares`) or takes no new data."""
SPOOL_SPARE_SHARE = 20
SPOOL_SMALL_SHARE = 16
"""… but such a share of what is free may always wait."""
CHECKPOINT_BUSY_TRIES_MAX = 200
CATALOG_CACHE_BYTES = 64 * MIB
CATALOG_PAGE_SIZE = 4096
ID_BLOCK = 1 << 16
STARVED_S = 1.0
"""So often it is tried again what this process has no file descriptor for."""
STRIKE_S = 30.0
"""Who has not answered by then, while the others have, is struck: a sleeping disk needs 15."""
JOIN_RETRY_S = 10.0
"""How often a catalog with too few members looks for one more; one that could not be made rests for RESTING_S."""
RESTING_S = 60.0
REMOVED_S = 1.0
"""How long a join that failed waits until what it made is removed."""
SEQUENCE_NOTED_S = 60.0
"""How often identity files learn which transaction is synced."""
EPOCH_LINE_MAX = 10_000
"""Ancestors that an epoch names: each opening, strike and join of a copy is one."""
NAME_MAX = 255
"""POSIX: bytes of one name."""
SEGMENT_SPELLED_MAX = NAME_MAX - 4
"""Segments up to this long have room for the mount's marks in a POSIX name; longer ones are found by a digest."""
LINK_MAX = 65_000
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
BUCKETS_LIST_MAX = 10_000
"""Of one page of ListBuckets; a longer list goes on by a token."""
DELETE_MAX = 1000
RESTORE_DAYS_MAX = 36_500

# Remotes
REMOTE_CONNECT_S = 5.0
REMOTE_SILENCE_S = 20.0
"""Of a service, between two pieces of what it sends or takes."""
REMOTE_VERB_S = 60.0
REMOTE_RATE_MIN = 64 * KIB
"""Bytes a second: with all its attempts one verb has REMOTE_VERB_S, and the time that its bytes take at such a rate."""
REMOTE_ATTEMPTS = 5
REMOTE_PAUSE_S, REMOTE_PAUSE_S_MAX = 0.2, 5.0
"""Before the second attempt, and before any other, at most."""
REMOTE_CONNECTIONS_KEPT = 64
"""To one service, that are kept for the next call."""

# Doors
PENDING_BYTES_MAX = 1 * GIB
"""Of one inode, written through the mount and not published yet."""
PENDING_EXTENTS_MAX = 200
PENDING_AGE_S_MAX = 30.0
PENDING_SWEEP_S = 5.0
PENDING_MEMORY_MAX = 256 * MIB
"""Of all inodes of a mount, in memory: what is synced but not published can be read from its volumes."""
INVALIDATE_WAIT_S = 5.0
INVALIDATE_AGAIN_S = 0.001
INVALIDATE_THREADS = 16
KERNEL_CACHE_S = 3600.0
"""The kernel keeps names and attributes for so long; it is told of what changes."""
SPECIAL_NAMES_MAX = 10_000
"""Names known to the kernel whose spelling depends on their neighbours."""
KEPT_NAMES_MAX = 200_000
"""Names that the kernel was given to keep; of directories past it all are taken to be."""
HANDLES_MAX = 1 << 20
READDIR_CHUNK_MIN = 32
READDIR_CHUNK_MAX = 512
MAINTENANCE_INTERVAL_S = 5.0
REAP_DELAY_S = 0.2
REAP_CHUNK = 20
"""Inodes that one transaction reaps."""
UPLOAD_REMEMBERED_S = 24 * 3600.0
"""A completed upload is remembered so long, to answer a repeated completion."""
REPACK_BYTES = 32 * MIB
"""That one step of a repack copies and syncs before it swaps rows."""
REPACK_RUNS = 2000
"""Of one step, however few bytes they are."""
PACE_REST_BUSY, PACE_REST_ALONE = 3.0, 0.5
"""Times as long as it worked background work rests: where somebody uses the doors, and where nobody does."""
PACE_REST_S_MAX = 30.0
SWAP_ROWS = 100
"""Extents that one transaction of a repack points elsewhere, or reads with the bytes that lie in them: 2 ms."""
KNOWN_OBJECTS_MAX = 8192
KNOWN_BYTES_MAX = 32 * MIB
"""Of objects whose rows are remembered, and of the bytes that lie in those rows, metadata too."""
KNOWN_ROWS_MAX = 8
"""What has more extents, parts or names in its key is not: a thousand parts would take 40 KB."""
KNOWN_BUCKETS_MAX = 1024
"""Names of buckets that are remembered."""
KNOWN_LAYOUTS_MAX = 2048
"""Files of which it is remembered where their bytes lie, each of KNOWN_ROWS_MAX extents at most."""
DEFRAGMENT_LOOK_S = 10.0
DEFRAGMENT_QUIET_S = 30.0
"""Of a file that was written in small pieces, before they are joined: what is overwritten again need not be."""
DEFRAGMENT_FILES_MAX = 10_000
"""That are remembered until then."""
DEFRAGMENT_FREE = 10
"""It is left to a tier with less than one such part of its room free."""
FRAGMENTED_EXTENTS = 64
"""A file with fewer is not looked at."""
FRAGMENTS_MIN = 8
"""Extents that follow one another are joined if there are so many of them …"""
FRAGMENT_MEAN = 64 * KIB
"""… and they have no more bytes than this on average …"""
FRAGMENT_MAX = 256 * KIB
"""… and none has more: a reader does not notice where such a one ends."""
MOVES_MAX = 100
"""Moves that wait for the one under way; further ones are refused."""
MOVES_LOOK_S = 5.0
"""How often a move that waits because nothing can be written looks whether that is over."""
ACCESSES_MAX = 200_000
"""Reads that wait for the tier engine's next look; what comes on top is not counted."""
CHANGES_MAX = 100_000
"""Inodes that have changed since its last look; of more, all are looked at."""
VOLUMES_SUMMED = 1000
"""Rows of volumes that one transaction adds up: half a millisecond."""
RESIDENCES = 25
"""Inodes of which one transaction says where their bytes lie, or what was decided: 2 ms."""
SNIFF_BYTES = 64 * KIB
"""Of a new object, by which is told what it is."""
SNIFFS_WAITING_MAX = 1000
"""New objects that wait for that; of further ones the name tells."""
DECISIONS_KEPT = 100_000
DECISIONS_KEPT_S = 90 * 86400.0
"""The log of decisions is no longer, and no older."""
PLAN_MAX = 10_000
"""Moves that wait for each tier, and as many that make room; what is decided beyond is decided again later."""
BATCH_BYTES = 256 * MIB
BATCH_MOVES = 200
"""Moves that are carried out together; a single object may have more bytes."""
UNMOVABLE_MAX = 10_000
"""Objects that are known not to be movable now; of more, those that were met first are tried again sooner."""
TIER_AGAIN_S = 600.0
"""After this is tried again what a tier could not take, or what could not be moved."""
SURVEY_WAIT_S = 60.0
"""Who asks what the tier engine would do waits so long for it to have seen all objects."""
HEAT_SAVED_S = 60.0
"""How often the heat is written down: more rarely where that were more than `HEAT_BYTES_S`."""
HEAT_BYTES_S = 1 * MIB
INSPECT_BYTES = 1 * MIB
"""Of one shard that are read at once to be verified: memory that is used again costs less than more of it."""
LEDGER_S = 60.0
"""How old the ledger of durability is at most that metrics show: it goes through the rows of all volumes."""
BUCKETS_MEASURED_MAX = 1000
"""Of which metrics tell sums: each is a series."""
HEAL_STRIPES = 256
"""That are gathered, to be looked at volume by volume, when somebody asks for a prefix to be healed."""
USAGE_PERIOD_S = 6 * 3600.0
"""From one walk of all names, which counts what lies below each bucket and prefix, to the next."""
USAGE_DEPTH = 3
"""Of directories whose sums are kept: buckets, and two levels below."""
USAGE_ROWS_MAX = 10_000
"""Of prefixes whose sums are kept; buckets are not counted."""
SCRUB_PERIOD_S = 14 * 86400.0
"""In which all is read once."""
SCRUB_AGAIN_S = 60.0
"""From a pass of the scrubber that could not go on to the next try."""
SCRUB_ROW_BYTES = 256
"""What a row of the catalog counts for beside bytes of shards, where a pass is spread over its period."""
SCRUB_ROWS_SAVED = 20_000
"""Rows after which is written down how far the scrubber is."""
FINDINGS_MAX = 10_000
"""Of a check that are told in words; the others are counted."""
COMPARED_MAX = 1000
"""Rows of the catalog in which a copy differs that are judged together."""
PAGE_ROWS_MAX = 64
"""Rows of extents that lie on one page of the catalog, at most: one has 60 bytes at least."""
ROW_MEND_AGAIN_S = 60.0
"""A row of the catalog that no copy had whole is sought again after this."""
READAHEAD_STRIPES = 2
READAHEAD_STREAMS_MAX = 32
"""Of objects that are being sent: among more, each reads a stripe when the one before it was taken."""
VOLUMES_KNOWN_MAX = 65_536
"""Volumes whose geometry and devices are kept in memory: 16 TiB of them."""
STRIPES_IN_FLIGHT = 4
"""Of one stream: being hashed, coded and appended while the next one fills."""
STRIPE_CACHE_BYTES = 64 * MIB
FREED_BYTES_KEPT = 64 * MIB
"""Of memory that is freed, at the end of the heap: the next buffers lie there."""
GARBAGE_OBJECTS = 10_000
"""So many more than before make Python look for cycles among them."""
MAPPED_BUFFER_MIN = 32 * MIB
"""Buffers from here on are mapped by themselves; the C library takes no higher bound."""
DEVICE_THREADS = 8
REBUILD_THREADS = 2
"""Threads that verify and decode for rebuilds."""
CODING_THREADS = 4
"""Threads that encode and append, and as many that verify and decode: each works on one stripe."""
DEVICE_DEADLINE_S = 30.0
"""Of one call that writes to a device: one that takes longer has failed, if the others answer. A sleeping disk needs 15
to spin up."""
ANSWER_WAIT_S = 5.0
"""For devices, by who tells what they hold: one that does not answer by then counts as lost."""
NEVER_NS = (1 << 63) - 1
"""Of times in the catalog: behind all that there are."""
STANDINGS_S = 2.0
"""For identity files to repeat a strike, which writes may wait for."""
PROGRESS_S = 1.0
"""How often who waits for the owner is told how far it is."""
PROGRESS_REST = 9
"""So many times as long as it took to find out."""
CLOSE_WAIT_S = 5.0
"""For files that are closed at the owner's end."""
DEVICE_LOOK_S = 1.0
"""So often the devices' calls are looked at."""
DEVICE_STANDSTILL_S = 5.0
"""Where there is more than this between two looks, the process itself was stopped, or its loop was."""
DEVICE_FULL_S = 5.0
"""A device that had no room, whatever it says it has (a quota), is tried again after this."""
DEVICE_SUSPECT_S = 60.0
"""After an error of a read a device is read last for so long."""
HEALTH_LOOK_S = 30.0
"""So often the calls of devices are compared with those of their peers."""
SLOW_TIMES, SLOW_S, SLOW_CALLS_MIN = 8.0, 0.05, 20
"""A device is slow whose calls take so many times as long as the others' on average, and no less than so long; who had
fewer calls says nothing."""
SLOW_SUSPECT_S = 600.0
"""It is read last for so long: who is not read cannot show that it is quick again."""
SMART_LOOK_S = 3600.0
SMART_WAIT_S = 30.0
"""For smartctl, which hangs with its disk."""
REMOTE_THREADS = 32
"""That read from somebody's S3 at once."""
REMOTE_READS_WAITING_MAX = 4096
"""Of the cold tier, for a turn and for its answer."""
REMOTE_PUTS = 2
"""Volumes that are on their way to somebody's S3 at once; each is REPACK_BYTES, and as much encrypted."""
REMOTE_VOLUMES_KNOWN = 4096
"""Of which it is remembered what the headers of their objects say."""
REMOTE_FAILURES = 3
"""Reads of a cold tier that fail, with none between them that is answered, before others are refused at once …"""
REMOTE_REST_S, REMOTE_REST_S_MAX = 5.0, 60.0
"""… until one is tried again; twice as long each time that it fails too."""
REMOTE_AGAIN_S = 30.0
"""After a delete that failed."""
HEDGE_DELAY_S = 0.25
"""A cell that a device has not given by then is sought on the others too."""
READS_NOTED_S, READS_NOTED_MAX = 1.0, 200
"""Access times wait for so long, or until they are so many, and go into the catalog together."""
FUSE_TASKS_MAX, FUSE_TASKS_IDLE = 1024, 16
"""Tasks of pyfuse3, and those that are kept for the next requests; each has a buffer of 1 MiB that stays warm."""
REQUEST_SOON_S, REQUESTS_TURN_S = 50e-6, 1e-3
"""A FUSE request that comes so soon behind the last one is waited for; and for how long others stand behind such."""
FUSE_BACKGROUND_MAX = 256
"""Read-ahead and asynchronous requests that the kernel may have under way at once, where we may tell it."""
LOOP_STALL_S = 0.25
"""A loop that stands still for so long is woken: see fuse/wake.py."""
UNMOUNT_GRACE_S = 10.0
"""At the end of the owner: how long a mount that is in use is tried again before it is detached."""
READS_WAITING_MAX = 512
"""FUSE reads that may wait for devices at once; further ones get EAGAIN."""
METRICS_CONNECTIONS_MAX = 16
"""Of who asks for metrics: a few servers of Prometheus."""
CONNECTIONS_MAX = 4096
"""Of one S3 door, if there are descriptors for so many. Above it the one that has waited longest for its next request
makes room. A stranger can have each hold a head."""
CONNECTIONS_MIN = 16
OWNER_DESCRIPTORS = 256
"""Of the catalog, its copies, sockets of commands, logs, the mount, and what is opened for a moment."""
DEVICE_DESCRIPTORS = SHARD_FILES_OPEN_MAX + VOLUMES_OPEN_MAX + 2 * DEVICE_THREADS + 16
"""Of one device: shards that are read, those of open volumes, one in each thread, and a rebuild's."""
HASH_INLINE = 32 * KIB
HASHED_TOGETHER = 2 * MIB
"""Bytes of a stream that one hop into a thread hashes by MD5, where so many wait."""
RECORDED_MAX = 20_000
"""Accesses that are noted until they are written down, a minute's; more are not."""
RECORDING_S = 60.0
RECORDING_SEGMENT_BYTES = 1 * MIB
RECORDING_BYTES_MAX = 32 * MIB
"""Of all segments of recorded accesses: some millions, of which the oldest go."""
SUMS_WAIT_S = 30.0
"""An explanation of a directory sums up what it finds in so long."""
EXPLAINED_TOGETHER = 2
"""Explanations of files under way, and as many sums of directories: each of them looks at much that others want too."""
EXPLANATIONS_WAITING = 32
"""Of files, in line. More are refused, and so is each sum that has no turn at once: one may take half a minute."""
INVENTORY_MAX = 1_000_000
"""Objects of one replay."""

assert DEVICE_LOOK_S < DEVICE_STANDSTILL_S < DEVICE_DEADLINE_S
assert all(MERGE_VOLUMES * low >= high for low, high in pairwise(MERGE_BOUNDS[1:]))
assert MERGE_VOLUMES * MERGE_BOUNDS[-1] <= VOLUME_PAYLOAD_SEAL
assert PACE_REST_S_MAX < VOLUME_IDLE_SEAL_S
assert HEALTH_LOOK_S < SLOW_SUSPECT_S < SMART_LOOK_S
assert LISTING_S < DEVICE_DEADLINE_S
assert READS_NOTED_MAX <= TRANSACTION_ROWS_MAX
assert STRIPE_PAYLOAD_MAX <= UNSYNCED_BYTES_MAX <= VOLUME_PAYLOAD_SEAL
assert UNSYNCED_BYTES_MAX <= UNSYNCED_TOTAL_MAX
assert SYNC_CROWDED_BYTES <= SYNC_AHEAD_BYTES <= UNSYNCED_BYTES_MAX // 2
assert REPACK_BYTES <= UNSYNCED_BYTES_MAX
assert SWAP_ROWS <= TRANSACTION_ROWS_MAX
assert BATCH_MOVES <= TRANSACTION_ROWS_MAX
assert REPACK_BYTES <= BATCH_BYTES
assert INLINE_BYTES_MAX // 4 <= CATALOG_CACHE_BYTES
assert INLINE_MAX <= PACKED_CELL <= STRIPE_PAYLOAD_MAX
assert INLINE_MAX * TRANSACTION_ROWS_MAX <= ROUND_BYTES_MAX
assert PART_MIN <= PART_MAX <= OBJECT_MAX
assert PART_MAX * PARTS_MAX >= OBJECT_MAX
assert PENDING_EXTENTS_MAX <= TRANSACTION_ROWS_MAX
assert ROUND_BYTES_MAX < CHECKPOINT_BYTES_MIN < CHECKPOINT_BYTES
assert STRIPE_PAYLOAD_MAX <= IMAGE_FRAME_MAX
assert IMAGES_KEPT >= 2
assert REMOTE_CONNECT_S < REMOTE_SILENCE_S < REMOTE_VERB_S
assert FUSE_TASKS_MAX < COMMITS_WAITING_MAX
assert READS_WAITING_MAX < FUSE_TASKS_MAX
assert CONNECTIONS_MIN < CONNECTIONS_MAX
assert SUMS_WAIT_S + ANSWER_WAIT_S < 60
assert 2 * RECORDING_SEGMENT_BYTES <= RECORDING_BYTES_MAX
assert HASHED_TOGETHER <= STRIPES_IN_FLIGHT // 2 * STRIPE_PAYLOAD_MAX  # the other half fills meanwhile
assert REBUILDS_MAX * REBUILD_BATCHES * REBUILD_BYTES <= 96 * MIB  # beside all that the doors have in their hands
