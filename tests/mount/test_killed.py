"""An owner that is killed while a call of its own waits in the kernel for somebody who waits for its answer."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_OWNER = '''
import sys, threading
from contextlib import suppress
from pathlib import Path
import trio
from stratumfs.fuse.operations import Operations
from tests.mount.conftest import mounted_store

known = Operations.lookup
async def lookup(self, parent, name, ctx):
    if name == b"hangs":
        print("asked", flush=True)
        await trio.sleep_forever()
    return await known(self, parent, name, ctx)
Operations.lookup = lookup

def in_kernel():
    return any(map(waits, Path("/proc/self/task").iterdir()))

def waits(task):
    """In the call that this is about: for a disk a thread waits uninterruptibly too."""
    with suppress(OSError):  # it has ended
        state = (task / "stat").read_text().rpartition(")")[2].split()[0]
        return state == "D" and "fuse" in (task / "wchan").read_text()
    return False

with mounted_store(Path(sys.argv[1])) as mount:
    bucket = mount.path / "bucket"
    bucket.mkdir()
    mount.put(bucket, b"kept", b"old")
    print("mounted", flush=True)
    sys.stdin.readline()
    threading.Thread(target=mount.put, args=(bucket, b"kept", b"new"), daemon=True).start()
    while not in_kernel():
        pass
    print("waits", flush=True)
    threading.Event().wait()
'''
_END_S = 60.0


@contextmanager
def _started(words: list[str], **options: object) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options) as process:  # type: ignore[call-overload] # of options that this test gives
        try:
            yield process
        finally:
            process.kill()


def _says(process: "subprocess.Popen[str]", word: str) -> bool:
    """Wait until it does; False if it ends before. Other lines are its log."""
    assert process.stdout is not None
    return any(line.strip() == word for line in process.stdout)


def test_an_owner_that_waits_in_the_kernel_for_its_own_mount_can_be_killed(tmp_path: Path) -> None:
    """It would wait for ever, with the store's locks, and whoever uses the mount with it."""
    kept = tmp_path / "mount" / "bucket" / "kept"
    with _started([sys.executable, "-c", _OWNER, str(tmp_path)], cwd=Path(__file__).parents[2]) as owner:
        try:
            assert _says(owner, "mounted")
            assert os.stat(kept).st_size == 3
            with _started(["stat", str(kept.with_name("hangs"))], stderr=subprocess.DEVNULL) as client:
                assert _says(owner, "asked")
                assert owner.stdin is not None
                owner.stdin.write("\n")
                owner.stdin.flush()
                assert _says(owner, "waits")
                owner.kill()
                assert owner.wait(_END_S) == -9
                assert client.wait(_END_S) == 1
        finally:
            subprocess.run(["umount", "-f", str(tmp_path / "mount")], check=False, capture_output=True)
            subprocess.run(["umount", "-l", str(tmp_path / "mount")], check=False, capture_output=True)
