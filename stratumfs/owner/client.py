"""The commands' side of the control socket: find the owner of a store, start one if none lives, ask.

Everything here blocks: commands are small synchronous programs. The owner is started by fork and exec at once, with a
connection already made (one end of a socket pair), so that what goes wrong while it opens the store comes back on it.
"""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import msgspec

from stratumfs.devices.identity import read_identity
from stratumfs.errors import StoreBusy, StoreClosing, StoreInUse
from stratumfs.owner.asking import ask as ask_all
from stratumfs.owner.lock import is_held
from stratumfs.owner.messages import (
    ANSWER_BYTES_MAX,
    CONTROL_SOCKET,
    STDERR,
    Answer,
    Done,
    Ended,
    Failed,
    OwnerError,
    Progress,
    Question,
    Request,
    decode_answer,
    encode,
    revive,
)

TAKEOVER_WAIT_S = 30.0
"""How long a command waits for an owner that is just ending, or that is a command without doors."""
_POLL_S = 0.1
_SAY_SO_S = 1.0
"""After so long a command that waits says for whom."""
ANSWER_WAIT_S = 60.0
"""For an answer to a mere question. An owner that needs longer hangs, most likely on the catalog's disk."""

CREDENTIAL_VARIABLES = ("STRATUM_ACCESS_KEY_ID", "STRATUM_SECRET_ACCESS_KEY")
"""A gateway's command sends them with its request; they do not stay in the daemon's environment for the next one."""

Report = Callable[[str], None]
Follow = Callable[[Progress], None]


class Started(NamedTuple):
    """An owner that this process started: its pid, and what it wrote to standard error before it answered."""

    pid: int
    words: IO[bytes]


class Owner:
    """A connection to a living owner."""

    def __init__(self, connection: socket.socket, started: Started | None = None) -> None:
        self._socket = connection
        self._reader = connection.makefile("rb")
        self._started = started

    def __enter__(self) -> "Owner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with suppress(OSError):
            self._reader.close()
        self._socket.close()
        if self._started is not None:
            self._started.words.close()

    def ask(self, request: Request, report: Report | None = None, wait_s: float | None = None) -> dict[str, Any]:
        """Send a request, wait for its end, at most *wait_s* if that is given.

        Raises: what the owner raised; StoreClosing if it ended meanwhile; StoreBusy if it does not answer.
        """
        self._socket.settimeout(wait_s)
        try:
            self._socket.sendall(encode(request))
        except (BrokenPipeError, ConnectionResetError):
            raise StoreClosing("the owner of the store ended") from None
        while True:
            answer = self._next_answer()
            if isinstance(answer, Progress):
                if report is not None:
                    report(answer.text)
            elif isinstance(answer, Failed):
                raise revive(self._with_words(answer))
            elif isinstance(answer, Done):
                return answer.result
            else:
                raise OwnerError("the owner answered out of turn")

    def follow(self, request: Request, follow: Follow) -> dict[str, Any]:
        """As ``ask`` for what can take hours. An interrupt (Ctrl-C) asks the owner to stop, and waits for what it says.

        Raises: as ``ask``.
        """
        self._socket.settimeout(None)
        self._socket.sendall(encode(request))
        interrupted = False
        while True:
            try:
                answer = self._next_answer()
            except KeyboardInterrupt:
                interrupted = True
                self.let_go()
                continue
            except StoreClosing:
                if interrupted:
                    raise KeyboardInterrupt from None
                raise
            if isinstance(answer, Progress):
                follow(answer)
            elif isinstance(answer, Failed):
                raise revive(answer)
            elif isinstance(answer, Done):
                return answer.result
            else:
                raise OwnerError("the owner answered out of turn")

    def wait_ended(self, report: Report | None = None) -> str:
        """After a door was opened with ``hold``: wait until it is closed. Returns the reason, empty if asked for."""
        while True:
            try:
                answer = self._next_answer()
            except (StoreClosing, OwnerError):
                return "the owner of the store ended"
            if isinstance(answer, Ended):
                return answer.reason
            if isinstance(answer, Progress) and report is not None:
                report(answer.text)

    def let_go(self) -> None:
        """Ask for the end of the held door by closing our side; ``wait_ended`` says when it is closed."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def wait_gone(self) -> None:
        """After ``Shutdown``: return when the owner's process has let go of the store."""
        with suppress(OSError):
            while self._socket.recv(4096):
                pass

    def _next_answer(self) -> Answer:
        try:
            line = self._reader.readline(ANSWER_BYTES_MAX)
        except ConnectionResetError:
            line = b""
        except TimeoutError:
            raise StoreBusy("the owner of the store does not answer: its log may say which disk it waits for") from None
        if not line.endswith(b"\n"):
            raise self._lost()
        return decode_answer(line)

    def _lost(self) -> Exception:
        """The connection broke off. Of an owner that we started we learn how it ended, and do not try again."""
        if self._started is None:
            return StoreClosing("the owner of the store ended before it answered")
        _, status = os.waitpid(self._started.pid, 0)
        last = self._last_words() or f"exit status {os.waitstatus_to_exitcode(status)}"
        return OwnerError(f"the owner of the store ended before it answered: {last}")

    def _with_words(self, answer: Failed) -> Failed:
        """Libraries, libfuse among them, say what went wrong on standard error alone."""
        words = self._last_words()
        return msgspec.structs.replace(answer, message=f"{answer.message} ({words})") if words else answer

    def _last_words(self) -> str:
        """The last line that an owner which we started wrote to its standard error."""
        if self._started is None:
            return ""
        self._started.words.seek(0)
        words = self._started.words.read().decode("utf-8", "replace").strip()
        return words.splitlines()[-1] if words else ""


