"""Files are let go of without waiting for their disk."""

import threading

from stratumfs.descriptor import close_soon


class Hanging:
    """A file of a disk that does not answer: close(2) waits for it too."""

    def __init__(self, release: threading.Event, closed: threading.Semaphore) -> None:
        self._release, self._closed = release, closed

    def close(self) -> None:
        assert self._release.wait(10)
        self._closed.release()


def test_a_close_that_hangs_is_waited_for_by_nobody() -> None:
    release, closed = threading.Event(), threading.Semaphore(0)
    close_soon([Hanging(release, closed), Hanging(release, closed)])
    release.set()
    for _ in range(2):
        assert closed.acquire(timeout=10)
