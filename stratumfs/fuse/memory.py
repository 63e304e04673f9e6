"""How much memory the pending writes of a mount take."""


class Memory:
    """A counter with a bound, in bytes; what happens at the bound is up to whoever asks ``full``. Used on the loop."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0

    @property
    def full(self) -> bool:
        return self.used > self.limit

    def take(self, count: int) -> None:
        """*count* may be negative: a write that replaced more than it added."""
        self.used += count

    def give_back(self, count: int) -> None:
        self.used -= count
        assert self.used >= 0, "more memory was given back than taken"
