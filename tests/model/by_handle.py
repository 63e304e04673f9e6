"""Files that stay open for reading and writing while other things happen to their names."""

import os
import time
from functools import partial

from hypothesis import note
from hypothesis.stateful import precondition, rule

from tests.model import posix
from tests.model.bucket import Bucket, Handle
from tests.model.draws import offsets, pick, seeds, sizes
from tests.model.world import some_bytes


class ByHandle(Bucket):
    @precondition(lambda self: len(self.handles) < 3)
    @rule(at=pick)
    def open_handle(self, at: int) -> None:
        if (found := self.file(at)) is not None:
            note(f"open {found[0]!r}")
            self.handles.append(Handle(found[1], os.open(found[0], os.O_RDWR)))

    @precondition(lambda self: self.handles)
    @rule(at=pick, size=sizes, seed=seeds, offset=offsets)
    def write_handle(self, at: int, size: int, seed: int, offset: int) -> None:
        handle = self.handles[at % len(self.handles)]
        data = some_bytes(seed, size) or b"?"
        handle.since = handle.since or time.monotonic()
        call = partial(os.pwrite, handle.fd, data, offset)
        self.both("write to a handle", call, lambda now: posix.write(handle.file, offset, data, now))

    @precondition(lambda self: self.handles)
    @rule(at=pick, size=sizes)
    def truncate_handle(self, at: int, size: int) -> None:
        handle = self.handles[at % len(self.handles)]
        if len(handle.file.data) != size:
            handle.since = handle.since or time.monotonic()
            call = partial(os.ftruncate, handle.fd, size)
            self.both("truncate a handle", call, lambda now: posix.truncate(handle.file, size, now))

    @precondition(lambda self: self.handles)
    @rule(at=pick)
    def sync_handle(self, at: int) -> None:
        self.sync_handle_now(self.handles[at % len(self.handles)])

    @precondition(lambda self: self.handles)
    @rule(at=pick)
    def close_handle(self, at: int) -> None:
        handle = self.handles.pop(at % len(self.handles))
        self.both("close a handle", partial(os.close, handle.fd), lambda now: self.published(handle.file, now))
