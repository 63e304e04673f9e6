"""The mount option ``close=published``: a kill may take what was closed in the last seconds, and tears nothing."""

import os
import random
import threading
import time
from pathlib import Path

import pytest

from tests.doors import TEST_S, Doors

pytestmark = [pytest.mark.slow, pytest.mark.mount]
SEED = 5
ROUNDS = 6
FILES = 40
SIZES = (0, 100, 5_000, 100_000, 3_000_000)


class Writer(threading.Thread):
    """Makes, replaces and rewrites files of its folder until the mount dies.

    states  what each may hold after a crash: None where it may be missing
    """

    def __init__(self, folder: Path, seed: str, states: dict[str, list[bytes | None]]) -> None:
        super().__init__(daemon=True)
        self.folder, self.states, self.done = folder, states, 0
        self.random = random.Random(seed)

    def run(self) -> None:
        try:
            while True:
                name = f"f{self.random.randrange(FILES)}"
                data = self.random.randbytes(self.random.choice(SIZES))
                durable = self.random.random() < 0.1
                step = self._replace if self.random.random() < 0.5 else self._write
                step(name, data, durable)
                self.done += 1
        except OSError:
            pass  # the mount is gone

    def _write(self, name: str, data: bytes, durable: bool) -> None:
        """From the beginning: until it is published, the old bytes are there; a new file is empty until then."""
        self.states[name] += [data] if (self.folder / name).exists() else [b"", data]
        with (self.folder / name).open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
                self.states[name][:] = [data]

    def _replace(self, name: str, data: bytes, durable: bool) -> None:
        """By a rename: never anything else than the old bytes or the new ones."""
        beside = self.folder / f"{name}.new"
        with beside.open("wb") as file:
            file.write(data)
        self.states[name].append(data)
        beside.rename(self.folder / name)
        if durable:
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
            self.states[name][:] = [data]


def compare(folder: Path, states: dict[str, list[bytes | None]]) -> None:
    for name, allowed in states.items():
        path = folder / name
        found = path.read_bytes() if path.exists() else None
        size = None if found is None else len(found)
        assert found in allowed, f"{name}: {size} bytes, allowed {[None if a is None else len(a) for a in allowed]}"
        allowed[:] = [found]


def test_a_kill_tears_nothing(tmp_path: Path) -> None:
    doors = Doors(tmp_path)
    rng = random.Random(SEED)
    states: dict[str, list[bytes | None]] = {f"f{number}": [None] for number in range(FILES)}
    folder = doors.mount / "bucket"
    try:
        with doors.within(TEST_S):
            doors.make()
            for number in range(ROUNDS):
                doors.start("close=published")
                folder.mkdir(exist_ok=True)
                compare(folder, states)
                writer = Writer(folder, f"{SEED} {number}", states)
                writer.start()
                until = time.monotonic() + 0.3 + rng.random()
                while time.monotonic() < until or writer.done < 10:
                    time.sleep(0.01)
                    assert writer.is_alive(), "a call failed before the kill"
                doors.kill()
                writer.join(60)
                assert not writer.is_alive()
                doors.destroy()
            doors.start()
            compare(folder, states)
            doors.stop()
        assert doors.audit() == []
        assert doors.complaints() == []
    finally:
        doors.destroy()
