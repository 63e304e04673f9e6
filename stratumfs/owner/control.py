"""The control socket: how commands ask the owner of a store.

A Unix socket ``control`` in the store folder, mode 0600; beside that, the peer's user is asked of the kernel: root and
the user that the owner runs as, nobody else. Lines and connections are bounded, so that a client that went astray
costs a slot, not the owner.
"""

import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import structlog
import trio

from stratumfs.errors import ConfigError, DeviceFailed, StratumError
from stratumfs.limits import DEVICE_DEADLINE_S
from stratumfs.owner.messages import (
    CONTROL_SOCKET,
    LINE_BYTES_MAX,
    Answer,
    Request,
    decode_request,
    encode,
    failed,
)
from stratumfs.threads import in_thread

CONNECTIONS_MAX = 64
LOOK_S = 5.0
"""How often it is looked whether the socket is where commands look for it."""
ANSWER_S = DEVICE_DEADLINE_S + LOOK_S
"""For finding the folder: each device is asked in it, and waited for as long as any."""
ACCEPT_AGAIN_S = 0.5
"""Where the process or the machine has no room for one more client: the others go on, and so does the store."""
REQUEST_LINE_WAIT_S = 30.0
"""A client that connects and says nothing is sent away; one that holds a door may be silent for ever."""

_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
_log = structlog.get_logger(__name__)


class Connection:
    """One client: reads its requests, writes its answers. Used by one task, but ``send`` may be called by a second."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.user = peer_user(stream.socket)
        self._buffer = bytearray()
        self._sending = trio.Lock()

    async def receive(self) -> Request | None:
        """The next request; None when the client closed its side.

        Raises: ConfigError for a line that is no request or too long.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LINE_BYTES_MAX:
                raise ConfigError(f"a request is at most {LINE_BYTES_MAX} bytes")
            data = await self._stream.receive_some(65536)
            if not data:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return decode_request(line)

    async def send(self, answer: Answer) -> None:
        """Write one line. A client that left is no error: what it asked for goes on."""
        async with self._sending:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_all(encode(answer))

    async def wait_closed(self) -> None:
        """Return when the client closed its side (or broke off); what it still sends is dropped."""
        with suppress(trio.BrokenResourceError):
            while await self._stream.receive_some(65536):
                pass


T = TypeVar("T")
Handler = Callable[[Request, Connection], Awaitable[bool]]
"""Carries out one request and answers it, errors too. False: nothing more is to come on this connection."""


async def serve_connection(stream: trio.SocketStream, handle: Handler) -> None:
    """Answer one client's requests until it leaves."""
    connection = Connection(stream)
    async with stream:
        while True:
            try:
                with trio.fail_after(REQUEST_LINE_WAIT_S):
                    request = await connection.receive()
            except (trio.TooSlowError, trio.BrokenResourceError):
                return
            except ConfigError as error:
                # What follows a line that is no request cannot be told from it.
                await connection.send(failed(error))
                return
            if request is None or not await handle(request, connection):
                return


async def serve(
    listener: socket.socket,
    handle: Handler,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept clients on a listening socket until cancelled."""
    slots = trio.Semaphore(CONNECTIONS_MAX)
    server = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    async with trio.open_nursery() as nursery:
        task_status.started()
        while True:
            await slots.acquire()
            try:
                stream = await _accept(server)
            except BaseException:
                slots.release()
                raise
            nursery.start_soon(_serve_client, stream, handle, slots)


async def _accept(server: trio.SocketListener) -> trio.SocketStream:
    """The next client; one that has left already is none. Those for whom there is no descriptor wait in the kernel."""
    while True:
        try:
            return await server.accept()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            _log.warning("control_clients_wait", error=str(error))
            await trio.sleep(ACCEPT_AGAIN_S)


async def _serve_client(stream: trio.SocketStream, handle: Handler, slots: trio.Semaphore) -> None:
    try:
        user = peer_user(stream.socket)
        if not may_ask(user):
            _log.warning("control_client_refused", user=user)
            await trio.aclose_forcefully(stream)
            return
        await serve_connection(stream, handle)
    finally:
        slots.release()


def peer_user(client: trio.socket.SocketType) -> int:
    """The user id at the other end, as the kernel saw it when the client connected."""
    size = struct.calcsize("3i")
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    _, user, _ = struct.unpack("3i", credentials)
    return int(user)


def may_ask(user: int) -> bool:
    return user in (0, os.geteuid())


class Listening:
    """A bound control socket. Made and asked in threads."""

    def __init__(self, folder: Path) -> None:
        """The caller holds the store's locks: what lies in *folder* under the same name is a dead owner's.

        The address is spelt by way of /proc/self/fd, for a socket's address has room for 107 bytes only.
        """
        self.folder, self.path = folder, folder / CONTROL_SOCKET
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        opened = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with suppress(FileNotFoundError):
                self.path.unlink()
            os.fchmod(self.socket.fileno(), 0o600)  # which the file gets; the umask is that of all threads
            self.socket.bind(f"/proc/self/fd/{opened}/{CONTROL_SOCKET}")
            self.socket.listen(CONNECTIONS_MAX)
            self._inode = self.path.stat().st_ino
        except BaseException:
            self.socket.close()
            raise
        finally:
            os.close(opened)

    def is_there(self) -> bool:
        """Whether what commands find is this one."""
        try:
            return self.path.stat().st_ino == self._inode
        except OSError:
            return False

    def unlink(self) -> None:
        with suppress(OSError):
            self.path.unlink()


@asynccontextmanager
async def bound_socket(folder: Path) -> AsyncIterator[Listening]:
    """The control socket of a store, removed at the end."""
    found = await in_thread(Listening, folder)
    try:
        yield found
    finally:
        found.socket.close()
        with trio.CancelScope(shield=True), trio.move_on_after(LOOK_S):
            await in_thread(found.unlink, abandon_on_cancel=True)


async def serve_anywhere(
    first: Listening,
    find: Callable[[], Path],
    handle: Handler,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen, until cancelled; where the folder of the socket is lost, in the one that commands are led to.

    find: that folder, made if it has to be; in a thread. Raises: StratumError, OSError; then it is asked again.
    """
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
        current = first
        await nursery.start(serve, current.socket, handle)
        task_status.started()
        while True:
            await trio.sleep(LOOK_S)
            try:
                folder = await _answer(find)
                if folder == current.folder and await _answer(current.is_there):
                    continue
                current = await stack.enter_async_context(bound_socket(folder))
            except (StratumError, OSError) as error:
                _log.warning("nowhere_to_listen", lost=str(current.path), error=str(error))
            else:
                _log.warning("control_moved", now=str(current.path))
                await nursery.start(serve, current.socket, handle)


async def _answer(ask: Callable[[], T]) -> T:
    """Raises: DeviceFailed where a disk gives none; what *ask* raises."""
    with trio.move_on_after(ANSWER_S):
        return await in_thread(ask, abandon_on_cancel=True)
    raise DeviceFailed("a disk does not answer")
