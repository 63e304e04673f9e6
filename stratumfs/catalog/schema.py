"""The tables, every column's meaning, unit and sentinel beside its DDL. SQL that only SQLite knows stands here.

A row of ``entry`` says what a name means; a row of ``inode`` what a file, directory or object is; rows of ``extent``
where its bytes are. Names are BLOBs in the S3 spelling; **the name of a directory ends in ``/``**, so that children in
the order of their names are keys in S3's byte order, and ``a`` and ``a/`` can stand side by side.
"""

from stratumfs.location import CELL_HEADER_SIZE

VERSION = 9

PAYLOAD = f"k * (length - {CELL_HEADER_SIZE} * stripes)"
"""Of a sealed volume: bytes that its data cells have room for. What no row names of them is dead, whether a row named
it once, or an upload was aborted or came too late."""
HALF_DEAD = f"state = 'sealed' and live > 0 and 2 * live < {PAYLOAD}"

VOLUME_INDEXES = (
    # Of sealed volumes alone: what is appended to an open one changes no index. By tier: who chooses in one of them
    # passes over none of the others'.
    "create index volume_live on volume (tier, live) where state = 'sealed'",
    f"create index volume_half_dead on volume (tier, live) where {HALF_DEAD}",
    "create index volume_width on volume (tier, k + m)",
)

CLEAN = (
    # Bytes on devices that lie in the cold tier too: a run here, and the one there that has the same.
    """
    create table clean (
        volume         blob not null,     -- six columns of a place, as in `extent`
        stripe         integer not null,
        position       integer not null,
        cell_size      integer not null,
        skip           integer not null,
        nonce          integer not null,
        length         integer not null,  -- bytes
        cold           blob not null,     -- the same of the place in the cold tier
        cold_stripe    integer not null,
        cold_position  integer not null,
        cold_cell_size integer not null,
        cold_skip      integer not null,
        cold_nonce     integer not null,
        until_ns       integer not null,  -- so long the cold volume is kept for it
        sum            integer not null,  -- 64 bits of a BLAKE3 of the other columns
        primary key (volume, stripe, skip)
    ) without rowid""",
    "create index clean_cold on clean (cold, until_ns)",
    "create index clean_until on clean (until_ns)",
)

DRAIN = """
    create table drain (
        device   blob primary key,
        since_ns integer not null
    ) without rowid"""
"""Devices whose shards are to be made on others, whatever state they are in."""

DECISION_TABLES = (
    # What the tier engine decided to move, and why: the newest of them.
    """
    create table decision (
        id       integer primary key,     -- counts up
        ino      integer not null,
        path     blob not null,           -- bucket/key of it at that time; empty: it had none
        at_ns    integer not null,
        source   text not null,           -- the tier that it was to leave
        target   text not null,
        cause    text not null,           -- placed, policy, pressure, pin, restored, gathered
        size     integer not null,        -- bytes
        inputs   text not null,           -- JSON: all that the verdict was made from
        batch    blob,                    -- 128 random bits: carried out together; null: it has not begun
        ended_ns integer,                 -- null: not ended, the next owner goes on
        outcome  text not null            -- done, superseded, gone, or what it failed of; empty until it ends
    )""",
    "create index decision_ino on decision (ino)",
    "create index decision_open on decision (id) where ended_ns is null",
)

SCRUB_TABLES = (
    # When each shard was last read as a whole, and found to be what was written.
    """
    create table verified (
        volume blob not null,
        cell   integer not null,
        at_ns  integer not null,
        primary key (volume, cell)
    ) without rowid""",
    # Passes of the scrubber. What it counts is of this pass alone.
    """
    create table scrub (
        id         integer primary key,   -- counts up
        began_ns   integer not null,
        ended_ns   integer,               -- null: the next owner goes on with it
        outcome    text not null,         -- done, superseded; empty until it ends
        stage      text not null,         -- rows, copies, volumes
        position   blob not null,         -- behind it the stage goes on: an extent's id (8 bytes), a volume's
        rows       integer not null,      -- of extents
        bad_rows   integer not null,
        copies     integer not null,      -- of the catalog, that were compared
        bad_copies integer not null,
        volumes    integer not null,
        shards     integer not null,
        bad_shards integer not null,      -- tables of contents that were written anew among them
        bytes      integer not null       -- of cells and headers
    )""",
)

