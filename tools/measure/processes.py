"""Servers of a measurement: started, waited for, their processor time read, ended with all that they started."""

import errno
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
START_S = 60.0
_PORT_MIN, _PORT_MAX = 10_000, 65_536
_given: set[int] = set()
"""Ports that this process was given already: it may not listen yet on some."""
_END_S = 1.0
"""Nobody looks at what a server wrote once it has ended; SeaweedFS alone would take ten."""


class NotStarted(Exception):
    """A server that does not answer; the message ends with what it wrote."""


class Server:
    """A process in a session of its own, with all that it starts. *log* gets what it writes."""

    def __init__(self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log = log
        with log.open("wb") as out:
            self._child = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=None if environment is None else {**os.environ, **environment},
            )
        self.pid = self._child.pid

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """Raises: NotStarted."""
        deadline = time.monotonic() + START_S
        while not ready():
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise NotStarted(f"{self._child.args!r}: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)

    def end(self) -> None:
        """Ask it to end; kill what is left."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(_END_S)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()


def cpu_s(root: int) -> float:
    """Processor seconds that a process and its descendants have used, those of ended children included."""
    parents: dict[int, int] = {}
    used: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # The name of a program may hold blanks and brackets: what counts stands behind the last one.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(fields[1])
                used[int(entry.name)] = sum(map(int, fields[11:15]))
    ticks = used.get(root, 0)
    below = [root]
    while below:
        parent = below.pop()
        for pid in [pid for pid, above in parents.items() if above == parent]:
            ticks += used[pid]
            below.append(pid)
    return ticks * _TICK_S


def free_port() -> int:
    """One to listen on later: no outgoing connection is given it before, for those have a range of their own.

    Nor is another worker of the same tests given it.
    """
    while True:
        port = secrets.choice([port for port in _own_ports() if port not in _given])
        try:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            _given.add(port)
            return port


def _own_ports() -> range:
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    last = outgoing if outgoing > 2 * _PORT_MIN else _PORT_MAX
    worker, count = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return range(_PORT_MIN + int(worker.removeprefix("gw")) % count, last, count)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def is_mounted(place: Path) -> bool:
    return any(line.split()[4] == os.fsencode(place) for line in Path("/proc/self/mountinfo").read_bytes().splitlines())


def unmount(place: Path) -> None:
    """Whatever its state; never fails."""
    while is_mounted(place):
        for command in (["umount"], ["umount", "-l"], ["fusermount3", "-u", "-z"]):
            if not subprocess.run([*command, str(place)], check=False, capture_output=True).returncode:
                break
        else:
            return
