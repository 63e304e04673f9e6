"""What is said of the future is tried out: it happens to the policy, which then does what was said."""

import csv
import gzip
import pickle
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiering.tiers import MB, policy, popular, tiers
from tiering.fork import Answer, Fork
from tiering.outlook import Outlook, outlook
from tiering.policy import Policy
from tiering.prices import DAY_S
from tiering.signals import Hint
from tiering.worths import PolicySettings

TRACE = next(
    (
        trace
        for folder in Path(__file__).resolve().parents
        if (trace := folder / "shared" / "traces" / "calgary-1995.csv.gz").exists()
    ),
    None,
)
"""Recorded at a web server in 1995 (Internet Traffic Archive); None where no copy lies beside the source."""
ACCESSES = 5_000
OBJECTS = 500
HOUR_S = 3600.0


def recorded() -> Iterator[tuple[float, int, float]]:
    """Time, key, and size as today's files have it."""
    assert TRACE is not None
    with gzip.open(TRACE, "rt", newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines)):
            if number == ACCESSES:
                return
            if row["op"] == "get":
                yield float(row["t"]), int(row["key"]), 100 * float(row["size"])


def packed(made: Policy) -> bytes:
    """With what is being read now, which a dump leaves out; `pickle.loads` makes another one of it."""
    return pickle.dumps(made)


