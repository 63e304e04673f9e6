"""Clients of a history: each calls one operation after another on a few names, and notes when and what came of it."""

import http.client
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.doors import Doors
from tests.model.s3 import Got
from tools.rehearsals._linear import ABSENT, UNKNOWN, Call, Do, State, ahead
from tools.rehearsals._s3 import Client, Refused

BUCKET = "history"
LISTED = "listed by the mount"
NAMES = 20
SIZES = (20, 4096, 20_000, 300_000)
_OPERATIONS = (Do.WRITE, 4), (Do.READ, 8), (Do.SEEN, 3), (Do.MAKE, 2), (Do.TAKE, 2)


class Wrong(Exception):
    """What was read is no content of any write, whole."""


def content(value: int) -> bytes:
    """Of write *value*; no other has it."""
    rng = random.Random(value)  # noqa: S311 - repeatable is the point
    word = f"{value} ".encode()
    return word * (rng.choice(SIZES) // len(word))


def value_of(data: bytes) -> int:
    """Raises: Wrong."""
    number = data.partition(b" ")[0]
    if not number.isdigit() or content(int(number)) != data:
        raise Wrong(f"{len(data)} bytes that nobody wrote: {data[:40]!r}")
    return int(number)


class Pace:
    """What clients and whoever kills the store tell one another.

    open   calls may begin
    fast   as many calls may begin as there are: see `hold`
    left   so many calls are still to be begun
    value  numbers of writes, none twice
    kills  so many owners are gone, and whoever was connected to one
    """

    def __init__(self, calls: int) -> None:
        self.open = threading.Event()
        self.open.set()
        self.fast = threading.Event()
        self.fast.set()
        self._held_at = calls
        self.left, self.value, self.kills = calls, 0, 0
        self._turn = threading.Lock()

    def hold(self, begun: int) -> None:
        """From when so many calls have begun no others do, but for those that are about to, until ``fast`` is set."""
        with self._turn:
            self._held_at = begun

    def go_on(self) -> None:
        with self._turn:
            self._held_at = self.left + self.value
            self.fast.set()

    def next(self) -> int | None:
        """The number of the next call, which may be that of a write. None at the end."""
        with self._turn:
            if self.left <= 0:
                return None
            self.left -= 1
            self.value += 1
            if self.value >= self._held_at and self.left:
                self.fast.clear()
            return self.value


class HistoryClient:
    """Runs in a thread of its own until there are no calls left.

    calls  by name
    idle   between calls
    how    the call under way is made
    """

    door = ""

    def __init__(self, pace: Pace, seed: str) -> None:
        self.calls: dict[str, list[Call]] = {f"n{number}": [] for number in range(NAMES)}
        self.idle = True
        self.error: BaseException | None = None
        self.unknown = 0
        self._pace, self._rng = pace, random.Random(seed)  # noqa: S311 - repeatable is the point
        self._kills = 0
        self.how = ""
        self.thread = threading.Thread(target=self._run, name=seed, daemon=True)

    def _run(self) -> None:
        try:
            while True:
                self._pace.fast.wait()
                self._pace.open.wait()
                self.idle = False
                if not self._pace.open.is_set():
                    self.idle = True
                    continue
                if self._kills != self._pace.kills:
                    self._kills = self._pace.kills
                    self.close()
                value = self._pace.next()
                if value is None:
                    return
                self._call(value)
                self.idle = True
        except BaseException as error:
            self.error = error
        finally:
            self.idle = True
            self.close()

    def _call(self, value: int) -> None:
        name = self._rng.choice(list(self.calls))
        do = self._rng.choices([do for do, _ in _OPERATIONS], [weight for _, weight in _OPERATIONS])[0]
        do, self.how = self.means(do), self.door
        begun = time.monotonic_ns()
        try:
            outcome = self.do(do, name, value)
        except (OSError, http.client.HTTPException):
            if self._pace.open.is_set():
                raise
            self.unknown += 1
            outcome = UNKNOWN
        self.calls[name].append(Call(do, begun, time.monotonic_ns(), outcome, value, self.how))

    def means(self, do: Do) -> Do:
        """What it does in place of *do*."""
        return do

    def do(self, do: Do, name: str, value: int) -> State | bool:
        """Its outcome, as ``Do`` says. Raises: Wrong; OSError or HTTPException where nobody answered."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what is open; what comes is opened anew."""


class S3HistoryClient(HistoryClient):
    door = "s3"

    def __init__(self, pace: Pace, seed: str, doors: Doors) -> None:
        super().__init__(pace, seed)
        self._client = Client(doors)
        self.close = self._client.close  # type: ignore[method-assign] # the same

    def means(self, do: Do) -> Do:
        """A DELETE does not say whether there was anything."""
        return Do.DELETE if do is Do.TAKE else do

    def do(self, do: Do, name: str, value: int) -> State | bool:
        match do:
            case Do.WRITE:
                self._client.put(BUCKET, name, content(value))
            case Do.DELETE:
                self._client.delete(BUCKET, name)
            case Do.MAKE:
                return self._made(name, value)
            case Do.SEEN:
                if self._rng.random() < 0.5:
                    return name.encode() in self._client.list(BUCKET, b"n")[0]
                return self._found(self._client.get(BUCKET, name.encode(), "HEAD"))
            case _:
                got = self._client.get(BUCKET, name.encode())
                return value_of(got.data) if self._found(got) else ABSENT
        return True

    def _made(self, name: str, value: int) -> bool:
        try:
            self._client.put(BUCKET, name, content(value), {"if-none-match": "*"})
        except Refused as refused:
            if ": 412" not in str(refused):
                raise
            return False
        return True

    @staticmethod
    def _found(got: Got) -> bool:
        if got.status not in (200, 404):
            raise Refused(f"{got.status} {got.data[:200]!r}")
        return got.status == 200


class MountHistoryClient(HistoryClient):
    """Each of its calls is one moment: what is written appears under the name by rename or link."""

    door = "mount"

    def __init__(self, pace: Pace, seed: str, folder: Path, number: int) -> None:
        super().__init__(pace, seed)
        self._folder, self._own = folder, folder / f"own-{number}"

    def do(self, do: Do, name: str, value: int) -> State | bool:
        path = self._folder / name
        operations: dict[Do, Callable[[Path, int], State | bool]] = {
            Do.WRITE: self._write,
            Do.MAKE: self._make,
            Do.TAKE: self._take,
            Do.SEEN: self._seen,
            Do.READ: self._read,
        }
        return operations[do](path, value)

    def _write(self, path: Path, value: int) -> bool:
        self._prepare(value)
        os.rename(self._own, path)
        return True

    def _make(self, path: Path, value: int) -> bool:
        self._prepare(value)
        try:
            os.link(self._own, path)
        except FileExistsError:
            return False
        finally:
            self._own.unlink()
        return True

    def _prepare(self, value: int) -> None:
        """A file that has no other name: a link whose own name a kill has left would be written through."""
        self._own.unlink(missing_ok=True)
        self._own.write_bytes(content(value))

    def _take(self, path: Path, value: int) -> bool:
        try:
            path.unlink()
        except FileNotFoundError:
            return False
        return True

    def _seen(self, path: Path, value: int) -> bool:
        if self._rng.random() < 0.5:
            self.how = LISTED
            return path.name in os.listdir(path.parent)
        try:
            os.lstat(path)
        except FileNotFoundError:
            return False
        return True

    def _read(self, path: Path, value: int) -> State:
        try:
            return value_of(path.read_bytes())
        except FileNotFoundError:
            return ABSENT


def by_name(clients: Sequence[HistoryClient]) -> dict[str, list[Call]]:
    """All calls on each name, of all clients.

    The mount lists a directory as it is, while the kernel may still have the old name that an unanswered DELETE is
    about to take from it: the kernel lets no name go while the directory is listed, so the listing cannot wait for it.
    POSIX leaves open whether readdir shows what comes or goes meanwhile.
    """
    found = {}
    for number in range(NAMES):
        calls = [call for each in clients for call in each.calls[f"n{number}"]]
        found[f"n{number}"] = [ahead(call, calls) if call.how == LISTED else call for call in calls]
    return found