def connect(store: Path) -> Owner | None:
    """The living owner of the store in this folder; None if nobody listens.

    Raises: PermissionError if the store is somebody else's.
    """
    folder = os.open(store, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{CONTROL_SOCKET}")
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    except PermissionError:
        connection.close()
        raise PermissionError(f"{store} belongs to another user: ask as that user or as root") from None
    finally:
        os.close(folder)
    return Owner(connection)


def demand_no_owner(store: Path) -> None:
    """Raises: StoreInUse if an owner answers; PermissionError as `connect`."""
    owner = connect(store)
    if owner is not None:
        owner.close()
        raise StoreInUse(
            f"{store} has open doors: `stratumfs stop {store}` closes them, and `stratumfs scrub` needs not"
        )


def connect_to_holder(find: Callable[[], Path]) -> Owner | None:
    """As `connect`; None only if nobody holds the store either.

    An owner whose store folder dies is heard some seconds later in the folder that commands are led to then, which
    *find* says. Raises: StoreInUse after TAKEOVER_WAIT_S; as `connect`; what *find* raises.
    """
    until = time.monotonic() + TAKEOVER_WAIT_S
    while True:
        folder = find()
        owner = connect(folder)
        if owner is not None or not _is_held(folder):
            return owner
        if time.monotonic() > until:
            raise StoreInUse(f"{folder} is in use by a process that does not answer")
        time.sleep(_POLL_S)


def _is_held(store: Path) -> bool:
    """By its folder, or any of its devices that answers."""
    folders = (store, *(entry.path for entry in read_identity(store).devices))
    return True in ask_all({folder: partial(is_held, folder) for folder in folders}, enough=bool).values()


def start(store: Path, log: Path | None) -> Owner:
    """Start a daemon that owns the store; the connection returned keeps it alive until its first request is done."""
    ours, theirs = socket.socketpair()
    words = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the connection
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        _keep_open_files()
        theirs.set_inheritable(True)
        # In the foreground the log goes where the command's own words go.
        errors = sys.stderr.fileno() if log == STDERR else words.fileno()
        arguments = [sys.executable, "-P", "-m", "stratumfs.owner", "--first-client", str(theirs.fileno())]
        if log is not None:
            arguments += ["--log", str(log)]
        pid = os.posix_spawn(
            sys.executable,
            [*arguments, "--", str(store)],
            {name: value for name, value in os.environ.items() if name not in CREDENTIAL_VARIABLES},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),
                (os.POSIX_SPAWN_DUP2, errors, 2),
            ],
            setsid=True,
        )
    finally:
        theirs.close()
        os.close(null)
    return Owner(ours, Started(pid, words))


def _keep_open_files() -> None:
    """A daemon must not hold what its command was started with, as the pipe or the lock file of a script."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with suppress(OSError):  # the listing's own is closed by now
                os.set_inheritable(int(name), False)


def ask(
    store: Path, request: Request, *, start_owner: bool, log: Path | None = None, report: Report | None = None
) -> tuple[Owner, dict[str, Any]]:
    """Ask the owner of a store, waiting for one that is ending and starting one if *start_owner*.

    Returns the connection, which the caller closes, and the result. Raises: StoreInUse if somebody holds the store for
    longer than TAKEOVER_WAIT_S without answering, or if there is no owner and none was to be started.
    """
    begun = time.monotonic()
    said = False
    while True:
        owner = connect(store)
        if owner is None:
            if not start_owner:
                raise StoreInUse(f"{store} has no owner with an open door")
            owner = start(store, log)
        try:
            return owner, owner.ask(request, report)
        except (StoreInUse, StoreClosing) as error:
            owner.close()
            waited = time.monotonic() - begun
            if waited > TAKEOVER_WAIT_S:
                raise
            if report is not None and waited > _SAY_SO_S and not said:
                said = True
                report(f"{error}: waiting for its end")
            time.sleep(_POLL_S)
        except BaseException:
            owner.close()
            raise


def ask_or_open(store: Path, request: Question, follow: Follow | None = None) -> dict[str, Any]:
    """Ask the living owner; where none lives, be one for the length of the question.

    follow: told how far it is, of what takes long. Raises: StoreInUse if the store is held for longer than
    TAKEOVER_WAIT_S by somebody who does not answer.
    """
    deadline = time.monotonic() + TAKEOVER_WAIT_S
    while True:
        try:
            owner = connect(store)
            if owner is not None:
                with owner:
                    return owner.follow(request, follow) if follow else owner.ask(request, wait_s=ANSWER_WAIT_S)
            from stratumfs.owner.brief import answer  # the whole store, which an asking command does not need

            return answer(store, request, follow)
        except (StoreInUse, StoreClosing):
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