def fed(accesses: list[tuple[float, int, float]], hot: float, warm: float) -> tuple[Policy, float]:
    """A policy that has seen them, and the time behind the last. *hot*, *warm*: parts of all that is stored."""
    stored = sum({key: size for _, key, size in accesses}.values())
    made = Policy(tiers(hot * stored, warm * stored), 0.0, PolicySettings(warmup_s=0))
    reviewed = 0.0
    for now, key, size in accesses:
        if made.where(key) is None:
            made.place(key, size, now)
        else:
            made.read(key, now, count=size if key % 3 else size / 4)
        if now - reviewed >= HOUR_S:
            reviewed = now
            made.review(now, len(made.signals) // 24)
    return made, now + 60


@pytest.fixture(scope="module")
def accesses() -> list[tuple[float, int, float]]:
    return list(recorded() if TRACE is not None else popular(800, ACCESSES, 40))


@pytest.mark.slow
@pytest.mark.parametrize(("hot", "warm"), [(0.1, 0.3), (0.6, 2.0)], ids=["full", "with-room"])
def test_the_policy_does_what_was_promised_of_each_object(
    accesses: list[tuple[float, int, float]], hot: float, warm: float
) -> None:
    made, now = fed(accesses, hot, warm)
    before = packed(made)
    promises: dict[str, int] = {}
    for key in random.Random(7).sample(sorted({key for _, key, _ in accesses}), OBJECTS):
        told = outlook(made, key, now)
        assert made.where(key) == told.tier
        for kind, count in kept(before, key, told).items():
            promises[kind] = promises.get(kind, 0) + count
    assert packed(made) == before, "asking changes nothing"
    assert promises["read"] >= OBJECTS / 10
    assert promises["crowd"] or hot > 0.5
    assert promises["idle"] >= OBJECTS / 20 or hot < 0.5


def kept(before: bytes, key: int, told: Outlook) -> dict[str, int]:
    """Try what is promised on the policy as it was, of reads one of the promises; returns how many there were."""
    for reads in told.reads[key % 3 :][:1]:
        tried = pickle.loads(before)
        moved = [_read(tried, key, told.now + n * reads.gap_s, reads.bytes) for n in range(1, reads.count + 1)]
        assert moved == [None] * (reads.count - 1) + [reads.target]
        assert reads.at == told.now + reads.count * reads.gap_s
    tried = pickle.loads(before)
    for step in told.idle:
        assert step.before is None or _look(tried, key, step.before) is None
        assert _look(tried, key, step.at) == step.target
    if tried.where(key) == told.tier:
        assert _look(tried, key, told.now + told.horizon_s) is None
    if told.crowd is not None:
        assert _stays(before, key, told, told.crowd.bytes - 1)
        assert _stays(before, key, told, told.crowd.bytes + 1) is not told.crowd.leaves
    return {
        "read": sum(reads.target is not None for reads in told.reads),
        "idle": len(told.idle),
        "crowd": int(told.crowd is not None and told.crowd.leaves),
    }


def _read(made: Policy, key: int, now: float, count: float) -> int | None:
    moves = [verdict.target for verdict in made.read(key, now, count=count) if verdict.key == key]
    return moves[0] if moves else None


def _look(made: Policy, key: int, now: float) -> int | None:
    moves = [verdict.target for verdict in made.look(key, now) if verdict.key == key]
    return moves[0] if moves else None


def _stays(before: bytes, key: int, told: Outlook, need: float) -> bool:
    """As if so many bytes had come."""
    tried: Policy = pickle.loads(before)
    room = [tier.capacity_bytes for tier in tried.prices.tiers]
    room[told.tier] -= need
    tried.prices = tried.prices.with_capacities(room)
    tried.review(told.now, looks=0)
    return tried.where(key) == told.tier


def test_a_fork_lives_on_as_the_policy_would_and_the_policy_stays_as_it_is() -> None:
    drawn = list(popular(300, 3000, 20))
    made, _ = fed(drawn[:2000], 0.1, 0.3)
    before = packed(made)
    twin, fork = pickle.loads(before), Fork(made)
    for now, key, size in drawn[2000:]:
        if made.where(key) is not None:
            assert fork.read(key, now, count=size / 2) == twin.read(key, now, count=size / 2)
        assert fork.review(now, 5) == twin.review(now, 5)
    assert packed(made) == before
    assert fork.used == twin.used
    for slot in range(made.signals.slots):
        assert fork.signals.use(slot, now) == twin.signals.use(slot, now)


def test_what_a_comparison_says_is_what_comes_of_the_attempt() -> None:
    made, now = fed(list(popular(300, 3000, 20)), 0.1, 0.3)
    before, answers = packed(made), set()
    for slot in range(made.signals.slots):
        key, tier = made.signals.key[slot], made.signals.tier[slot]
        for target in range(tier):
            told = Fork(made).compare(key, target, now)
            answers.add(told.answer)
            tried = pickle.loads(before)
            moved = {each.key: each.target for each in tried.consider(key, now)}
            assert (told.answer is Answer.PAYS) or moved.get(key) != target
            if told.answer is Answer.PAYS:
                assert key in moved
                assert moved[key] <= target
            if moved.get(key) == target:
                assert set(told.others) <= moved.keys()
                break
    assert {Answer.PAYS, Answer.DISPLACES_TOO_MUCH} <= answers


def test_of_a_pinned_object_nothing_is_to_come_and_while_it_warms_up_nothing_before_its_end() -> None:
    made = policy(20 * MB, 60 * MB, warmup_s=7 * DAY_S)
    for key in range(20):
        made.place(key, 4 * MB, 0.0)
    key = next(key for key in range(20) if made.where(key) == 2)
    told = outlook(made, key, HOUR_S)
    assert told.warming == 7 * DAY_S
    assert all(reads.target is None or reads.at >= 7 * DAY_S for reads in told.reads)
    assert any(reads.target is not None for reads in told.reads)
    made.hint(key, Hint.PIN_FIRST + 2)
    told = outlook(made, key, HOUR_S)
    assert told.pinned
    assert (told.compared, told.reads, told.idle) == ((), (), ())
    assert told.inputs[0].use.hint == Hint.PIN_FIRST + 2
    with pytest.raises(ValueError, match="object 99 is not known"):
        outlook(made, 99, HOUR_S)


def test_a_tier_that_takes_nothing_is_said_to_and_nothing_is_promised_of_it() -> None:
    made = policy(20 * MB, 60 * MB)
    made.landed(1, MB, 1, 0.0)
    found = outlook(made, 1, HOUR_S)
    assert [each.answer for each in found.compared] == [Answer.WORTH_NOTHING]
    assert 0 in {each.target for each in found.reads}
    shut = outlook(made, 1, HOUR_S, frozenset({0, 2}))
    assert [each.answer for each in shut.compared] == [Answer.CLOSED]
    assert {each.target for each in shut.reads} == {None}
    assert (shut.idle, shut.closed) == ((), frozenset({0, 2}))
    assert made.closed == frozenset()
