"""The order in which epochs are begun, explored as a model: boots, crashes between any two steps, strikes, joins.

Decisions are the code's (`epochs`); what the code does between them is done here in its order, on lists in memory. All
is on disk at once: torn files are the business of other tests. Checked at each opening for writing: every answered
write is in the chain that was chosen. A refusal although a member of the epoch in force is there is an error too.
"""

import random
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import combinations

import pytest

from stratumfs.catalog.epochs import (
    Candidate,
    Choice,
    Epoch,
    FoundChain,
    Named,
    choose,
    choose_members,
    first_epoch,
    may_begin,
    newest_in_force,
    next_epoch,
    other_history,
)
from stratumfs.ids import PlaceId
from stratumfs.limits import EPOCH_LINE_MAX


class Lost(AssertionError):
    pass


@dataclass
class World:
    """What lies at each place: identity file, manifest's epoch, chain; and what was answered."""

    m: int
    named: dict[PlaceId, Named]
    manifests: dict[PlaceId, Epoch]
    chains: dict[PlaceId, tuple[int, ...]]
    answered: tuple[int, ...] = ()
    writes: int = 0
    unsure: frozenset[PlaceId] = frozenset()
    """Places that may have no chain of the epoch that names them: they came back as they were before, or are seeded
    again behind an epoch that could not be begun."""

    @classmethod
    def new(cls, count: int, m: int) -> "World":
        """Opened once with all places there: before that it has one member, and nothing to lose."""
        world = cls.made(count, m)
        return crashes(world, Boot(tuple(world.places)))[-1]

    @classmethod
    def made(cls, count: int, m: int) -> "World":
        places = [PlaceId(bytes([number]) * 16) for number in range(count)]
        epoch = first_epoch(places[:1], places)
        return cls(m, dict.fromkeys(places, Named(epoch, epoch)), {places[0]: epoch}, {places[0]: ()})

    @property
    def places(self) -> list[PlaceId]:
        return sorted(self.named)

    def snapshot(self) -> "World":
        other = copy(self)
        other.named, other.manifests, other.chains = dict(self.named), dict(self.manifests), dict(self.chains)
        return other

    def choose(self, there: tuple[PlaceId, ...]) -> Choice | str:
        chains = {
            place: FoundChain(self.manifests[place], len(self.chains[place]))
            for place in there
            if place in self.manifests
        }
        return choose({place: self.named[place] for place in there}, chains, {})


@dataclass(frozen=True)
class Boot:
    """Who is there, and what happens once the first round was answered: nothing, or *victim* is struck.

    refused  the beginning of the epoch of a join fails behind so many steps, and the owner goes on if it may
    full     the victim is not lost: its disk has no room, for a round or for what it is to be told
    """

    there: tuple[PlaceId, ...]
    victim: PlaceId | None = None
    refused: int | None = None
    full: bool = False