VACATED = """
    create table vacated (
        volume   blob not null,
        cell     integer not null,
        device   blob not null,
        since_ns integer not null,
        primary key (volume, cell, device)
    ) without rowid"""
"""Files of shards that volumes have left which moved to another tier whole: they are to be unlinked."""

USAGE = """
    create table usage (
        path        blob primary key,     -- bucket/ or bucket/prefix/
        depth       integer not null,     -- 1: a bucket
        objects     integer not null,     -- that S3 lists
        directories integer not null,
        bytes       integer not null,     -- sizes of the objects
        at_ns       integer not null      -- when it was counted
    ) without rowid"""
"""What lies below each bucket, and below the prefixes that are kept, as the last walk of all names has counted it."""

TABLES: tuple[str, ...] = (
    # One row for each file, directory, link, special file, object, part of an upload.
    """
    create table inode (
        ino         integer primary key,  -- never reused
        mode        integer not null,     -- st_mode, file type included
        nlink       integer not null,     -- names; a directory: 2 + its visible subdirectories; 0: in `orphan`
        uid         integer not null,
        gid         integer not null,
        rdev        integer not null,     -- of a device file, else 0
        size        integer not null,     -- bytes
        atime_ns    integer not null,
        mtime_ns    integer not null,
        ctime_ns    integer not null,
        content     integer not null,     -- counts content commits
        modified_ns integer not null,     -- of the last content commit: Last-Modified
        live        integer not null,     -- a directory's visible children (S3's view); 0 otherwise
        explicit    integer not null,     -- a directory: 1 if made by mkdir or by its own key, 0 if implied by a key
        etag        blob,                 -- 16 bytes: an MD5; longer: the text itself; null: neither file nor object
        object      blob,                 -- JSON of what the writer said of the object; null: nothing
        target      blob,                 -- of a symbolic link
        body        integer               -- of a directory: the inode of the object that its own key is; null: empty
    )""",
    # `inode` is null where only versions are left below the name (a delete marker is the newest).
    """
    create table entry (
        parent integer not null,
        name   blob not null,             -- S3 spelling, a directory's with a trailing /
        inode  integer,
        cookie integer not null,          -- place in readdir; never reused
        digest blob,                      -- 16 bytes, of a segment over 251 bytes: the mount finds it by this
        primary key (parent, name)
    ) without rowid""",
    "create unique index entry_cookie on entry (parent, cookie)",
    "create index entry_inode on entry (inode)",
    "create index entry_digest on entry (parent, digest) where digest is not null",
    # A bucket is a directory of the root.
    """
    create table bucket (
        ino        integer primary key,
        name       text not null unique,
        created_ns integer not null,
        file_mode  integer not null,      -- permission bits of what S3 makes in it
        dir_mode   integer not null,
        sequence   integer not null       -- moves with each change of its settings
    )""",
    """
    create table xattr (
        ino   integer not null,
        name  blob not null,
        value blob not null,
        primary key (ino, name)
    ) without rowid""",
    # Never updated but by a guarded swap of the location: trimming deletes a row and inserts others with new ids.
    # A hole is a missing row; rows of one inode do not overlap (but for those that a `void` hides).
    """
    create table extent (
        id        integer primary key,    -- never reused
        ino       integer not null,
        offset    integer not null,       -- bytes, in the file
        length    integer not null,       -- bytes, > 0
        volume    blob,                   -- null: the bytes are `data`
        stripe    integer,                -- the rest of the location: see stratumfs.location
        position  integer,
        cell_size integer,
        skip      integer,
        nonce     integer,                -- 64 bits as a signed number
        data      blob,                   -- inline bytes
        hash      blob,                   -- BLAKE3 of `data`, 32 bytes
        sum       integer not null        -- 64 bits of BLAKE3 over the other columns: pages have no checksum
    )""",
    "create unique index extent_offset on extent (ino, offset, id)",
    "create index extent_volume on extent (volume, position) where volume is not null",
    "create index extent_inline on extent (id) where volume is null",
    # Hides extents of `ino` that begin in [start, stop) and have ids up to `upto`: a truncate or an overwrite of more
    # rows than one transaction should touch. Chunks clear what it hides.
    """
    create table void (
        ino   integer not null,
        start integer not null,
        stop  integer not null,
        upto  integer not null,
        primary key (ino, start, stop, upto)
    ) without rowid""",
    # Inodes without a name: open somewhere, staged, or to be reaped. An owner that starts reaps them all.
    "create table orphan (ino integer primary key)",
    """
    create table volume (
        id         blob primary key,
        tier       text not null,
        k          integer not null,
        m          integer not null,
        state      text not null,         -- open, sealed, image, freed (its shards are to be unlinked)
        created_ns integer not null,
        changed_ns integer not null,      -- when it came into this state
        length     integer not null,      -- bytes of each shard up to its table of contents; 0 while open
        stripes    integer not null,      -- 0 while open
        live       integer not null       -- payload bytes that extents point at
    ) without rowid""",
    "create index volume_state on volume (state)",
    *VOLUME_INDEXES,
    *CLEAN,
    """
    create table shard (
        volume blob not null,
        cell   integer not null,          -- 0 to k-1 data, k to n-1 parity
        device blob not null,
        primary key (volume, cell)
    ) without rowid""",
    "create index shard_device on shard (device, volume)",
    VACATED,
    # Shards that a read or a rebuild met a bad cell of; what a look finds again (missing files, devices) is in no row.
    """
    create table damage (
        volume   blob not null,
        cell     integer not null,
        since_ns integer not null,
        reason   text not null,           -- in words, of the first bad cell
        primary key (volume, cell)
    ) without rowid""",
    *SCRUB_TABLES,
    USAGE,
    # Moves between tiers that somebody asked for: the log of them, and what the next owner goes on with.
    """
    create table move (
        id       blob primary key,        -- 128 random bits
        ino      integer not null,        -- what was named: a file, or a directory with all below it
        path     blob not null,           -- bucket/key of it at that time
        tier     text not null,           -- where to
        uid      integer not null,        -- who asked
        reason   text not null,           -- in words
        begun_ns integer not null,
        ended_ns integer,                 -- null: not ended, the next owner goes on
        outcome  text not null,           -- done, stopped, superseded, or what it failed of; empty until it ends
        bytes    integer not null         -- that extents point at in the new place now
    ) without rowid""",
    "create index move_ended on move (ended_ns)",
    # The last move that took bytes of an inode along; none where the tier engine has moved them since.
    """
    create table moved (
        ino    integer primary key,
        move   blob not null,             -- a row of `move`
        source text not null,             -- the tier that they came from
        at_ns  integer not null
    )""",
    *DECISION_TABLES,
    # Devices that are not simply online; the list of all is in the identity files.
    """
    create table device (
        id       blob primary key,
        state    text not null,           -- of stratumfs.devices.health
        since_ns integer not null,
        reason   text not null            -- in words, for status
    ) without rowid""",
    DRAIN,
    # Versions of a key, ordered by sequence; null inode: a delete marker. No call makes them yet.
    """
    create table version (
        parent      integer not null,
        name        blob not null,
        sequence    integer not null,
        id          blob not null,        -- 128 random bits, S3's version id
        inode       integer,
        modified_ns integer not null,
        primary key (parent, name, sequence)
    ) without rowid""",
    """
    create table upload (
        id         blob primary key,
        bucket     integer not null,      -- its inode
        key        blob not null,
        created_ns integer not null,
        object     blob,                  -- JSON as in `inode`
        algorithm  text,                  -- of the checksum that was asked for
        composite  integer not null,
        state      text not null,         -- open, or done: answered again for a while
        ino        integer                -- of the object that a done one became
    ) without rowid""",
    "create index upload_key on upload (bucket, key, id)",
    """
    create table part (
        upload      blob not null,
        number      integer not null,
        ino         integer not null,     -- invisible; holds its extents
        size        integer not null,
        etag        blob not null,
        modified_ns integer not null,
        checksum    blob,                 -- JSON
        primary key (upload, number)
    ) without rowid""",
    # Sizes of the parts that a multipart object was made of, as JSON.
    "create table parts (ino integer primary key, sizes blob not null)",
    "create table counter (name text primary key, value integer not null) without rowid",
)

ROWS: tuple[str, ...] = (
    # The root: inode 1, cookie 0 is never an entry's.
    "insert into inode values (1, 16877, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, null, null, null, null)",
    "insert into counter values ('inline_bytes', 0), ('upload_bytes', 0)",
)
