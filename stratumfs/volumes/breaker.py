"""When it is no use to ask. Pure: it is told the time, in seconds of a clock that does not jump."""

from stratumfs.limits import REMOTE_FAILURES, REMOTE_REST_S, REMOTE_REST_S_MAX


class Breaker:
    """Of a service that failed several times in a row: calls are refused at once until one that is tried is answered.

    Else each reader waits for as long as a call may take; and the kernel, which asks again for each page that it did
    not get, for one reader of a file after the other, kept 200 of them for twelve minutes.
    Source: Nygard, "Release It!", 2007, Circuit Breaker.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._rest_s = REMOTE_REST_S
        self._until = 0.0
        self._trying = False

    def refuses_s(self, now: float) -> float:
        """For how long yet; 0 if a call may be made. Until the one that is tried has ended, that is not known."""
        if self._failures < REMOTE_FAILURES:
            return 0.0
        return max(self._until - now, self._rest_s if self._trying else 0.0)

    def begin(self) -> bool:
        """A call that is not refused. Returns whether it is the one that is tried: what its end is told with."""
        tried = self._failures >= REMOTE_FAILURES
        self._trying |= tried
        return tried

    def answered(self) -> None:
        self._failures, self._rest_s, self._trying = 0, REMOTE_REST_S, False

    def failed(self, now: float, tried: bool) -> None:
        """Calls that were made together fail together: only one that was tried makes the rest longer."""
        self._failures += 1
        if tried:
            self._trying = False
            self._rest_s = min(REMOTE_REST_S_MAX, 2 * self._rest_s)
        if tried or self._failures == REMOTE_FAILURES:
            self._until = now + self._rest_s

    def left(self, tried: bool) -> None:
        """Nobody waits for the call any more."""
        if tried:
            self._trying = False
