"""Bounds of what the cold tier does beside putting and giving: recall, looks, moves that wait for it."""

from stratumfs.ids import KIB, MIB
from stratumfs.limits import READS_WAITING_MAX, REPACK_BYTES

COMPACT_REMOTE_LOOK_S = 3600.0
"""How often it is looked whether a compaction in the cold tier pays."""
MOVE_AGAIN_S, MOVE_AGAIN_S_MAX = 10.0, 600.0
"""From a move that met a tier which did not answer to the next try; twice as long each time."""
MOVE_KEPT_S = 7 * 86400.0
"""A move that has met nothing else for so long has failed."""
REMOTE_READS_OF_MOUNT_MAX = 256
"""Of reads that wait for the cold tier, those of a mount. Less than READS_WAITING_MAX: others are read meanwhile."""
CLEAN_RUN_MIN = 64 * KIB
"""Of a run that was brought back from the cold tier, and whose copy there is remembered."""
CLEAN_ROWS_MAX = 20_000
"""Of such runs."""
RECALLED_BYTES = 96 * MIB
"""Of what was recalled ahead, or beside what was read, in memory."""
RECALL_KEPT = 256 * KIB
"""What was read in a range up to so long is kept with all of its segments: its neighbours may be wanted next."""
RECALL_PIECE = 4 * MIB
"""One request that is made ahead."""
RECALL_AHEAD = 8 * MIB
"""Of a sequential reader."""
RECALL_GAP = 64 * KIB
"""What lies between two ranges that are wanted is fetched with them if it is no more."""
RECALL_THREADS = 16
"""That recall ahead, beside those that somebody waits for."""
REMOTE_LOOK_FIRST_S, REMOTE_LOOK_S = 600.0, 3600.0
"""From the start of an owner to its first look whether the cold tier is to be looked at, and to the next ones."""
SWEEP_GRACE_S = 7 * 86400.0
"""An object of ours that no row knows is not removed before it is so old …"""
SWEEP_SKEW_S = 86400.0
"""… and was put so long after this catalog has claimed the tier: those of a service differ."""

assert REPACK_BYTES + RECALL_PIECE < RECALLED_BYTES
assert RECALL_KEPT < RECALL_PIECE <= RECALL_AHEAD
assert REMOTE_READS_OF_MOUNT_MAX < READS_WAITING_MAX
