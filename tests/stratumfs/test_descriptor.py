"""Files are let go of without waiting for their disk."""

import os
import threading
from pathlib import Path
from queue import SimpleQueue

import pytest
import trio

from stratumfs.descriptor import Descriptor, close_soon


class Hanging:
    """A file of a disk that does not answer: close(2) waits for it too."""

    def __init__(self, release: threading.Event, closed: threading.Semaphore) -> None:
        self._release, self._closed = release, closed

    def close(self) -> None:
        assert self._release.wait(60)
        self._closed.release()


def test_a_close_that_hangs_is_waited_for_by_nobody() -> None:
    release, closed = threading.Event(), threading.Semaphore(0)
    close_soon([Hanging(release, closed), Hanging(release, closed)])
    release.set()
    for _ in range(2):
        assert closed.acquire(timeout=60)


async def test_the_loop_closes_nothing_as_the_last_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close, closed = os.close, SimpleQueue[threading.Thread]()
    monkeypatch.setattr(os, "close", lambda number: (close(number), closed.put(threading.current_thread())))
    file = Descriptor(os.open(tmp_path, os.O_RDONLY))
    del file
    assert await trio.to_thread.run_sync(closed.get) is not threading.main_thread()
    monkeypatch.undo()


def test_elsewhere_the_last_user_closes(tmp_path: Path) -> None:
    file = Descriptor(os.open(tmp_path, os.O_RDONLY))
    number = file.number
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)
