"""Whether what was seen of one name can be the work of one file, each call at a moment between its begin and its end.

The search of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993), each call put in order no earlier than
it must be and each state visited once (Lowe, "Testing for Linearizability", 2017). Linearizability is local: a history
is right if that of each name is. Pure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

ABSENT = None
State = int | None
"""What the name holds: the number of a write, or ABSENT."""


class Do(Enum):
    """READ: its outcome is what was there. SEEN: whether anything was. MAKE and TAKE: whether they succeeded, which is
    where nothing was there, and where something was; the others always do."""

    WRITE, READ, SEEN, MAKE, TAKE, DELETE = range(6)


UNKNOWN = object()
"""The outcome of a call that was never answered: it happened before its end, or never will."""


@dataclass(frozen=True, slots=True)
class Call:
    """*value*: what WRITE and MAKE would leave. *begun* and *ended* are of one clock. *how* it was made, in words."""

    do: Do
    begun: int
    ended: int
    outcome: object = True
    value: State = ABSENT
    how: str = ""

    @property
    def unknown(self) -> bool:
        return self.outcome is UNKNOWN


def ahead(call: Call, calls: Iterable[Call]) -> Call:
    """*call* as one that may show what others have begun and were not answered yet, and that nobody else sees: its
    moment may be as late as theirs. What was answered before it began it must show."""
    return replace(call, ended=max(each.ended for each in (call, *calls) if each.begun < call.ended <= each.ended))


Config = tuple[State, frozenset[int]]
"""A state, and which of the calls under way have happened in it."""


def step(state: State, call: Call) -> tuple[bool, State]:
    """Whether *call* can have had its outcome in *state*, and what it left."""
    there, free = state is not ABSENT, call.unknown
    match call.do:
        case Do.WRITE:
            return True, call.value
        case Do.DELETE:
            return True, ABSENT
        case Do.READ:
            return free or call.outcome == state, state
        case Do.SEEN:
            return free or call.outcome == there, state
        case Do.MAKE:
            return free or call.outcome != there, state if there else call.value
        case Do.TAKE:
            return free or call.outcome == there, ABSENT


def impossible(calls: Sequence[Call], first: State = ABSENT) -> Call | None:
    """The first call, by its end, that no order explains; None if there is an order."""
    events = sorted(
        [(call.begun, False, number) for number, call in enumerate(calls)]
        + [(call.ended, True, number) for number, call in enumerate(calls)]
    )
    under_way: set[int] = set()
    configs: set[Config] = {(first, frozenset())}
    for _, ends, number in events:
        if not ends:
            under_way.add(number)
            continue
        with_it = _happened(calls, configs, under_way, number)
        without = {config for config in configs if number not in config[1]} if calls[number].unknown else set()
        configs = with_it | without
        if not configs:
            return calls[number]
        under_way.discard(number)
    return None


def _happened(calls: Sequence[Call], configs: set[Config], under_way: set[int], number: int) -> set[Config]:
    """All that can be once call *number* has happened, and any others that are under way before it."""
    found: set[Config] = set()
    known, left_over = set(configs), list(configs)
    while left_over:
        state, done = left_over.pop()
        if number in done:
            found.add((state, done - {number}))
            continue
        for other in under_way - done:
            possible, left = step(state, calls[other])
            config = left, done | {other}
            if possible and config not in known:
                known.add(config)
                left_over.append(config)
    return found
