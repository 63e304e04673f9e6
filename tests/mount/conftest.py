"""A store in a folder, mounted by the real kernel: the loop runs in a thread, tests are plain programs on the mount.

Whatever waits for the mount with Python's lock held hangs, for the loop needs the lock to answer. So mappings are made
in other processes, and those change into the mount and close files of it after exec: before it the lock is held.
"""

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio

from stratumfs.fuse.session import Mounted, SessionOptions, serve
from stratumfs.ids import DeviceId
from stratumfs.store.store import Store
from stratumfs.values import Conditions, ObjectSpec
from stratumfs.volumes.attached import AttachedDevice
from tests.stores import running_store

T = TypeVar("T")
_ANSWER_S = 60.0
_numbers = count(1)


class Mount:
    """A running mount. ``run`` runs an async function on its loop and returns the outcome."""

    def __init__(self, path: Path, store: Store, mounted: Mounted, token: trio.lowlevel.TrioToken) -> None:
        self.path, self.store, self.mounted, self._token = path, store, mounted, token

    def run(self, fn: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        return trio.from_thread.run(partial(fn, *args, **kwargs), trio_token=self._token)

    def put(self, bucket: Path, key: bytes, data: bytes) -> None:
        """As an S3 client: all is done, and known to the kernel, on return."""
        self.run(self.put_on_loop, bucket.name, key, data)

    def delete(self, bucket: Path, key: bytes) -> None:
        self.run(self.store.objects.delete, bucket.name, key, Conditions(), time.time_ns())

    def keys(self, bucket: Path) -> list[bytes]:
        return [found.key for found in self.run(self.store.objects.list, bucket.name).objects]

    def get(self, bucket: Path, key: bytes) -> bytes:
        return self.run(self.get_on_loop, bucket.name, key)

    async def put_on_loop(self, bucket: str, key: bytes, data: bytes) -> None:
        async with self.store.objects.put(bucket) as writer:
            await writer.write(data)
            await writer.finish()
            await writer.commit(key, ObjectSpec(), Conditions(), time.time_ns())

    async def get_on_loop(self, bucket: str, key: bytes) -> bytes:
        async with self.store.objects.open(bucket, key) as reader:
            return b"".join([bytes(chunk) async for chunk in reader.chunks(0, reader.info.size)])

    def statistics(self) -> dict[str, int]:
        return self.mounted.details()

    def shell(self, script: str, folder: Path | None = None) -> str:
        """Run *script* with bash, in *folder* of the mount; fails the test if it fails."""
        return self._program(["bash", "-euo", "pipefail", "-c", script], folder)

    def python(self, script: str, *words: object, folder: Path | None = None) -> str:
        """Run *script* with Python in another process."""
        return self._program([sys.executable, "-c", script, *map(str, words)], folder)

    def _program(self, words: Sequence[str], folder: Path | None) -> str:
        done = subprocess.run(
            ["env", "-C", str(folder or self.path), *words],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            close_fds=False,  # the kernel closes them at exec, when the lock is free: closing a file on the mount waits
            timeout=_ANSWER_S,
            env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "GIT_CONFIG_NOSYSTEM": "1"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@contextmanager
def mounted_store(
    folder: Path,
    options: SessionOptions | None = None,
    devices: Mapping[DeviceId, AttachedDevice] | None = None,
) -> Iterator[Mount]:
    """The store ``folder/store``, made if it is not there, mounted at ``folder/mount`` for the length of the block."""
    point = folder / "mount"
    point.mkdir(exist_ok=True)
    (folder / "store").mkdir(exist_ok=True)
    ready: queue.SimpleQueue[Mount | BaseException] = queue.SimpleQueue()
    stop: list[Callable[[], None]] = []

    async def main() -> None:
        event = trio.Event()
        token = trio.lowlevel.current_trio_token()
        stop.append(partial(trio.from_thread.run_sync, event.set, trio_token=token))
        async with running_store(folder / "store", devices=devices) as store, trio.open_nursery() as nursery:
            run = partial(serve, store, str(point), options or SessionOptions(), event)
            mounted = await nursery.start(run)
            ready.put(Mount(point, store, mounted, token))

    def thread() -> None:
        try:
            trio.run(main)
        except BaseException as error:  # the test's thread raises it
            ready.put(error)
        else:
            ready.put(EOFError("the mount ended"))

    runner = threading.Thread(target=thread, name="mount")
    runner.start()
    first = ready.get(timeout=_ANSWER_S)
    try:
        if isinstance(first, BaseException):
            raise first
        yield first
    finally:
        if not isinstance(first, BaseException):
            with suppress(trio.RunFinishedError):  # somebody unmounted it
                stop[0]()
        runner.join(timeout=_ANSWER_S)
        assert not runner.is_alive(), "the mount does not end"
    last = ready.get_nowait()
    if not isinstance(last, EOFError):
        raise last


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """One mount for the tests of a module that need nothing special; nothing unexpected may have happened in it."""
    with mounted_store(tmp_path_factory.mktemp("shared")) as found:
        yield found
        assert "unexpected" not in found.statistics()
        assert "background_errors" not in found.statistics()


@pytest.fixture
def bucket(mount: Mount) -> Path:
    """A bucket of the test's own in the shared mount."""
    path = mount.path / f"bucket{next(_numbers)}"
    path.mkdir()
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.mount)
