"""A mount's life: it begins, it ends in order whoever ends it, and another one follows."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyfuse3
import pytest
import trio

from stratumfs.errors import CatalogCorrupt, ConfigError, StoreInUse
from stratumfs.fuse import session
from stratumfs.fuse.mountinfo import device_at
from stratumfs.fuse.session import SessionOptions, serve
from tests.mount.conftest import mounted_store
from tests.stores import running_store


def test_what_was_written_is_there_after_the_next_mount(tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    with mounted_store(tmp_path) as mount:
        (mount.path / "bucket" / "d").mkdir(parents=True)
        (mount.path / "bucket" / "d" / "f").write_bytes(data)
        (mount.path / "bucket" / "small").write_bytes(b"small")
    assert not os.path.ismount(mount.path)
    with mounted_store(tmp_path) as mount:
        assert (mount.path / "bucket" / "d" / "f").read_bytes() == data
        assert (mount.path / "bucket" / "small").read_bytes() == b"small"


async def test_one_owner_mounts_unmounts_and_mounts_again(tmp_path: Path) -> None:
    point = tmp_path / "mount"
    point.mkdir()
    async with running_store(tmp_path / "store") as store:
        for turn in range(3):
            stop = trio.Event()
            async with trio.open_nursery() as nursery:
                mounted = await nursery.start(partial(serve, store, str(point), SessionOptions(), stop))
                assert mounted.where == (str(point),)
                await trio.to_thread.run_sync((point / f"bucket{turn}").mkdir)
                found = await trio.to_thread.run_sync(os.listdir, point)
                assert found == [f"bucket{number}" for number in range(turn + 1)]
                stop.set()
            assert not _is_mounted(point)
        assert len(store.holds) == 0


async def test_plain_umount_ends_the_mount_and_saves_all(tmp_path: Path) -> None:
    point = tmp_path / "mount"
    point.mkdir()
    async with running_store(tmp_path / "store") as store:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, store, str(point), SessionOptions(), trio.Event()))
            await trio.run_process(["bash", "-c", f"mkdir {point}/bucket && echo data > {point}/bucket/f"])
            await trio.run_process(["umount", str(point)])
        assert [info.key for info in (await store.objects.list("bucket")).objects] == [b"f"]


async def test_a_cancelled_mount_ends_in_order(tmp_path: Path) -> None:
    point = tmp_path / "mount"
    point.mkdir()
    async with running_store(tmp_path / "store") as store:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, store, str(point), SessionOptions(), trio.Event()))
            await trio.run_process(["bash", "-c", f"mkdir {point}/bucket && echo data > {point}/bucket/f"])
            nursery.cancel_scope.cancel()
        assert not _is_mounted(point)
        assert (await store.objects.info("bucket", b"f")).size == 5


async def test_a_mount_in_use_is_detached_and_what_is_pending_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "UNMOUNT_GRACE_S", 0.2)
    point = tmp_path / "mount"
    point.mkdir()
    script = f"""
import os
os.mkdir("{point}/bucket")
fd = os.open("{point}/bucket/f", os.O_CREAT | os.O_WRONLY)
os.write(fd, b"pending")
print("ready", flush=True)
input()
try:
    os.write(fd, b"late")
except OSError as error:
    print(error.strerror)
