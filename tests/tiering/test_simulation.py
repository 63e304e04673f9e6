"""The policy as the simulator of tiers calls it, on a small trace beside LRU."""

from collections import OrderedDict
from dataclasses import dataclass

import pytest

from tests.tiering.tiers import popular
from tiering.simulation import Simulated, factory


@dataclass(frozen=True)
class Tier:
    """As the simulator has it, with its prices of an appliance."""

    name: str
    usd_gb_month: float
    latency: float
    bandwidth: float
    capacity: float
    usd_get: float = 0.0
    usd_put: float = 0.0
    usd_read_gb: float = 0.0
    min_days: float = 0.0
    min_bytes: int = 0


class Context:
    def __init__(self, hot: float, warm: float) -> None:
        self.tiers = (
            Tier("hot", 0.08, 0.0002, 2e9, hot),
            Tier("warm", 0.015, 0.01, 180e6, warm),
            Tier("cold", 0.0125, 0.08, 60e6, float("inf"), 1e-6, 1e-5, 0.1, 30, 128 * 1024),
        )
        self.tick = 3600.0
        self.tier: dict[int, int] = {}

    def where(self, key: int) -> int | None:
        return self.tier.get(key)


@pytest.fixture(scope="module")
def accesses() -> list[tuple[float, int, float]]:
    return list(popular(150, 3000, 30))


def replay(
    simulated: Simulated, context: Context, accesses: list[tuple[float, int, float]]
) -> tuple[list[tuple[int, int, str]], float]:
    """The moves, and bytes read from the cold tier; checks room as the simulator does, which would force moves."""
    moves: list[tuple[int, int, str]] = []
    sizes: dict[int, float] = {}
    cold, tick = 0.0, context.tick
    for t, key, size in accesses:
        while tick <= t:
            moves += _apply(simulated, context, sizes, tick)
            tick += context.tick
        if key in context.tier:
            cold += size if context.tier[key] == 2 else 0
            simulated.on_access(key, size, "get", t)
        else:
            sizes[key] = size
            context.tier[key] = simulated.place(key, size, t)
            simulated.on_access(key, size, "put", t)
        moves += _apply(simulated, context, sizes, t)
    return moves, cold


def _apply(simulated: Simulated, context: Context, sizes: dict[int, float], t: float) -> list[tuple[int, int, str]]:
    wanted = simulated.decisions(t)
    for key, target, _ in wanted:
        source = context.tier[key]
        context.tier[key] = target
        simulated.moved(key, source, target, sizes[key], t, "policy")
    for number, tier in enumerate(context.tiers):
        assert sum(sizes[key] for key, at in context.tier.items() if at == number) <= tier.capacity * (1 + 1e-9)
    return wanted


def lru_cold_bytes(accesses: list[tuple[float, int, float]], capacity: float) -> float:
    """Both faster tiers as one LRU."""
    kept: OrderedDict[int, float] = OrderedDict()
    seen: set[int] = set()
    cold = 0.0
    for _, key, size in accesses:
        if key in kept:
            kept.move_to_end(key)
            continue
        cold += size if key in seen else 0
        seen.add(key)
        kept[key] = size
        while sum(kept.values()) > capacity:
            kept.popitem(last=False)
    return cold


def test_it_keeps_room_and_reads_less_from_the_cold_than_lru(accesses: list[tuple[float, int, float]]) -> None:
    stored = sum({key: size for _, key, size in accesses}.values())
    context = Context(0.1 * stored, 0.3 * stored)
    moves, cold = replay(factory(context), context, accesses)
    assert cold < 0.9 * lru_cold_bytes(accesses, 0.4 * stored)
    moved = sum({key: size for _, key, size in accesses}[key] for key, _, _ in moves)
    assert moved < 4.5 * stored


def test_two_runs_decide_alike(accesses: list[tuple[float, int, float]]) -> None:
    stored = sum({key: size for _, key, size in accesses}.values())
    first, second = Context(0.1 * stored, 0.3 * stored), Context(0.1 * stored, 0.3 * stored)
    assert replay(factory(first), first, accesses[:600]) == replay(factory(second), second, accesses[:600])


def test_what_lay_in_the_cold_before_comes_up_when_it_is_read() -> None:
    context = Context(10e6, 30e6)
    context.tier[5] = 2
    simulated = factory(context)
    for hour in range(1, 10):
        simulated.on_access(5, 1e6, "get", hour * 3600.0)
        for key, target, _ in simulated.decisions(hour * 3600.0):
            context.tier[key] = target
    assert context.tier[5] == 0


def test_a_head_is_no_read() -> None:
    context = Context(10e6, 30e6)
    simulated = factory(context)
    simulated.place(1, 1e6, 0.0)
    simulated.on_access(1, 1e6, "head", 100.0)
    assert simulated.policy is not None
    assert simulated.policy.signals.use(0, 100.0).reads == 1
