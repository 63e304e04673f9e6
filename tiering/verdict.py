"""One decision, with all that it was made from: small values, so that it can be kept, shown and checked again."""

from dataclasses import dataclass
from enum import StrEnum

from tiering.signals import Use


class Cause(StrEnum):
    """Who moved it."""

    PLACED = "placed"
    """It is new."""
    POLICY = "policy"
    PRESSURE = "pressure"
    """Its tier was above its capacity, or no room was left for what had to be there."""
    PIN = "pin"
    RESTORED = "restored"
    """It was restored until a date, and goes back."""
    GATHERED = "gathered"
    """What was written of it since lies elsewhere, and follows it."""


@dataclass(frozen=True, slots=True)
class Case:
    """What was compared: dollars a second by the expected reads, waiting counted, and the fees of the moves once.

    gain_usd_s       that the object saves where it goes
    displaced_usd_s  that those which make room for it saved together, in the room that it takes: the rest is left
    margin           factor by which it must be worth more than they: without new facts it then does not go back
    fees_usd         of all these moves
    payback_s        in which the gain must have paid them
    """

    gain_usd_s: float
    displaced_usd_s: float = 0.0
    margin: float = 1.0
    fees_usd: float = 0.0
    payback_s: float = 0.0

    def pays(self) -> bool:
        net = self.gain_usd_s - self.margin * self.displaced_usd_s
        return net > 0 and net * self.payback_s >= self.fees_usd


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was known of the object, and what was made of it.

    group      class of the life table
    alike      objects of that class that were idle for as long, and of them those that were read in that span of time
    factor     by which hint and time of day scale what the table says
    reads_day  expected, over the horizon of the tier in question
    worth      dollars a byte and second of the faster of the two tiers for this object, the room in the slower counted
    marginal   the same of the last object that is displaced, or 0 where there is room
    """

    use: Use
    group: int
    alike: tuple[float, float]
    factor: float
    reads_day: float
    horizon_s: float
    worth: float
    marginal: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """*key* goes from tier *source* (None: it is new) to *target*.

    case     the comparison that decided, of the object itself or of the one that displaces it; None where there was
             none: by pressure, by a pin, and of what is new and goes to the slowest tier because no other takes it
    for_key  the one that it makes room for
    """

    key: int
    source: int | None
    target: int
    now: float
    cause: Cause
    inputs: Inputs
    case: Case | None
    for_key: int | None = None

    @property
    def up(self) -> bool:
        return self.source is not None and self.target < self.source

    def holds(self) -> bool:
        """Whether its inputs alone lead to it."""
        return self.case.pays() if self.case is not None else self.cause is not Cause.POLICY

    def reason(self) -> str:
        """One line, of the numbers in it alone."""
        expected = f"{self.inputs.reads_day:.3g} reads a day expected"
        match self.cause:
            case Cause.PIN:
                return "pinned"
            case Cause.PRESSURE:
                return f"no room, and worth least: {expected}"
            case Cause.RESTORED:
                return "was restored until a date that has passed"
            case Cause.GATHERED:
                return "what was written of it since follows it"
            case Cause.PLACED:
                return f"new: {expected}"
            case Cause.POLICY if self.for_key is not None:
                return f"makes room for {self.for_key}: {expected}"
            case _:
                return expected
