"""What may be recalled from somebody's S3 in a day, in bytes and in money.

A bucket that fills all day long, and holds a day's worth: whoever reads must find something in it, and takes what he
has read, so that it may come to lack what one read was more. Source: Turner, "New directions in communications", 1986
(leaky bucket).
"""

import threading
import time
from collections.abc import Callable

from stratumfs.errors import StoreBusy

DAY_S = 86_400.0


class Budget:
    """Used by any thread. day: what may be spent in one, None: any amount; clock: seconds that do not go back."""

    def __init__(self, day: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.day = day
        self.spent = 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._left, self._at = day or 0.0, clock()

    def spend(self, count: float) -> None:
        with self._lock:
            self._fill()
            self._left -= count
            self.spent += count

    def closed_s(self) -> float:
        """How long nothing may be spent; 0: something may be now."""
        if self.day is None:
            return 0.0
        with self._lock:
            self._fill()
            if self._left > 0:
                return 0.0
            return -self._left / self.day * DAY_S + 1.0 if self.day else DAY_S

    @property
    def left(self) -> float:
        with self._lock:
            self._fill()
            return self._left

    def resume(self, left: float, since_s: float) -> None:
        """So much was left, so long ago."""
        if self.day is not None:
            with self._lock:
                self._left = min(self.day, left + max(0.0, since_s) / DAY_S * self.day)

    def _fill(self) -> None:
        now = self._clock()
        if self.day is not None:
            self._left = min(self.day, self._left + (now - self._at) / DAY_S * self.day)
        self._at = now


class RecallBudget:
    """Of a remote tier. usd_get, usd_byte: what one request costs, and one byte. waits: whoever meets its end waits for
    a while, else he is refused at once."""

    def __init__(
        self,
        bytes_day: float | None = None,
        usd_day: float | None = None,
        *,
        usd_get: float = 0.0,
        usd_byte: float = 0.0,
        waits: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bytes, self.usd = Budget(bytes_day, clock), Budget(usd_day, clock)
        self.waits = waits
        self._usd_get, self._usd_byte = usd_get, usd_byte
        self._lock = threading.Lock()

    def spend(self, count: int) -> None:
        """One request for so many bytes."""
        self.bytes.spend(count)
        self.usd.spend(self._usd_get + self._usd_byte * count)

    def take(self, count: int) -> float:
        """The same, if something may be read now: 0; else how long not. Of many who ask at once one goes beyond it."""
        with self._lock:
            closed_s = self.closed_s()
            if not closed_s:
                self.spend(count)
            return closed_s

    def closed_s(self) -> float:
        """How long nothing may be read; 0: something may be now."""
        return max(self.bytes.closed_s(), self.usd.closed_s())

    def left(self) -> tuple[int, int] | None:
        """Bytes and millionths of a dollar that are left; None: nothing bounds what may be read."""
        if self.bytes.day is None and self.usd.day is None:
            return None
        return int(self.bytes.left), int(self.usd.left * 1e6)

    def resume(self, left: tuple[int, int], since_s: float) -> None:
        """What `left` was so long ago."""
        self.bytes.resume(left[0], since_s)
        self.usd.resume(left[1] / 1e6, since_s)


def used_up(label: str, closed_s: float) -> StoreBusy:
    """What whoever may not read is told."""
    return StoreBusy(
        f"{label}: what may be recalled in a day is used up: something may be again in {closed_s:.0f} s "
        "(cold.recall_bytes_day and cold.recall_usd_day)"
    )
