"""How likely it is that bytes are lost within a time, from how often devices fail and how soon they are rebuilt. Pure.

A continuous-time Markov chain, as for RAID since Patterson, Gibson and Katz, "A Case for Redundant Arrays of
Inexpensive Disks", 1988 (Chen et al., "RAID: High-Performance, Reliable Secondary Storage", ACM Computing Surveys 26,
1994): state *j* is so many shards lost; from there each of the n - j others fails at a rate of its own, one is rebuilt
at a time, and beyond m there is no way back. What is not in it (failures that come together, rot that comes before a
repair) is said beside its result.

It is solved by uniformization (Jensen, "Markoff chains as an aid in the study of Markoff processes", Skandinavisk
Aktuarietidskrift 36, 1953) of a short time, squared as often as it takes: nothing is ever subtracted, so that
probabilities of 1e-30 have as many good digits as others.
"""

import math

YEAR_S = 365.25 * 86400
Matrix = list[list[float]]
_TERMS = 30
"""Of a series for at most one event on average, beyond those that lead from one end of the chain to the other."""


def yearly_loss(n: int, m: int, lost: int, afr: float, rebuild_s: float) -> float:
    """Probability that within a year more than *m* of *n* shards are lost at one time, *lost* being so now.

    afr: probability that a device fails within a year; rebuild_s: from a failure to the end of its rebuild.
    """
    return loss_within(YEAR_S, n, m, lost, -math.log1p(-afr) / YEAR_S, rebuild_s)


def loss_within(seconds: float, n: int, m: int, lost: int, rate: float, rebuild_s: float) -> float:
    """The same for any time; *rate*: failures of one device a second."""
    if lost > m:
        return 1.0
    fastest = n * rate + 1 / rebuild_s
    squared = max(0, math.ceil(math.log2(fastest * seconds)))
    moved = _within(seconds / 2**squared, n, m, rate, rebuild_s)
    for _ in range(squared):
        moved = _product(moved, moved)
    return moved[lost][m + 1]


def any_of(chances: list[float]) -> float:
    """Probability that one of several things happens that do not depend on each other."""
    return -math.expm1(sum(math.log1p(-each) if each < 1 else -math.inf for each in chances))


def _within(seconds: float, n: int, m: int, rate: float, rebuild_s: float) -> Matrix:
    """Probabilities of all moves within a short time."""
    size = m + 2
    fastest = n * rate + 1 / rebuild_s
    jump = [[0.0] * size for _ in range(size)]
    for state in range(m + 1):
        fails, back = (n - state) * rate / fastest, (1 / rebuild_s / fastest if state else 0.0)
        jump[state][state + 1] = fails
        if state:
            jump[state][state - 1] = back
        jump[state][state] = ((state * rate) + (0.0 if state else 1 / rebuild_s)) / fastest
    jump[m + 1][m + 1] = 1.0
    events = fastest * seconds
    weight = math.exp(-events)
    power = [[float(row == column) for column in range(size)] for row in range(size)]
    total = [[0.0] * size for _ in range(size)]
    for number in range(1, size + _TERMS):
        total = [
            [old + weight * new for old, new in zip(*rows, strict=True)] for rows in zip(total, power, strict=True)
        ]
        power = _product(power, jump)
        weight *= events / number
    return total


def _product(one: Matrix, other: Matrix) -> Matrix:
    columns = list(zip(*other, strict=True))
    return [[math.fsum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in one]
