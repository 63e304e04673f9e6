"""A bucket and its reference: what all rules share."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.model import posix
from tests.model.compare import KEY_MAX, same
from tests.model.nodes import File, Node, Span
from tests.model.reference import BUCKET, Place, Reference, Refused
from tests.model.world import World, attempt

PENDING_MAX_S = 15.0
"""After 30 s the mount publishes by itself what is pending, which the reference does not know."""


@dataclass(eq=False)
class Handle:
    """A file that stays open for reading and writing over steps. since: of the oldest write not published."""

    file: File
    fd: int
    since: float = 0.0


class Bucket(RuleBasedStateMachine):
    """Rules come with its subclasses."""

    world: World

    @initialize(by_mkdir=st.booleans(), amount=st.integers(0, 9))
    def make_bucket(self, by_mkdir: bool, amount: int) -> None:
        self.world.buckets += 1
        self.bucket = f"bucket-{self.world.buckets}"
        self.handles: list[Handle] = []
        path = self.world.doors.mount / self.bucket
        before = time.time_ns()
        if by_mkdir:
            os.mkdir(path, 0o750)
        else:
            self.world.s3.create_bucket(Bucket=self.bucket)
        self.tree = Reference((before, time.time_ns()), 0o750 if by_mkdir else 0o755)
        for step in self.furnishing()[:amount]:
            step()

    def furnishing(self) -> list[Callable[[], None]]:
        """Steps that fill a new bucket, so that the first rules have something to work on."""
        return []

    def both(self, what: str, real: Callable[[], object], ideal: Callable[[Span], object]) -> None:
        """Carry it out; it must be refused in the same way, or by neither."""
        before = time.time_ns()
        refused = attempt(real)
        now = (before, time.time_ns())
        expected = None
        try:
            ideal(now)
        except Refused as refusal:
            expected = str(refusal)
        note(f"{what}: {refused or 'done'}")
        self.world.outcomes[f"{what.split()[0]}: {refused or 'done'}"] += 1
        assert refused == expected, f"{what}: {refused}, not {expected}"

    def real(self, path: bytes) -> bytes:
        return os.fsencode(self.world.doors.mount / self.bucket) + b"/" + path

    def place(self, number: int, name: bytes) -> tuple[bytes, Place]:
        """A name in one of the directories: its real path, and the place."""
        found = [(b"", BUCKET)]
        found += [(path + b"/", key) for path, key in sorted(self.tree.paths().items()) if key.endswith(b"/")]
        path, key = found[number % len(found)]
        return self.real(path + name), Place(key, name)

    def existing(self, number: int, *kinds: str) -> tuple[bytes, Place, Node] | None:
        """Something that is there, of these kinds (of any, without): its real path, its place and its node."""
        found = []
        for path, key in sorted(self.tree.paths().items()):
            node = self.tree.nodes[key]
            if not kinds or node.kind in kinds:
                found.append((path, node))
        if not found:
            return None
        path, node = found[number % len(found)]
        directory, _, name = path.rpartition(b"/")
        above = self.tree.paths()[directory] if directory else BUCKET
        return self.real(path), Place(above, name), node

    def file(self, number: int) -> tuple[bytes, File] | None:
        found = self.existing(number, "file")
        if found is None:
            return None
        assert isinstance(found[2], File)
        return found[0], found[2]

    def key(self, key: int | bytes) -> bytes:
        if isinstance(key, bytes):
            return key
        found = [each for each in sorted(self.tree.nodes) if each and len(each) <= KEY_MAX]
        return found[key % len(found)] if found else b"a"

    @invariant()
    def both_doors_show_the_reference(self) -> None:
        if not hasattr(self, "tree"):
            return
        self.world.steps += 1
        self.world.check(self.bucket, self.tree, page=2 if self.world.steps % 5 == 0 else 1000)
        for handle in self.handles:
            assert os.fstat(handle.fd).st_nlink == self.tree.links(handle.file), "nlink through an open handle"
            same(os.pread(handle.fd, len(handle.file.data) + 1, 0), handle.file.data, "bytes through an open handle")
            if handle.since and time.monotonic() - handle.since > PENDING_MAX_S:
                self.sync_handle_now(handle)

    def teardown(self) -> None:
        if hasattr(self, "tree"):
            self.close_handles()
            self.world.finished.append((self.bucket, self.tree))

    def close_handles(self) -> None:
        """As the end of a process does it."""
        for handle in self.handles:
            before = time.time_ns()
            with suppress(OSError):
                os.close(handle.fd)
            posix.flush(handle.file, (before, time.time_ns()))
        self.handles.clear()

    @precondition(lambda self: self.world.restarts)
    @rule(chance=st.integers(0, 20))
    def restart(self, chance: int) -> None:
        """Now and then the owner ends, and another one goes on."""
        if chance == 20:
            self.close_handles()
            self.world.restart()

    def is_open(self, file: File) -> bool:
        return any(handle.file is file for handle in self.handles)

    def published(self, file: File, now: Span) -> None:
        if self.tree.links(file):
            posix.flush(file, now)
        for handle in self.handles:
            if handle.file is file:
                handle.since = 0.0

    def sync_handle_now(self, handle: Handle) -> None:
        self.both("fsync of a handle", partial(os.fsync, handle.fd), lambda now: self.published(handle.file, now))