def boots(world: World) -> list[Boot]:
    """All of them: any majority, any victim of it."""
    found = []
    for size in range(len(world.places) // 2 + 1, len(world.places) + 1):
        for there in combinations(world.places, size):
            found += [Boot(there), *(Boot(there, victim) for victim in there)]
    return found


def run(world: World, boot: Boot) -> Iterator[str]:
    """One opening and what follows, step by step; a crash may come behind each."""
    choice = world.choose(boot.there)
    if isinstance(choice, str) or choice.why_not:
        why = choice if isinstance(choice, str) else choice.why_not
        newest = newest_in_force(world.named[place] for place in boot.there)
        if (newest.members & {*boot.there}) - world.unsure or "reachable" not in why:
            raise Lost(f"refused for nothing: {choice}")
        return
    whole = world.chains[choice.holder]
    if missing := set(world.answered) - set(whole):
        raise Lost(f"{sorted(missing)} of {world.answered} are gone: opened {whole} from {choice.holder[0]}")
    up = list(boot.there)
    primary = up[0]
    members = choose_members(*_candidates(up, primary, world, choice), world.m + 2)
    state = _Open(world, up, choice.parent, list(members))
    yield from state.begin(list(members), whole)
    yield from state.round(primary)
    if boot.victim is not None and len(up) - 1 > len(world.places) // 2:
        up.remove(boot.victim)
        state.full = [boot.victim] if boot.full else []
        yield from state.strike(boot.victim)
        yield from state.round(state.members[0])
    if boot.refused is not None:
        yield from state.join_refused(boot.refused)
        yield from state.round(state.members[0])
    yield from state.join()
    yield from state.round(state.members[-1])
    yield from state.change_disks()
    yield from state.round(state.members[-1])


def _candidates(
    up: list[PlaceId], primary: PlaceId, world: World, choice: Choice
) -> tuple[list[Candidate], list[Candidate]]:
    fitting = {place for place in up if place in world.manifests and choice.parent.id in world.manifests[place].line}
    return [Candidate(primary, primary)], [Candidate(each, each, each in fitting) for each in up]


@dataclass
class _Open:
    """An owner that lives. full: places that are there, and are told nothing."""

    world: World
    up: list[PlaceId]
    epoch: Epoch
    members: list[PlaceId]
    full: list[PlaceId] = field(default_factory=list)

    def begin(self, members: list[PlaceId], whole: tuple[int, ...]) -> Iterator[str]:
        world = self.world
        epoch = next_epoch(self.epoch, [world.named[place] for place in self.up], members, world.places)
        for place in self.up:
            world.named[place] = replace(world.named[place], begun=epoch)
            yield f"begun at {place[0]}"
        for place in members:
            world.manifests.pop(place, None) if world.chains.get(place) != whole else None
            world.chains[place] = whole
            world.manifests[place] = epoch
            yield f"manifest at {place[0]}"
        for place in sorted(self.up, key=lambda place: place not in members):
            world.named[place] = Named(epoch, epoch, world.named[place].sequence)
            yield f"in force at {place[0]}"
        assert may_begin(self.epoch, frozenset(world.places), self.up)
        self.epoch, self.members = epoch, members
        yield from self.drop()

    def drop(self) -> Iterator[str]:
        """Room is short: chains that count no more go, wherever they are, each behind its manifest."""
        world = self.world
        for place in (*self.up, *self.full):
            if place in world.manifests and self.epoch.id not in world.manifests[place].line:
                del world.manifests[place]
                yield f"no manifest at {place[0]}"
                del world.chains[place]
                yield f"no chain at {place[0]}"

    def round(self, first: PlaceId) -> Iterator[str]:
        world = self.world
        world.writes += 1
        mine = world.writes
        base = world.chains[self.members[0]]
        for place in sorted(self.members, key=lambda place: place != first):
            world.chains[place] = (*base, mine)
            yield f"{mine} at {place[0]}"
        world.answered += (mine,)
        for place in self.up:
            world.named[place] = replace(world.named[place], sequence=len(world.chains[self.members[0]]))
        yield f"answered {mine}"

    def strike(self, victim: PlaceId) -> Iterator[str]:
        if victim not in self.members:
            return
        left = [place for place in self.members if place != victim]
        whole = self.world.chains[left[0]]
        if len(left) < self.world.m + 1:
            left += [place for place in self.up if place not in left][: self.world.m + 1 - len(left)]
        yield from self.begin(left, whole)

    def join(self) -> Iterator[str]:
        if len(self.members) < self.world.m + 2:
            yield from self._let_join()

    def join_refused(self, steps: int) -> Iterator[str]:
        """Where a manifest may be written, whoever it names must hold what is answered from then on; else it goes."""
        spare = [place for place in self.up if place not in self.members]
        if not spare:
            return
        epoch, before = self.epoch, self.members
        self.world.unsure = frozenset(self.world.places)
        for step, what in enumerate(self._let_join()):
            yield what
            told = [place for place in self.up if self.world.named[place].in_force.number > epoch.number]
            if step >= steps or may_begin(epoch, frozenset(self.world.places), [*told, self.up[-1]]):
                break
        begun = any(each.number > epoch.number for each in self.world.manifests.values())
        self.epoch, self.members = epoch, [*before, spare[-1]] if begun else before

    def change_disks(self) -> Iterator[str]:
        """A copy shares its disk, or that is short of room, and another one is there: one joins there, then that one
        leaves."""
        if len(self.members) == self.world.m + 2:
            yield from self._let_join()
        if len(self.members) > self.world.m + 2:
            primary, _, *others = self.members
            yield from self.begin([primary, *others], self.world.chains[primary])

    def _let_join(self) -> Iterator[str]:
        spare = [place for place in self.up if place not in self.members]
        if spare:
            new, world = spare[-1], self.world
            world.manifests.pop(new, None)
            world.chains[new] = world.chains[self.members[0]]
            yield f"seeded {new[0]}"
            yield from self.round(self.members[0])
            yield from self.begin([*self.members, new], world.chains[self.members[0]])


def crashes(world: World, boot: Boot) -> list[World]:
    """The world behind each step; as it was, if it was not opened for writing."""
    running = world.snapshot()
    return [running.snapshot() for _ in run(running, boot)] or [world]


@pytest.mark.parametrize(("count", "m"), [(4, 1), (5, 1), (7, 2)])
def test_no_walk_through_boots_and_crashes_loses_what_was_answered(count: int, m: int) -> None:
    rng = random.Random(count)
    for _ in range(150):
        world = World.new(count, m)
        for _ in range(5):
            boot = rng.choice(boots(world))
            if rng.random() < 0.4:
                boot = replace(boot, refused=rng.randrange(25))
            boot = replace(boot, full=rng.random() < 0.5)
            left = crashes(world, boot)
            world = left[-1] if rng.random() < 0.3 else rng.choice(left)


def test_no_two_boots_of_four_places_lose_what_was_answered() -> None:
    """All of them: any two boots, a crash behind any step of the first; the third opening finds everything."""
    world = World.new(4, 1)
    for first in boots(world):
        for middle in crashes(world, first):
            for second in boots(world)[::3]:
                for end in crashes(middle, second)[::4]:
                    for there in combinations(end.places, 3):
                        choice = end.choose(there)
                        assert isinstance(choice, Choice)
                        assert not choice.why_not, choice
                        assert set(end.answered) <= set(end.chains[choice.holder])


def test_an_epoch_that_could_not_be_begun_and_was_not_the_end_loses_nothing_that_was_answered_behind_it() -> None:
    """Any step at which the beginning fails, any crash from there on, any majority that opens what is left."""
    world = World.new(5, 1)
    everybody = tuple(world.places)
    for victim in everybody:
        for refused in range(20):
            for end in crashes(world, Boot(everybody, victim, refused))[30::2]:
                for there in combinations(everybody, 3):
                    next(run(end.snapshot(), Boot(there)), None)  # as far as the look at what was found


def test_a_chain_goes_only_when_no_majority_opens_it_any_more() -> None:
    """A full member is struck and its chain dropped; any crash, any majority; it opens, any crash, any majority."""
    rng, world = random.Random(3), World.new(7, 2)
    everybody = tuple(world.places)
    for middle in crashes(world, Boot(everybody, everybody[2], full=True)):
        for there in combinations(everybody, 4):
            next(run(middle.snapshot(), Boot(there)), None)  # as far as the look at what was found
        for first in rng.sample([*combinations(everybody, 4)], 2):
            for end in crashes(middle, Boot(first))[:4]:
                for there in combinations(everybody, 4):
                    next(run(end.snapshot(), Boot(there)), None)


def test_a_store_folder_that_comes_back_older_undoes_nothing() -> None:
    rng = random.Random(9)
    for _ in range(150):
        world = World.new(7, 2)
        older: list[World] = []
        for _ in range(5):
            if older and rng.random() < 0.4:
                past, store = rng.choice(older), world.places[0]
                world.unsure = frozenset([store])
                world.named[store] = past.named[store]
                for now, then in ((world.manifests, past.manifests), (world.chains, past.chains)):
                    now.pop(store, None)
                    if store in then:
                        now[store] = then[store]  # type: ignore[index,assignment]
            left = crashes(world, rng.choice([each for each in boots(world) if len(each.there) > 4]))
            older.append(world.snapshot())
            world = left[-1] if rng.random() < 0.3 else rng.choice(left)


def test_two_histories_are_named_and_neither_is_written() -> None:
    world = World.new(4, 1)
    everybody = tuple(world.places)
    one, other = crashes(world, Boot(everybody))[-1], crashes(world, Boot(everybody))[-1]
    mixed = one.snapshot()
    for place in everybody[:2]:
        mixed.named[place], mixed.manifests[place], mixed.chains[place] = (
            other.named[place],
            other.manifests.get(place, other.manifests[everybody[0]]),
            other.chains.get(place, ()),
        )
    choice = mixed.choose(everybody)
    assert isinstance(choice, Choice)
    assert "two histories" in choice.why_not


def test_a_catalog_that_lacks_what_a_file_knows_is_not_written() -> None:
    world = crashes(World.new(4, 1), Boot(tuple(World.new(4, 1).places)))[-1]
    for place in world.chains:
        world.chains[place] = ()
    choice = world.choose(tuple(world.places))
    assert isinstance(choice, Choice)
    assert "knows of transaction" in choice.why_not


class _Counted(str):
    """Counts how often it is compared."""

    compared = 0
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        _Counted.compared += 1
        return str.__eq__(self, other)


def test_an_epoch_with_a_long_line_costs_no_more_than_the_line_is_long() -> None:
    """It is made under the rounds' turn, on the loop."""
    places = [PlaceId(bytes([number]) * 16) for number in range(7)]
    line = tuple(_Counted(number) for number in range(EPOCH_LINE_MAX))
    parent = Epoch(EPOCH_LINE_MAX, line[-1], frozenset(places[:4]), frozenset(places), line)
    epoch = next_epoch(parent, [Named(parent, parent)] * len(places), places[:4], places)
    assert epoch.line == (*line[1:], epoch.id)
    assert _Counted.compared < 100 * EPOCH_LINE_MAX


def test_a_place_that_was_away_for_longer_than_lines_are_is_not_called_another_history() -> None:
    places = [PlaceId(bytes([number]) * 16) for number in range(4)]
    first = first_epoch(places[:1], places)
    line = tuple(map(str, range(EPOCH_LINE_MAX)))
    parent = Epoch(2 * EPOCH_LINE_MAX, line[-1], frozenset(places), frozenset(places), line)
    assert "was away" in other_history(parent, Named(first, first), 0, "p3")
    clone = replace(first, number=parent.number)
    assert "two histories" in other_history(parent, Named(clone, clone), 0, "p3")
