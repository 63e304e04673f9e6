"""The service of a cold tier goes away under readers at both doors: what is not there goes on, what is there fails."""

import http.client
import os
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from stratumfs.owner.messages import Status
from tests.doors import Doors
from tests.faults.proxy import VERBS, Proxy, Rule
from tests.faults.wrongs import KINDS
from tests.model.s3 import Reader
from tools.rehearsals._move_load import Load, Wrong
from tools.rehearsals._tree_sample import Entry, digest

AWAY = {"refuses": "reset at once", "stalls": "stalled before the head"}
"""What a service does that is away, and the fault that makes it so."""
DEADLINE_S = 10.0
"""The store's own, of a read of the cold tier."""
OTHERS_S = 5.0
"""For what waits for no cold tier: less than the deadline, or it would not be noticed that it does."""
RATE_MIN = 0.5
"""Of what else is done with the service away, beside what is done before and behind it."""
WINDOWS = 5
"""In which it is looked for that rate: the machine may have had something else to do in some of them."""
WORK = [f"{done} through {door}" for done in ("read", "written") for door in ("the mount", "S3")]
WORK_MIN = 50
"""Of each in a window, however long it takes: a rate of a few is chance."""
WORK_S_MAX = 60.0
"""But no longer: then it is slow."""
BACK_S = 150.0
"""A service that was away is asked again after a minute at most."""
_AGAIN_S = _LOOK_S = 0.1
_READERS = 4
"""At each door, of what is cold."""

Rates = Mapping[str, float]


