"""Each kind of fault at each request of each verb of `S3Remote`: what comes out is right, or a clear error, in time."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

import pytest

from stratumfs.errors import DeviceFailed, DeviceFull, ShardMissing
from stratumfs.shards.remote import Patience, S3Remote
from tests.faults.proxy import Proxy, Rule, ask, proxy, signed
from tests.faults.wrongs import KINDS
from tests.remotes import remote_at
from tools.measure.endpoint import Endpoint

pytestmark = [pytest.mark.slow, pytest.mark.client]

DATA = bytes(range(256)) * 40
OLD = b"what was there before" * 30
OFFSET, LENGTH = 77, 3000

REQUESTS = {"put": ("PUT", "HEAD", "GET"), "get": ("GET",), "size": ("HEAD",), "delete": ("DELETE", "HEAD"),
            "names": ("LIST",)}  # fmt: skip
"""Those of S3 that a verb consists of."""

SLOW = {kind for kind in KINDS if kind.startswith("stalled")} | {"trickled"}
REFUSED = {"403", "an expired token", "a clock that is wrong", "404 of the bucket", "507", "503 for an hour"}
"""Final the first time; of a missing key see `test_a_key_is_missing_when_that_is_said_twice`."""
ONLY = {"swallowed": ("PUT", "DELETE"), "stored in half": ("PUT",), "stored with a bit flipped": ("PUT",)}
"""Kinds that are one request's own."""
UNSEEN = {("get", "a bit flipped"), ("get", "the bytes of another")} | {
    ("size", kind) for kind in ("another length", "shortened", "lengthened", "half of the XML")
}
"""Lies that only who knows the bytes can see, as the Protocol says."""

PATIENT = Patience(silence_s=15.0, verb_s=60.0, pause_s=0.001, pause_s_max=0.001)
HASTY = Patience(silence_s=0.5, verb_s=2.0, attempts=2, pause_s=0.001, pause_s_max=0.001)
"""Where it is not asked that the verb succeeds."""
LATE_S = 60.0
"""What a machine that is busy adds to a bound."""


@dataclass(frozen=True)
class Outcome:
    value: object
    error: Exception | None
    took_s: float


@pytest.fixture(scope="module")
def between(service: Endpoint) -> Iterator[Proxy]:
    with proxy(service) as made:
        yield made


@dataclass
class Case:
    """One verb that meets one kind of fault at one of its requests, on objects of its own."""

    verb: str
    kind: str
    at: str
    count: int | None

    @property
    def folder(self) -> str:
        return f"{self.verb}/{self.at}/{self.kind}/{self.count}/"

    def run(self, service: Endpoint, through: S3Remote, direct: S3Remote) -> str | None:
        """What is wrong with how it ended, if anything is."""
        names = {f"{self.folder}{each}" for each in ("object", "neighbour")[: 2 if self.verb == "names" else 1]}
        for name in names:
            store(service, through, name, OLD if self.verb == "put" else DATA)
        outcome = attempt(partial(self.do, through))
        return self.judge(outcome, direct, names, through.label)

    def do(self, remote: S3Remote) -> object:
        name = f"{self.folder}object"
        verbs: dict[str, Callable[[], object]] = {
            "put": lambda: remote.put(name, DATA),
            "get": lambda: remote.get(name, OFFSET, LENGTH),
            "size": lambda: remote.size(name),
            "delete": lambda: remote.delete(name),
            "names": lambda: set(remote.names(self.folder)),
        }
        return verbs[self.verb]()

    def judge(self, outcome: Outcome, direct: S3Remote, names: set[str], label: str) -> str | None:
        if outcome.took_s > (HASTY.verb_s if self.hasty else PATIENT.verb_s) + LATE_S:
            return f"took {outcome.took_s:.1f} s"
        if outcome.error is not None:
            if isinstance(outcome.error, ShardMissing) and self.kind == "404" and self.count is None:
                return None  # that is what it was told, whenever it asked
            if not isinstance(outcome.error, (DeviceFailed, DeviceFull)):
                return f"ended with {outcome.error!r}"
            if label not in str(outcome.error) or outcome.error.device != label:
                return f"does not say where: {outcome.error}"
            refused = self.kind in REFUSED or (self.at, self.kind) in (("HEAD", "400"), ("LIST", "404"))
            if self.count == 1 and not self.hasty and not refused:
                return f"did not recover: {outcome.error}"
            return None
        if (self.verb, self.kind) in UNSEEN:
            return None
        object_ = f"{self.folder}object"
        wanted = {"get": DATA[OFFSET : OFFSET + LENGTH], "size": len(DATA), "names": names}.get(self.verb)
        if outcome.value != wanted:
            return f"gave {str(outcome.value)[:80]}"
        if self.verb == "put" and direct.get(object_, 0, direct.size(object_)) != DATA:
            return "was said to be stored, and is not"
        if self.verb == "delete" and object_ in set(direct.names(self.folder)):
            return "was said to be deleted, and is not"
        return None

    @property
    def hasty(self) -> bool:
        return self.count is None or self.kind in SLOW


