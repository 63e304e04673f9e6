"""A real store with both of its doors, for tests and rehearsals: made, opened, killed and taken away as a user would.

A store is made by what mkfs.stratumfs calls, all else is done by the commands themselves, in processes of their own;
everything waits until something happens, with a deadline, and nothing is left behind: no process, no mount.
"""

import configparser
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import boto3
import pytest
import structlog
import trio
from botocore.config import Config

from stratumfs.errors import StoreClosing
from stratumfs.owner import client, create, credentials
from stratumfs.owner.fsck import Wanted, fsck
from stratumfs.owner.messages import Question
from tests.faults.audit import audit_rows, audit_shards
from tests.faults.run import opened
from tools.measure.processes import free_port

BIN = Path(sys.executable).parent
REGION = "us-east-1"
COMMAND_S = 60.0
TEST_S = 900.0
_LOG_TAIL = 80


class CommandFailed(AssertionError):
    """A command of the store that should have worked; the message is what it said."""


def run(command: Sequence[str | Path], **options: Any) -> str:
    """Run a command to its end, at most COMMAND_S. Returns its standard output. Raises: CommandFailed."""
    words = [str(word) for word in command]
    options.setdefault("timeout", COMMAND_S)
    done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **options)
    if done.returncode != 0:
        raise CommandFailed(f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return str(done.stdout)


def begin(command: Sequence[str | Path]) -> "subprocess.Popen[bytes]":
    """A command that runs beside the test, which waits for it."""
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


class Doors:
    """A store in a folder, its six devices beside it, a mount and a gateway that one owner serves.

    folder    everything lies in it: store, d0 to d5, mount, owner.log
    devices   given where they are not to be folders there
    warm      devices of a second tier, 2+1, where there is to be one
    metrics   host:port where a test has made it listen
    expected  parts of lines in the owner's log that are no complaint, because a test causes them
    """

    def __init__(self, folder: Path, devices: Sequence[Path] = (), warm: Sequence[Path] = ()) -> None:
        self.folder = folder
        self.store, self.mount, self.log = folder / "store", folder / "mount", folder / "owner.log"
        self.devices = tuple(devices) or tuple(folder / f"d{slot}" for slot in range(6))
        self.warm = tuple(warm)
        self.port = free_port()
        self.metrics = ""
        self.expected: list[str] = []
        self._clients: list[Any] = []

    # What an administrator does

    def make(self) -> None:
        """As mkfs.stratumfs does, once; without a process, which takes as long to start as an owner."""
        for path in (*self.devices, *self.warm, self.mount):
            path.mkdir(parents=True, exist_ok=True)
        hot = [path.resolve() for path in self.devices]
        warm = create.NewTier([path.resolve() for path in self.warm], 2, 1) if self.warm else None
        create.make_store(self.store.resolve(), hot, 4, 2, credentials.make(), warm)

    def start(self, *options: str) -> None:
        """mount.stratumfs with a gateway beside it; both answer on return."""
        words = ",".join((f"gateway=127.0.0.1:{self.port}", *options))
        run([BIN / "mount.stratumfs", self.store, self.mount, "-o", words, "--log", self.log])

    def stop(self) -> None:
        """stratumfs stop: all that was written is safe, and the owner gone, on return."""
        pid = self.pid
        try:
            run([BIN / "stratumfs", "stop", self.store])
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(f"the owner does not end; its threads: {_threads(pid)}") from error

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self, pid: int | None = None) -> None:
        """kill -9 the owner, at once if it is known who that is; it is gone on return, its mount dead."""
        pid = pid or self.pid
        assert pid is not None, "there is no owner to kill"
        _kill(pid)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(run([BIN / "stratumfs", "status", "--json", self.store]))
        return found

    def ask(self, request: Question) -> dict[str, Any]:
        """What the living owner answers in the end, without a process that asks. Raises: StratumError."""
        owner = client.connect(self.store)
        if owner is None:
            raise StoreClosing("there is no owner")
        with owner:
            return owner.ask(request)

    # What a user has

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> tuple[str, str]:
        """(access key, secret key), from the file that mkfs made."""
        parser = configparser.RawConfigParser()
        assert parser.read(self.store / "credentials"), "mkfs makes a file with the keys"
        section = parser["default"]
        return section["aws_access_key_id"], section["aws_secret_access_key"]

    def client(self, **config: Any) -> Any:
        """A boto3 client with its defaults, but for *config* and that it fails at once instead of trying again."""
        access_key, secret_key = self.credentials
        settings = {"retries": {"total_max_attempts": 1}, "connect_timeout": 10, "read_timeout": 60, **config}
        client = boto3.session.Session().client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            config=Config(**settings),
        )
        self._clients.append(client)
        return client

    def environment(self) -> dict[str, str]:
        """For clients in processes of their own: AWS's variables, and a home where they find nothing else."""
        return {
            "PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "AWS_SHARED_CREDENTIALS_FILE": str(self.store / "credentials"),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
            "S3_ENDPOINT_URL": self.url,
        }

    # What only a test wants

    @property
    def pid(self) -> int | None:
        """The owner's, as the kernel knows who listens on the control socket; None if nobody does."""
        with suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
            folder = os.open(self.store, os.O_PATH)
            try:
                asking.connect(f"/proc/self/fd/{folder}/control")
            finally:
                os.close(folder)
            pid, _, _ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return int(pid)
        return None

    @property
    def holder(self) -> int | None:
        """Who holds the store's lock, whether it answers already or not."""
        try:
            pid = int((self.store / "lock").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        # Of a dead holder the number is still there, and somebody else's by now.
        return pid if os.fsencode(self.store) in command.split(b"\0") else None

    def kill_holder(self) -> None:
        """kill -9 whoever holds the store's lock, if anybody does."""
        if (pid := self.holder) is not None:
            _kill(pid)

    def complaints(self) -> list[str]:
        """Lines of the owner's log that no test should cause unless it means to."""
        text = self.log.read_text() if self.log.exists() else ""
        lines = [line for line in text.splitlines() if {"ERROR", "CRITICAL"} & set(line.split()[:3])]
        return [line for line in lines if not any(words in line for words in self.expected)]

    def audit(self, tables_missing: int = 0) -> list[str]:
        """Once it is stopped: what fsck.stratumfs finds, and what is wrong with the catalog's rows, and with every cell
        that they name, once it was opened. *tables_missing*: see `audit_shards`.
        """
        return [f"fsck: {each}" for each in self.findings(self.fsck())] + trio.run(_audit, self.folder, tables_missing)

    def fsck(self) -> dict[str, Any]:
        """What ``fsck.stratumfs -n --full`` says of it, once it is stopped."""
        try:
            return fsck(self.store.resolve(), Wanted(mend=False, full=True), lambda text, done, total: None)
        finally:
            structlog.reset_defaults()

    @staticmethod
    def findings(found: dict[str, Any]) -> list[dict[str, Any]]:
        """Those that something is wrong by, beside devices that a test took away."""
        return [each for each in found["findings"] if each["outcome"] != "noted" and "not used" not in each["text"]]

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """A deadline for system calls, which nothing else interrupts: past it the owner is killed, and they fail."""
        late = threading.Event()

        def give_up() -> None:
            late.set()
            self.destroy()

        timer = threading.Timer(seconds, give_up)
        timer.start()
        try:
            yield
        except Exception as error:
            if late.is_set():
                raise TimeoutError(f"not done within {seconds} s, so the owner was killed") from error
            raise
        finally:
            timer.cancel()
        if late.is_set():
            raise TimeoutError(f"not done within {seconds} s, so the owner was killed")

    def _owners(self) -> list[int]:
        """Processes that own this store or are about to."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                words = path.read_bytes().split(b"\0")
                if b"stratumfs.owner" in words and os.fsencode(self.store) in words:
                    found.append(int(path.parent.name))
        return found

    def destroy(self) -> None:
        """End it whatever its state; never fails."""
        for each in self._clients:
            each.close()
        self._clients.clear()
        for pid in self._owners():
            _kill(pid)
        while self.mount in _mount_points():
            # Lazily: somebody's open file must not keep a dead mount alive.
            for command in (["umount", "-l"], ["fusermount3", "-u", "-z"]):
                if not subprocess.run([*command, str(self.mount)], check=False, capture_output=True).returncode:
                    break
            else:
                break


@contextmanager
def opened_doors(
    folder: Path, devices: Sequence[Path] = (), warm: Sequence[Path] = (), *, seconds: float = TEST_S
) -> Iterator[Doors]:
    """A store, made if it is not there, both doors open for at most *seconds*.

    Stopped cleanly if all went well, ended in any case.
    """
    doors = Doors(folder, devices, warm)
    try:
        with doors.within(seconds):
            if not (doors.store / "identity.json").exists():
                doors.make()
            doors.start()
            yield doors
            if doors.pid is not None:
                doors.stop()
    except BaseException:
        if doors.log.exists():
            print(*doors.log.read_text().splitlines()[-_LOG_TAIL:], sep="\n")
        raise
    finally:
        doors.destroy()


@pytest.fixture
def doors(tmp_path: Path) -> Iterator[Doors]:
    """A store of this test alone, both doors open. The test may kill, stop and start it."""
    with opened_doors(tmp_path) as found:
        yield found
        assert found.complaints() == []


@pytest.fixture
def tiered(tmp_path: Path) -> Iterator[Doors]:
    """As ``doors``, with a second tier of three devices."""
    with opened_doors(tmp_path, warm=[tmp_path / f"w{slot}" for slot in range(3)]) as found:
        yield found
        assert found.complaints() == []


@pytest.fixture(scope="module")
def shared_doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    """One store for all tests of a module: each has buckets of its own, none stops it."""
    with opened_doors(tmp_path_factory.mktemp("doors"), seconds=2 * TEST_S) as found:
        yield found
        assert found.complaints() == []


def _threads(pid: int | None) -> list[str]:
    """Where each thread of a process is, as the kernel sees it: name, state, system call, what it waits for."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            words = [(task / name).read_text().strip() for name in ("comm", "syscall", "wchan")]
            state = (task / "stat").read_text().rpartition(")")[2].split()[0]
            found.append(" ".join((*words, state)))
    return found


async def _audit(folder: Path, tables_missing: int) -> list[str]:
    async with opened(folder) as store:
        return await audit_rows(store) + await audit_shards(store, tables_missing)


def _kill(pid: int) -> None:
    """SIGKILL, and wait until the process is gone: then its locks and its side of the mount are too."""
    with suppress(ProcessLookupError):
        watch = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(watch, signal.SIGKILL)
            poll = select.poll()
            poll.register(watch, select.POLLIN)
            assert poll.poll(COMMAND_S * 1000), f"process {pid} does not die"
        finally:
            os.close(watch)


def _mount_points() -> list[Path]:
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    return [Path(os.fsdecode(line.split()[4])) for line in lines]