class Away:
    """*load* uses what lies in the hot and the warm tier, and its own; of *bucket* a part lies in the cold one.

    rates       by what the service did and what was done, for each second
    counts      how reads of the cold tier ended; slowest: seconds that one of a kind took at most
    deadline_s  the store's own, of a read of the cold tier; others_s: for what waits for no cold tier
    """

    def __init__(self, doors: Doors, between: Proxy, load: Load, bucket: str, seed: int) -> None:
        self.counts: Counter[str] = Counter()
        self.slowest: dict[str, float] = {}
        self.rates: dict[str, Rates] = {}
        self.deadline_s, self.others_s = DEADLINE_S, OTHERS_S
        self._doors, self._between, self._load = doors, between, load
        self._bucket, self._seed = bucket, seed
        self._cold: list[Entry] = []
        self._stop = threading.Event()
        self._errors: list[Exception] = []

    def run(self, cold: list[Entry], seconds: float) -> None:
        """*seconds* or more in each state of the service; *cold* are files that lie there.

        Raises: Wrong; what a user met who has nothing to do with the cold tier.
        """
        self._cold = cold
        before = self.rates["there before"] = self._watch("there", seconds)
        for what, fault in AWAY.items():
            for _ in range(WINDOWS):
                away = self.rates[what] = self._watch_away(what, fault, seconds)
                after = self.rates[f"there after it {what}"] = self._watch("there", seconds)
                slower = _slower(away, (before, after))
                before = after
                if not slower:
                    break
            else:
                raise Wrong(f"the service {what}: {slower}")
            if not self.counts[f"{what}: failed in the mount"] or not self.counts[f"{what}: failed in S3"]:
                raise Wrong(f"nobody noticed that the service {what}: {dict(self.counts)}")

    def _watch_away(self, what: str, fault: str, seconds: float) -> Rates:
        self._doors.restart()  # what was read of the cold tier is remembered by the kernel, and by the owner
        self._between.rules = [Rule(KINDS[fault], verb, count=None) for verb in VERBS]
        try:
            rates = self._watch(what, seconds)
        finally:
            self._between.rules = []
        self._wait_back()
        return rates

    def _watch(self, what: str, seconds: float) -> Rates:
        """What is done in one second with readers of the cold tier beside it."""
        before = self._load.counts.copy()
        self._load.slowest.clear()
        with self._load.running(), self._reading(what):
            began = time.monotonic()
            self._wait_worked(before, seconds)
            took = time.monotonic() - began
            done = self._load.counts.copy() - before  # the readers may have to wait before they end
        if self._errors:
            raise self._errors[0]
        self._load.check()
        for name, slowest in self._load.slowest.items():
            self.slowest[f"{what}: {name}"] = max(slowest, self.slowest.get(f"{what}: {name}", 0.0))
            if slowest > self.others_s:
                raise Wrong(f"the service {what}: {name} took {slowest:.1f} s")
        return {name: count / took for name, count in done.items()}

    def _wait_worked(self, before: Counter[str], seconds: float) -> None:
        """Until so many seconds have passed and enough is done, or somebody has failed."""
        began = time.monotonic()
        while not self._stop.wait(_LOOK_S):
            took = time.monotonic() - began
            enough = all(self._load.counts[name] - before[name] >= WORK_MIN for name in WORK)
            if took >= seconds and (enough or took >= WORK_S_MAX):
                return

    @property
    def _failed_s(self) -> float:
        """For a user: the kernel asks twice for what it did not get, and a machine may have much else to do."""
        return 2 * self.deadline_s + self.others_s

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        self._stop.clear()
        self._seed += 1
        threads = [
            threading.Thread(target=self._run, args=(task, what, random.Random(f"{self._seed} {number}")))  # noqa: S311
            for task in (self._read_mount, self._read_s3)
            for number in range(_READERS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _run(self, task: Callable[[str, random.Random], None], what: str, rng: random.Random) -> None:
        try:
            task(what, rng)
        except Exception as error:
            self._errors.append(error)
            self._stop.set()

    def _read_mount(self, what: str, rng: random.Random) -> None:
        while not self._stop.is_set():
            entry = rng.choice(self._cold)
            path = self._doors.mount / self._bucket / entry.path
            with self._timed(f"{what}: stat of what is cold", self.others_s):
                size = path.stat().st_size
            if size != entry.size:
                raise Wrong(f"{path} has {size} bytes")
            with self._timed(f"{what}: read of what is cold in the mount", self._failed_s):
                try:
                    data = path.read_bytes()
                except OSError as error:
                    self._failed(what, "in the mount", os.strerror(error.errno or 0), os.strerror(5))
                    continue
            self._same(what, "in the mount", entry, data)

    def _read_s3(self, what: str, rng: random.Random) -> None:
        reader = Reader(self._doors)
        while not self._stop.is_set():
            entry = rng.choice(self._cold)
            with self._timed(f"{what}: read of what is cold in S3", self._failed_s):
                try:
                    got = reader.get(self._bucket, os.fsencode(entry.path))
                except (http.client.HTTPException, ConnectionError):
                    # Behind the head there is no other way to say it than to cut the body off.
                    reader.close()
                    reader = Reader(self._doors)
                    self._failed(what, "in S3", "cut", "cut")
                    continue
            if got.status == 200:
                self._same(what, "in S3", entry, got.data)
            else:
                code = "SlowDown" if b"<Code>SlowDown</Code>" in got.data else repr(got.data[:200])
                self._failed(what, "in S3", f"{got.status} {code}", "503 SlowDown")
        reader.close()

    def _failed(self, what: str, where: str, found: str, wanted: str) -> None:
        if what == "there" or found != wanted:
            raise Wrong(f"the service {what}: a read {where} says {found}")
        self.counts[f"{what}: failed {where}"] += 1
        self._stop.wait(_AGAIN_S)

    def _same(self, what: str, where: str, entry: Entry, data: bytes) -> None:
        """From a cache it may be read nevertheless."""
        if digest(data) != entry.digest:
            raise Wrong(f"{entry.path} {where}, while the service {what}: {len(data)} other bytes")
        self.counts[f"{what}: read {where}"] += 1

    @contextmanager
    def _timed(self, what: str, most: float) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            took = time.monotonic() - began
            self.slowest[what] = max(took, self.slowest.get(what, 0.0))
        if took > most:
            raise Wrong(f"{what}: {took:.1f} s, and {most:.0f} are promised")

    def _wait_back(self) -> None:
        """Until what is cold is read again, through the mount, and by requests of the service. Raises: Wrong."""
        began = time.monotonic()
        rng = random.Random(self._seed)  # noqa: S311 - repeatable is the point
        while not self._all_read(rng.sample(self._cold, len(self._cold))):
            if time.monotonic() - began > BACK_S:
                raise Wrong(f"the service is back for {BACK_S:.0f} s, and what is there is not read")
            time.sleep(_AGAIN_S)
        back = "back, until it is read again"
        self.slowest[back] = max(time.monotonic() - began, self.slowest.get(back, 0.0))

    def _all_read(self, entries: list[Entry]) -> bool:
        """Or enough of them, which nobody had in a cache."""
        [before] = self._doors.ask(Status())["remote_tiers"]
        for number, entry in enumerate(entries):
            try:
                (self._doors.mount / self._bucket / entry.path).read_bytes()
            except OSError:
                return False
            if number % _READERS == 0:
                [now] = self._doors.ask(Status())["remote_tiers"]
                if now["reads"] - before["reads"] >= _READERS:
                    break
        return True


def _slower(away: Rates, there: Sequence[Rates]) -> str:
    """With the service away as much is done as with it there, or what is not."""
    for name in WORK:
        usual, found = statistics.median(rates.get(name, 0.0) for rates in there), away.get(name, 0.0)
        if found < RATE_MIN * usual:
            return f"{name} {found:.1f} times a second, and otherwise {usual:.1f}"
    return ""