def store(service: Endpoint, remote: S3Remote, name: str, data: bytes) -> None:
    """Without a client, which takes longer."""
    path = quote(f"/{remote.label.removeprefix('s3://')}/{name}")
    assert ask(service, signed(service, "PUT", path, data)).status == 200


def attempt(call: Callable[[], object]) -> Outcome:
    begun = time.monotonic()
    value, error = None, None
    try:
        value = call()
    except Exception as caught:  # which of them are right is judged later
        error = caught
    return Outcome(value, error, time.monotonic() - begun)


def test_there_are_kinds_enough() -> None:
    assert len(KINDS) >= 25


@pytest.mark.parametrize("count", [1, None], ids=["once", "always"])
@pytest.mark.parametrize("verb", REQUESTS)
def test_what_comes_out_is_right_or_an_error_in_time(
    verb: str, count: int | None, between: Proxy, service: Endpoint
) -> None:
    cases = [Case(verb, kind, at, count) for at in REQUESTS[verb] for kind in KINDS if at in ONLY.get(kind, (at,))]
    prefix = f"faults/{count}"
    patient, hasty, direct = (
        remote_at(service, prefix, url=between.url, patience=PATIENT),
        remote_at(service, prefix, url=between.url, patience=HASTY),
        remote_at(service, prefix, read_back=False),
    )
    between.rules = [Rule(KINDS[each.kind], each.at, f"{prefix}/{each.folder}", count=each.count) for each in cases]
    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(lambda case: case.run(service, hasty if case.hasty else patient, direct), cases))
    assert {case.folder: wrong for case, wrong in zip(cases, found, strict=True) if wrong} == {}
    unmet = [each.folder for each, rule in zip(cases, between.rules, strict=True) if not (each.hasty or rule.seen)]
    assert unmet == []


def test_a_key_is_missing_when_that_is_said_twice(between: Proxy, service: Endpoint) -> None:
    remote = remote_at(service, "missing", url=between.url)
    remote.put("a", b"there")
    between.rules = [Rule(KINDS["404"], "GET"), Rule(KINDS["404"], "HEAD")]
    assert remote.get("a", 0, 5) == b"there"
    assert remote.size("a") == 5
    between.rules = [Rule(KINDS["404"], "GET", count=2), Rule(KINDS["404"], "HEAD")]
    with pytest.raises(ShardMissing):
        remote.get("a", 0, 5)


def test_a_fault_is_told_by_its_cause_and_how_often_it_was_tried(between: Proxy, service: Endpoint) -> None:
    remote = remote_at(service, "told", url=between.url)
    between.rules = [Rule(KINDS["503 SlowDown"], "PUT", count=None)]
    with pytest.raises(DeviceFailed, match=r"s3://bench/told: put a \(5 attempts\): .*SlowDown.*as planned"):
        remote.put("a", b"x")
    assert between.rules[0].seen == 5


def test_a_stalled_call_ends_when_the_remote_is_closed(between: Proxy, service: Endpoint) -> None:
    remote = remote_at(service, "closing", url=between.url)
    between.rules = [Rule(KINDS["stalled in the head"], "HEAD", count=None)]
    between.hit.clear()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(remote.size, "a")
        between.wait_until_hit("HEAD", 1)
        remote.close()
        with pytest.raises(DeviceFailed):
            call.result(LATE_S)


def test_nobody_listens(service: Endpoint) -> None:
    remote = remote_at(service, "nobody", url="http://127.0.0.1:9")
    with pytest.raises(DeviceFailed, match=r"127\.0\.0\.1:9"):
        remote.size("a")
