"""What happens to an object next, and when, and what would change it: found by running the policy forward.

No formula: on a fork of the policy the object is read again and again, or left idle, until the policy moves it. The
other objects hold still meanwhile. So what is said here is what the policy does when just that happens to it.
"""

from dataclasses import dataclass

from tiering.fork import Comparison, Crowd, Fork
from tiering.policy import Policy
from tiering.prices import DAY_S
from tiering.signals import HINTS, Hint
from tiering.verdict import Inputs, Verdict

HORIZON_S = 90 * DAY_S
"""How far ahead is looked."""
READS_MAX = 12
"""Further reads that are tried at each distance."""
GAPS_S = (300.0, 3600.0, DAY_S)
"""Distances at which reads are tried, beside the usual one of the object."""
_GAP_MIN_S = GAPS_S[0]
"""Pieces that follow each other sooner may belong to one access."""
_OTHERS_MAX = 32
"""That leave before it when room is needed, and are followed; if there are more it is not among the next."""
_LOOKS_S = (*(hour * 3600.0 for hour in range(24)), *(day * DAY_S for day in range(1, int(HORIZON_S / DAY_S) + 1)))
"""When an idle object is looked at."""


@dataclass(frozen=True, slots=True)
class Reads:
    """*count* more reads of *bytes* each, *gap_s* apart, the first after such a gap: the last one, and none before it,
    moves the object to *target*. *target* None: so many do not move it.

    usual   the gap is that of its last accesses
    at      of the last read
    """

    count: int
    bytes: float
    gap_s: float
    usual: bool
    at: float
    target: int | None


@dataclass(frozen=True, slots=True)
class Idle:
    """Not read any more, it leaves for *target* when it is looked at *at*, and did not when looked at *before*; None
    where it leaves when it is next looked at."""

    before: float | None
    at: float
    target: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """Of an object in *tier* at *now*.

    inputs    what decisions about it start from, for each tier but the slowest
    compared  with those that would make room for it in each faster tier, the fastest first; not if it is pinned
    reads     that move it: for each distance
    kept      it was restored, and stays until its date
    idle      where it goes when it is not read: one step, or more
    standing  how many would leave its tier before it if room were needed now, and of how many that were looked at
    crowd     how much room must be needed in its tier before it has to leave; None where that is not limited
    horizon_s what is not named does not happen within
    warming   until when nothing is moved by preference; None: no longer
    closed    tiers that take nothing: what is said holds for as long as that is so
    pin_fits  False of what is pinned, and does not go there for want of room beside all else that is pinned there
    """

    now: float
    tier: int
    pinned: bool
    kept: bool
    inputs: tuple[Inputs, ...]
    compared: tuple[Comparison, ...]
    reads: tuple[Reads, ...]
    idle: tuple[Idle, ...]
    standing: tuple[int, int]
    crowd: Crowd | None
    horizon_s: float
    warming: float | None
    closed: frozenset[int]
    pin_fits: bool


def outlook(policy: Policy, key: int, now: float, closed: frozenset[int] | None = None) -> Outlook:
    """Takes some milliseconds, and leaves *policy* as it is. *closed*: as of `Fork`: tiers stay so for as long as is
    looked ahead. Raises: ValueError if the object is not known."""
    slot = policy.signals.slot(key)
    if slot is None:
        raise ValueError(f"object {key} is not known")
    tier = policy.signals.tier[slot]
    still = Fork(policy, closed)  # of what is asked here nothing changes what is asked next
    pinned = policy.signals.wish[slot] % HINTS >= Hint.PIN_FIRST
    return Outlook(
        now=now,
        tier=tier,
        pinned=pinned,
        kept=policy.signals.wish[slot] % HINTS == Hint.KEPT,
        inputs=tuple(still.inputs(key, each, now) for each in range(len(policy.prices.steps))),
        compared=() if pinned else tuple(still.compare(key, each, now) for each in range(tier)),
        reads=tuple(_read(Fork(policy, closed), key, now, gap_s, usual) for gap_s, usual in _gaps(policy, slot))
        if tier and not pinned
        else (),
        standing=still.standing(key, now),
        idle=tuple(_idle(still, key, now)),
        crowd=Fork(policy, closed).crowd(key, now, _OTHERS_MAX),
        horizon_s=HORIZON_S,
        warming=policy.began + policy.settings.warmup_s if policy.warming(now) else None,
        closed=still.closed,
        pin_fits=policy.pin_fits(key),
    )


def _gaps(policy: Policy, slot: int) -> list[tuple[float, bool]]:
    """None of what reads cannot move."""
    if not policy.signals.tier[slot] or policy.signals.wish[slot] % HINTS >= Hint.PIN_FIRST:
        return []
    gaps = [(gap_s, False) for gap_s in GAPS_S]
    usual = policy.signals.gap[slot]
    if _GAP_MIN_S <= usual <= HORIZON_S:
        gaps.append((usual, True))
    return gaps


def _read(fork: Fork, key: int, now: float, gap_s: float, usual: bool) -> Reads:
    slot = fork.signals.slot(key)
    assert slot is not None
    size = fork.signals.size[slot]
    part = min(size, max(1.0, size * fork.signals.part_read(slot)))
    most = min(READS_MAX, int(HORIZON_S / gap_s))
    for count in range(1, most + 1):
        at = now + count * gap_s
        moved = _of(key, fork.read(key, at, count=part))
        if moved is not None:
            return Reads(count, part, gap_s, usual, at, moved.target)
    return Reads(most, part, gap_s, usual, now + most * gap_s, None)


def _idle(fork: Fork, key: int, now: float) -> list[Idle]:
    found: list[Idle] = []
    before: float | None = None
    for after_s in _LOOKS_S:
        at = now + after_s
        moved = _of(key, fork.look(key, at))
        if moved is not None:
            found.append(Idle(before, at, moved.target))
        before = at
    return found


def _of(key: int, verdicts: list[Verdict]) -> Verdict | None:
    return next((verdict for verdict in verdicts if verdict.key == key), None)
