"""Brings the policy up to what the catalog says: what is new, what has grown, what went, what lies elsewhere.

The policy books a move when it is decided, the catalog when it is done. What of an object waits in the plan is
therefore believed until it has ended; all else that differs was done by somebody else, and the catalog is right.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from stratumfs.catalog.residence import Residence
from stratumfs.ids import InodeNo
from tiering.kinds import kind_of
from tiering.plan import Plan
from tiering.policy import Policy
from tiering.signals import HINTS, Hint
from tiering.verdict import Verdict
from tiering.wishes import wish_of


class Facts:
    """Of one engine.

    pins     of directories, as their owners wrote them
    over     objects that were restored until a date that has passed, and lie where they are to lie then, until somebody
             takes them
    dropped  objects whose waiting moves came to nothing, until somebody takes them
    strays   objects that were written since they came into a slower tier: of each the fastest tier that what was
             written lies in, and its bytes in all faster ones
    """

    def __init__(
        self, policy: Policy, plan: Plan, tiers: Sequence[str], appeared: Callable[[InodeNo], None] = lambda _: None
    ) -> None:
        """*appeared* is told of each new object."""
        self._told = appeared
        self.pins: dict[InodeNo, bytes] = {}
        self.dropped: list[int] = []
        self.over: set[InodeNo] = set()
        self.strays: dict[int, tuple[int, int]] = {}
        self._policy, self._plan, self._tiers = policy, plan, tiers

    def gone(self, key: int) -> None:
        """It has no name any more, or no bytes in any tier."""
        self._drop(key)
        self._policy.removed(key)
        self.strays.pop(key, None)
        self.pins.pop(InodeNo(key), None)

    def replaced(self, old: int, new: int) -> None:
        """A name means another inode: how often it was read says how often that will be."""
        if not any(self._plan.is_under_way(key) for key in (old, new)):
            self._drop(old)
            self._drop(new)
            self._policy.renamed(old, new)

    def heed_directory(self, found: Residence) -> bool:
        """Whether what lies below it has another pin now."""
        before = self.pins.get(found.ino)
        if found.own_pin is None:
            self.pins.pop(found.ino, None)
        else:
            self.pins[found.ino] = found.own_pin
        return before != found.own_pin

    def heed(self, found: Residence, pin: bytes | None, now: float, *, written: bool, new: bool) -> list[Verdict]:
        """A file. *pin*: the nearest one; *new*: what the policy does not know was made just now, else long ago.

        Returns moves that this makes worth it; their sources are where objects lie.
        """
        tier = None if found.tier is None else self._number(found.tier)
        if tier is None:
            self.gone(found.ino)
            return []
        self._note_strays(found, tier)
        wish, over = wish_of(found, pin, self._tiers), _over(found, now)
        if self._policy.where(found.ino) is None:
            room = self._appeared(found, tier, wish, now, new=new)
            return room + (self._back(found, tier, wish, now) if over else [])
        policy = self._policy
        if written:
            policy.wrote(found.ino, found.size, now)
        else:
            policy.resized(found.ino, found.size)
        self._correct(found.ino, tier, now)
        return self._wished(found.ino, wish, now) + (self._back(found, tier, wish, now) if over else [])

    def _appeared(self, found: Residence, tier: int, wish: int, now: float, *, new: bool) -> list[Verdict]:
        policy, kind = self._policy, kind_of(found.name, found.content_type)
        if not new:
            policy.landed(found.ino, found.size, tier, now, kind=kind, hint=wish)
            return policy.pin(found.ino, wish - Hint.PIN_FIRST, now) if wish >= Hint.PIN_FIRST else []
        self._told(found.ino)
        if tier:  # by a hint or a pin: nobody had to make room for it elsewhere
            policy.landed(found.ino, found.size, tier, now, kind=kind, hint=wish)
            return policy.pin(found.ino, wish - Hint.PIN_FIRST, now) if wish >= Hint.PIN_FIRST else []
        fits = policy.used[tier] + found.size <= policy.prices.tiers[tier].capacity_bytes
        *room, own = policy.place(found.ino, found.size, now, kind=kind, hint=wish)
        if own.target == tier:
            return room
        if fits and wish < Hint.PIN_FIRST:
            # It is written already, and hurts nobody: whether it is worth its place is asked when somebody needs it.
            policy.moved(found.ino, tier, now)
            return room
        return [*room, replace(own, source=tier)]

    def _correct(self, key: int, tier: int, now: float) -> None:
        if self._plan.is_under_way(key):
            return  # it is looked at again when it has ended
        waits = self._plan.waits(key)
        if waits is None or tier not in (waits.source, waits.target):
            self._drop(key)
            self._policy.moved(key, tier, now)

    def _wished(self, key: int, wish: int, now: float) -> list[Verdict]:
        policy = self._policy
        slot = policy.signals.slot(key)
        assert slot is not None
        if wish >= Hint.PIN_FIRST:
            return policy.pin(key, wish - Hint.PIN_FIRST, now)
        before = policy.signals.wish[slot] % HINTS
        if before == wish:
            return []
        policy.hint(key, wish)
        # What has just gone back comes up by its next read, and not by its date being over.
        return policy.consider(key, now) if before != Hint.KEPT else []

    def _back(self, found: Residence, tier: int, wish: int, now: float) -> list[Verdict]:
        """Its date has passed: it goes back to where it was brought from, and has no date any more once it is there."""
        assert found.restored is not None
        back = None if found.restored.back is None else self._number(found.restored.back)
        if back is None or tier >= back or wish != Hint.KEPT:
            self.over.add(found.ino)
            return []
        if self._plan.is_under_way(found.ino) or self._plan.waits(found.ino) is not None:
            return []
        return self._policy.back(found.ino, back, now)

    def _note_strays(self, found: Residence, tier: int) -> None:
        faster = [number for number, name in enumerate(self._tiers[:tier]) if name in found.tiers]
        looked = sum(found.tiers.values())
        if faster and looked:
            count = sum(found.tiers[self._tiers[number]] for number in faster)
            self.strays[found.ino] = faster[0], found.size * count // looked
        else:
            self.strays.pop(found.ino, None)

    def _drop(self, key: int) -> None:
        if self._plan.waits(key) is not None:
            self._plan.drop(key)
            self.dropped.append(key)

    def _number(self, tier: str) -> int | None:
        """None of a tier that the policy does not know: settings have lost it."""
        return self._tiers.index(tier) if tier in self._tiers else None


def _over(found: Residence, now: float) -> bool:
    return found.restored is not None and found.restored.until_ns <= now * 1e9
