"""Access times: shown at once, written together, never in the way of who sets them."""

import time
from pathlib import Path

import pytest

from stratumfs.errors import StoreBusy
from stratumfs.fuse import accesses as accesses_module
from stratumfs.fuse.accesses import Accesses
from stratumfs.ids import InodeNo
from stratumfs.values import AttributeChange, Name
from tests.stores import running_store


async def test_reads_are_shown_and_written_together(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        bucket = (await store.objects.create_bucket("bucket", time.time_ns())).ino
        inos = [(await store.files.make(bucket, Name(b"%d" % n), 0o100644, 0, 0, 5)).ino for n in range(450)]
        told: list[InodeNo] = []
        accesses = Accesses(store.files, told.extend)
        for ino in inos:
            accesses.note(ino, 77)
        assert accesses.atime_ns(inos[3], 5) == 77
        await accesses.write()
        assert sorted(told) == sorted(inos)
        found = await store.files.attributes(inos[3])
        assert (found.atime_ns, found.mtime_ns, found.ctime_ns) == (77, 5, 5)
        assert accesses.atime_ns(inos[3], 5) == 5


async def test_a_time_that_somebody_set_after_the_read_stays(tmp_path: Path) -> None:
    async with running_store(tmp_path) as store:
        bucket = (await store.objects.create_bucket("bucket", time.time_ns())).ino
        ino = (await store.files.make(bucket, Name(b"f"), 0o100644, 0, 0, 5)).ino
        accesses = Accesses(store.files, lambda inos: None)
        accesses.note(ino, 77)
        accesses.drop(ino)
        await store.files.set_attributes(ino, AttributeChange(atime_ns=3), 80)
        await accesses.write()
        assert (await store.files.attributes(ino)).atime_ns == 3


async def test_errors_and_floods_are_harmless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accesses_module, "_WAITING_MAX", 3)
    async with running_store(tmp_path) as store:
        accesses = Accesses(store.files, lambda inos: None)
        for number in range(10):
            accesses.note(InodeNo(number + 100), 1)
        assert accesses.atime_ns(InodeNo(109), 0) == 0

        async def busy(reads: object) -> None:
            raise StoreBusy("x")

        monkeypatch.setattr(store.files, "note_reads", busy)
        await accesses.write()
        assert accesses.atime_ns(InodeNo(100), 0) == 0
