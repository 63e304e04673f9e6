"""How much may be on its way from somebody's S3 at once, by how fast it has come. Pure: it is told the time."""

from stratumfs.cold_limits import FLOW_FIRST, FLOW_MIN


class Flow:
    """What comes within *seconds*. Else all that is asked for together shares a slow link, comes together at its end,
    and behind the deadline of each who waits for a part of it.

    While a request is on its way so many bytes come as were asked for before its end, so its time tells the rate, be
    they served side by side or one after the other. Source: Little, "A Proof for the Queuing Formula L = λW", 1961.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._rate = FLOW_FIRST / seconds  # bytes a second
        self._on_way = 0

    @property
    def most(self) -> int:
        return max(FLOW_MIN, int(self._rate * self._seconds))

    def takes(self, count: int) -> bool:
        """Whether so many bytes more may be asked for: one request may be, if there is no other."""
        return not self._on_way or self._on_way + count <= self.most

    def begin(self, count: int) -> int:
        """They are asked for. Returns what their end is told with."""
        self._on_way += count
        return self._on_way

    def end(self, count: int, before: int, took_s: float, *, came: bool) -> None:
        """*before*: what `begin` said. took_s: from the asking to the end."""
        self._on_way -= count
        rate = before / max(took_s, 1e-3) if came else 0.0
        self._rate = (self._rate + rate) / 2
