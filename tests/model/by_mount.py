"""System calls on paths of the mount."""

import os
from functools import partial

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.model import posix
from tests.model.bucket import Bucket
from tests.model.draws import attributes, modes, names, offsets, pick, seeds, sizes, values
from tests.model.nodes import OPAQUE, File, Node, Span, md5
from tests.model.reference import Place
from tests.model.world import RENAME_EXCHANGE, RENAME_NOREPLACE, rename, some_bytes, write_file


class ByMount(Bucket):
    @rule(at=pick, name=names, size=sizes, seed=seeds, mode=modes)
    def create(self, at: int, name: bytes, size: int, seed: int, mode: int) -> None:
        path, place = self.place(at, name)
        data = some_bytes(seed, size)

        def ideal(now: Span) -> None:
            file = posix.make(self.tree, place, "file", mode, now)
            posix.write(file, 0, data, now)
            posix.flush(file, now, md5(data))

        self.both(f"create {path!r}", partial(write_file, path, data, os.O_CREAT | os.O_EXCL, mode), ideal)

    @rule(at=pick, size=sizes, seed=seeds, how=st.sampled_from(("over", "append", "anew")), offset=offsets)
    def write(self, at: int, size: int, seed: int, how: str, offset: int) -> None:
        if (found := self.file(at)) is None:
            return
        path, file = found
        data = some_bytes(seed, size) or b"!"
        flags = {"over": 0, "append": os.O_APPEND, "anew": os.O_TRUNC}[how]

        def ideal(now: Span) -> None:
            whole = how == "anew" and not file.pending
            if how == "anew":
                posix.truncate(file, 0, now)
            posix.write(file, {"over": offset, "append": len(file.data), "anew": 0}[how], data, now)
            posix.flush(file, now, md5(data) if whole else OPAQUE)

        call = partial(write_file, path, data, flags, offset=offset if how == "over" else None)
        self.both(f"write {how} {path!r}", call, ideal)

    @rule(at=pick, size=sizes)
    def truncate(self, at: int, size: int) -> None:
        if (found := self.file(at)) is None or len(found[1].data) == size:
            return
        path, file = found

        def ideal(now: Span) -> None:
            posix.truncate(file, size, now)
            if not self.is_open(file):
                posix.flush(file, now)

        self.both(f"truncate {path!r} {size}", partial(os.truncate, path, size), ideal)

    @rule(at=pick, name=names, source=pick, how=st.sampled_from((0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE)))
    def rename(self, at: int, name: bytes, source: int, how: int) -> None:
        if (found := self.existing(source)) is None:
            return
        self.rename_to(found, *self.place(at, name), how)

    @rule(over=pick, source=pick, how=st.sampled_from((0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE)))
    def rename_over(self, over: int, source: int, how: int) -> None:
        old, new = self.existing(source), self.existing(over)
        if old is not None and new is not None:
            self.rename_to(old, new[0], new[1], how)

    def rename_to(self, old: tuple[bytes, Place, Node], path: bytes, place: Place, how: int) -> None:
        def ideal(now: Span) -> None:
            replace, exchange = how != RENAME_NOREPLACE, how == RENAME_EXCHANGE
            posix.rename(self.tree, old[1], place, now, replace=replace, exchange=exchange)

        self.both(f"rename {old[0]!r} {path!r} {how}", partial(rename, old[0], path, how), ideal)

    @rule(at=pick, name=names, source=pick)
    def link(self, at: int, name: bytes, source: int) -> None:
        if (found := self.existing(source)) is None:
            return
        path, place = self.place(at, name)
        key = self.tree.find(found[1])
        assert key is not None
        call = partial(os.link, found[0], path, follow_symlinks=False)
        self.both(f"link {found[0]!r} {path!r}", call, lambda now: posix.link(self.tree, key, place, now))

    @rule(at=pick)
    def unlink(self, at: int) -> None:
        if (found := self.existing(at)) is not None:
            path, place, _ = found
            self.both(f"unlink {path!r}", partial(os.unlink, path), lambda now: posix.unlink(self.tree, place, now))

    @rule(at=pick, name=names, mode=modes)
    def mkdir(self, at: int, name: bytes, mode: int) -> None:
        path, place = self.place(at, name)
        mode |= 0o700
        ideal = partial(posix.mkdir, self.tree, place, mode)
        self.both(f"mkdir {path!r}", partial(os.mkdir, path, mode), ideal)

    @rule(at=pick)
    def rmdir(self, at: int) -> None:
        if (found := self.existing(at)) is not None:
            path, place, _ = found
            self.both(f"rmdir {path!r}", partial(os.rmdir, path), lambda now: posix.rmdir(self.tree, place, now))

    @rule(at=pick, name=names, to=st.sampled_from((b"a", b"../b", b"\xff", b"nowhere")))
    def symlink(self, at: int, name: bytes, to: bytes) -> None:
        path, place = self.place(at, name)

        def ideal(now: Span) -> None:
            posix.make(self.tree, place, "link", 0o777, now, target=to)

        self.both(f"symlink {to!r} {path!r}", partial(os.symlink, to, path), ideal)

    @rule(at=pick, name=names)
    def mkfifo(self, at: int, name: bytes) -> None:
        path, place = self.place(at, name)
        call = partial(os.mkfifo, path, 0o600)
        self.both(f"mkfifo {path!r}", call, lambda now: posix.make(self.tree, place, "fifo", 0o600, now))

    @rule(at=pick, mode=modes)
    def chmod(self, at: int, mode: int) -> None:
        if (found := self.existing(at, "file", "directory", "fifo")) is not None:
            path, _, node = found
            mode |= 0o700 if node.kind == "directory" else 0
            self.both(f"chmod {path!r}", partial(os.chmod, path, mode), partial(posix.chmod, node, mode))

    @rule(at=pick, mtime_ns=st.sampled_from((0, 1, 10**18 + 7, 4 * 10**18)))
    def utimens(self, at: int, mtime_ns: int) -> None:
        if (found := self.existing(at)) is not None:
            path, _, node = found
            call = partial(os.utime, path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
            self.both(f"utimens {path!r}", call, partial(posix.utimens, node, mtime_ns))

    @rule(at=pick, name=attributes, value=values)
    def xattr(self, at: int, name: bytes, value: bytes | None) -> None:
        if (found := self.existing(at, "file", "directory")) is None:
            return
        path, _, node = found
        call = partial(os.removexattr, path, name) if value is None else partial(os.setxattr, path, name, value)
        ideal = partial(posix.set_xattr, node, name, value)
        self.both(f"xattr {path!r} {name!r} {value!r}", call, ideal)

    @rule(at=pick)
    def fsync(self, at: int) -> None:
        if (found := self.existing(at, "file", "directory")) is None:
            return
        path, _, node = found

        def call() -> None:
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

        def ideal(now: Span) -> None:
            if isinstance(node, File):
                self.published(node, now)

        self.both(f"fsync {path!r}", call, ideal)