"""
    async with running_store(tmp_path / "store") as store:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            mounted = await nursery.start(partial(serve, store, str(point), SessionOptions(), stop))
            words = [sys.executable, "-c", script]
            program = await trio.lowlevel.open_process(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert program.stdin is not None
            assert program.stdout is not None
            assert await _line(program.stdout) == b"ready\n"
            assert mounted.pending().startswith("1 files")
            stop.set()
        assert not _is_mounted(point)
        await program.stdin.send_all(b"\n")
        assert b"not connected" in await _line(program.stdout)
        await program.wait()
        assert (await store.objects.info("bucket", b"f")).size == len("pending")


async def test_a_mount_ends_when_what_it_has_shown_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a fail-over that cannot show it again; a program that holds a file sees no other history."""
    monkeypatch.setattr(session, "UNMOUNT_GRACE_S", 0.2)
    point = tmp_path / "mount"
    point.mkdir()
    script = f"""
import os
os.mkdir("{point}/bucket")
fd = os.open("{point}/bucket/f", os.O_CREAT | os.O_WRONLY)
os.write(fd, b"pending")
print("ready", flush=True)
input()
try:
    os.fsync(fd)
except OSError as error:
    print(error.strerror)
"""
    async with running_store(tmp_path / "store") as store:
        with pytest.RaisesGroup(pytest.RaisesExc(CatalogCorrupt, match="was ended: .* came out otherwise")):
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(serve, store, str(point), SessionOptions(), trio.Event()))
                words = [sys.executable, "-c", script]
                program = await trio.lowlevel.open_process(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                assert program.stdin is not None
                assert program.stdout is not None
                assert await _line(program.stdout) == b"ready\n"
                rounds = store.catalog._rounds
                rounds.behind = True
                rounds.fail(CatalogCorrupt("a change came out otherwise than before"))
        assert not _is_mounted(point)
        await program.stdin.send_all(b"\n")
        assert b"not connected" in await _line(program.stdout)
        await program.wait()
        with pytest.raises(CatalogCorrupt):
            await store.objects.info("bucket", b"f")


async def test_a_mount_that_somebody_detached_ends_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "UNMOUNT_GRACE_S", 0.2)
    point = tmp_path / "mount"
    point.mkdir()
    async with running_store(tmp_path / "store") as store, trio.open_nursery() as nursery:
        stop = trio.Event()
        await nursery.start(partial(serve, store, str(point), SessionOptions(), stop))
        words = ["env", "-C", str(point), "sh", "-c", "echo in; read line"]
        program = await trio.lowlevel.open_process(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert program.stdin is not None
        assert program.stdout is not None
        assert await _line(program.stdout) == b"in\n"
        await trio.run_process(["umount", "-l", str(point)])
        await trio.run_process(["mount", "-t", "tmpfs", "none", str(point)])
        stop.set()
        await program.stdin.send_all(b"\n")
        await program.wait()
    assert _is_mounted(point), "what somebody else mounted there is left alone"
    await trio.run_process(["umount", str(point)])


async def test_a_loop_that_fails_ends_the_mount_and_saves_what_is_pending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should pyfuse3's loop end by an error, nobody may wait for ever, and the door says so."""
    point = tmp_path / "mount"
    point.mkdir()
    fail = trio.Event()
    real = pyfuse3.main

    async def failing(**options: int) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(real, **options))
            await fail.wait()
            raise OSError(5, "the session broke")

    monkeypatch.setattr(pyfuse3, "main", failing)
    script = f"""
import os
os.mkdir("{point}/bucket")
fd = os.open("{point}/bucket/f", os.O_CREAT | os.O_WRONLY)
os.write(fd, b"pending")
print("ready", flush=True)
input()
"""
    async with running_store(tmp_path / "store") as store:
        program = None
        with pytest.RaisesGroup(OSError, flatten_subgroups=True):
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(serve, store, str(point), SessionOptions(), trio.Event()))
                words = [sys.executable, "-c", script]
                program = await trio.lowlevel.open_process(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
                assert program.stdout is not None
                await _line(program.stdout)
                fail.set()
        assert program is not None
        assert program.stdin is not None
        await program.stdin.send_all(b"\n")
        await program.wait()
        assert not _is_mounted(point)
        assert (await store.objects.info("bucket", b"f")).size == len("pending")


async def test_a_mount_serves_without_the_program_that_survives_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no process left for it, say."""
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    async with running_store(tmp_path / "store") as store, trio.open_nursery() as nursery:
        stop = trio.Event()
        (tmp_path / "mount").mkdir()
        await nursery.start(partial(serve, store, str(tmp_path / "mount"), SessionOptions(), stop))
        await trio.to_thread.run_sync((tmp_path / "mount" / "bucket").mkdir)
        stop.set()


async def test_the_loop_waits_for_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    for name in ("__init__", "close"):
        real = getattr(session.Afterwards, name)

        def noted(self: object, *args: object, real: Callable[..., None] = real) -> None:
            threads.append(threading.get_ident())
            real(self, *args)

        monkeypatch.setattr(session.Afterwards, name, noted)
    async with running_store(tmp_path / "store") as store, trio.open_nursery() as nursery:
        stop = trio.Event()
        (tmp_path / "mount").mkdir()
        await nursery.start(partial(serve, store, str(tmp_path / "mount"), SessionOptions(), stop))
        stop.set()
    assert len(threads) == 2
    assert threading.get_ident() not in threads


async def test_a_process_has_one_mount(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with running_store(tmp_path / "store") as store, trio.open_nursery() as nursery:
        stop = trio.Event()
        await nursery.start(partial(serve, store, str(tmp_path / "one"), SessionOptions(), stop))
        with pytest.raises(StoreInUse, match="bind"):
            await serve(store, str(tmp_path / "two"), SessionOptions(), stop)
        stop.set()


async def test_a_mount_point_that_is_not_there_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with running_store(tmp_path / "store") as store:
        with pytest.RaisesGroup(ConfigError, flatten_subgroups=True):
            await serve(store, str(tmp_path / "nowhere"), SessionOptions(), trio.Event())
        (tmp_path / "there").mkdir()
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, store, str(tmp_path / "there"), SessionOptions(), stop))
            stop.set()


def test_a_mount_that_is_read_only_refuses_writes(tmp_path: Path) -> None:
    with mounted_store(tmp_path) as mount:
        (mount.path / "bucket").mkdir()
        (mount.path / "bucket" / "f").write_bytes(b"data")
    with mounted_store(tmp_path, SessionOptions(read_only=True)) as mount:
        assert (mount.path / "bucket" / "f").read_bytes() == b"data"
        for attempt in (
            lambda: (mount.path / "bucket" / "g").write_bytes(b""),
            lambda: (mount.path / "bucket" / "f").open("r+b"),
            lambda: (mount.path / "bucket" / "f").unlink(),
        ):
            with pytest.raises(OSError, match="Read-only"):
                attempt()


def test_a_store_that_turned_read_only_says_so_and_reads_on(tmp_path: Path) -> None:
    with mounted_store(tmp_path) as mount:
        bucket = mount.path / "bucket"
        bucket.mkdir()
        (bucket / "f").write_bytes(b"x" * 50_000)
        with (bucket / "open").open("wb", buffering=0) as file:
            mount.store.refuse_writes("a device failed")
            for attempt in (
                lambda: (bucket / "g").write_bytes(b""),
                lambda: (bucket / "f").open("r+b"),
                lambda: (bucket / "f").unlink(),
                lambda: (bucket / "d").mkdir(),
                lambda: os.rename(bucket / "f", bucket / "g"),
                lambda: os.truncate(bucket / "f", 1),
                lambda: os.setxattr(bucket / "f", "user.a", b"b"),
                lambda: file.write(b"late"),
            ):
                with pytest.raises(OSError, match="Read-only"):
                    attempt()
        assert (bucket / "f").read_bytes() == b"x" * 50_000


def test_closing_without_waiting_still_publishes(tmp_path: Path) -> None:
    with mounted_store(tmp_path, SessionOptions(published=True)) as mount:
        bucket = mount.path / "bucket"
        bucket.mkdir()
        for number in range(50):
            (bucket / f"f{number}").write_bytes(b"%d" % number)
        assert (bucket / "f7").read_bytes() == b"7"
    with mounted_store(tmp_path) as mount:
        assert [(mount.path / "bucket" / f"f{number}").read_bytes() for number in range(50)] == [
            b"%d" % number for number in range(50)
        ]


def test_the_loop_is_woken_when_a_request_was_taken_back(tmp_path: Path) -> None:
    """Processes are killed in mid-request, with nobody else asking: without ``wake`` this stands still for ever."""
    script = """
import os, sys
print(flush=True)
while True:
    try:
        os.stat(sys.argv[1] + os.urandom(4).hex())
    except OSError:
        pass
"""
    with mounted_store(tmp_path) as mount:
        for _ in range(12):
            words = [sys.executable, "-c", script, f"{mount.path}/"]
            busy = [subprocess.Popen(words, stdout=subprocess.PIPE) for _ in range(3)]
            for process in busy:
                assert process.stdout is not None
                process.stdout.readline()
            for process in busy:
                process.kill()
                process.communicate()
            mount.run(trio.sleep, 0)


async def _line(stream: trio.abc.ReceiveStream) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += await stream.receive_some(1) or b"\n"
    return line


def _is_mounted(point: Path) -> bool:
    """Asks no mount, unlike os.path.ismount: on the loop that would wait for itself."""
    return device_at(str(point)) is not None


def test_with_the_option_sync_a_write_that_returned_is_published(tmp_path: Path) -> None:
    with mounted_store(tmp_path, SessionOptions(kernel=("nosuid", "nodev", "sync"))) as mount:
        (mount.path / "bucket").mkdir()
        with (mount.path / "bucket" / "f").open("wb", buffering=0) as file:
            file.write(b"data")
            assert mount.get(mount.path / "bucket", b"f") == b"data"
