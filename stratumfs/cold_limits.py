"""Bounds of what the cold tier does beside putting and giving: recall, looks, moves that wait for it."""

from stratumfs.ids import KIB, MIB
from stratumfs.limits import READS_WAITING_MAX, REPACK_BYTES

COMPACT_REMOTE_LOOK_S = 3600.0
"""How often it is looked whether a compaction in the cold tier pays."""
MOVE_AGAIN_S, MOVE_AGAIN_S_MAX = 10.0, 600.0
"""From a move that met a tier which did not answer to the next try; twice as long each time."""
MOVE_KEPT_S = 7 * 86400.0
"""A move that has met nothing else for so long, in one owner, has failed; it may wait for its turn for longer."""
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
RECALL_PIECE_LONG = 8 * MIB
"""And of what is twice as long as RECALL_AHEAD, as steps of a move: a request costs as much as three MiB do."""
RECALL_TOGETHER = 4 * MIB
"""Of what was fetched ahead, that a move takes from there by one step."""
RECALL_AHEAD = 8 * MIB
"""Of a sequential reader."""
RECALL_GAP = 64 * KIB
"""What lies between two ranges that are wanted is fetched with them if it is no more."""
RECALL_THREADS = 16
"""That recall ahead, beside those that somebody waits for."""
FLOW_FIRST, FLOW_MIN = REPACK_BYTES, MIB
"""What may be on its way ahead until it is known how fast it comes: one step of a move; and however slowly it comes."""
FLOW_PART = 0.25
"""Of the time that a reader waits at most: so soon it is to come."""
REMOTE_LOOK_FIRST_S, REMOTE_LOOK_S = 600.0, 3600.0
"""From the start of an owner to its first look whether the cold tier is to be looked at, and to the next ones."""
RECALL_LEFT_S = 60.0
"""So often what is left of the budget of recall is written down, if anything was recalled."""
LOOK_FAILURES = 3
"""Objects, one behind the other, that are not given to who looks at all: then it is the service that fails."""
SWEEP_GRACE_S = 7 * 86400.0
"""An object of ours that no row knows is not removed before it is so old …"""
SWEEP_SKEW_S = 86400.0
"""… and was put so long after this catalog has claimed the tier: those of a service differ."""

assert 2 * REPACK_BYTES + RECALL_PIECE_LONG < RECALLED_BYTES  # the next step of a repack is fetched beside one
assert RECALL_KEPT < RECALL_PIECE <= RECALL_AHEAD <= REPACK_BYTES // 2
assert FLOW_MIN <= FLOW_FIRST < RECALLED_BYTES
assert REMOTE_READS_OF_MOUNT_MAX < READS_WAITING_MAX
