"""The control socket, with a handler of the test's own behind it."""

import json
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from stratumfs.errors import DeviceFailed, NotFound, StoreReadOnly
from stratumfs.owner import client, control, messages
from stratumfs.owner.control import Connection
from stratumfs.owner.messages import CloseDoor, Done, Progress, Request, Status


async def echo(request: Request, connection: Connection) -> bool:
    await connection.send(Progress("working"))
    await connection.send(Done({"request": type(request).__name__}))
    return True


async def talk(folder: Path, *lines: bytes, handler: control.Handler = echo) -> list[dict[str, object]]:
    """Send lines, close, and read all that comes back."""
    async with control.bound_socket(folder) as bound, trio.open_nursery() as nursery:
        await nursery.start(control.serve, bound.socket, handler)
        answers = b""
        async with await trio.open_unix_socket(str(folder / messages.CONTROL_SOCKET)) as stream:
            with suppress(trio.BrokenResourceError):  # it may have had enough before the end
                await stream.send_all(b"".join(lines))
                await stream.send_eof()
            with suppress(trio.BrokenResourceError):
                while data := await stream.receive_some():
                    answers += data
        nursery.cancel_scope.cancel()
    return [json.loads(line) for line in answers.splitlines()]


async def test_requests_are_answered_in_order_on_one_connection(tmp_path: Path) -> None:
    answers = await talk(tmp_path, messages.encode(Status()), messages.encode(CloseDoor("/mnt")))
    assert [answer["is"] for answer in answers] == ["progress", "done"] * 2
    assert answers[1]["result"] == {"request": "Status"}
    assert answers[3]["result"] == {"request": "CloseDoor"}


@pytest.mark.parametrize(
    "line",
    [b"\n", b"nonsense\n", b"{}\n", b'{"do":"dance"}\n', b'{"do":"status","x":1}\n', b'{"do":"close"}\n', b"\xff\xfe\n",
     b'{"do":"close","where":7}\n', b"[" * 5000 + b"\n"],
)  # fmt: skip
async def test_what_is_no_request_is_refused_and_the_connection_ends(tmp_path: Path, line: bytes) -> None:
    answers = await talk(tmp_path, line, messages.encode(Status()))
    assert [(answer["is"], answer["kind"]) for answer in answers] == [("failed", "ConfigError")]


async def test_a_line_without_an_end_is_refused(tmp_path: Path) -> None:
    answers = await talk(tmp_path, b"x" * (messages.LINE_BYTES_MAX + 70_000))
    assert [answer["kind"] for answer in answers] == ["ConfigError"]


async def test_the_socket_is_private_replaces_a_dead_one_and_goes_with_its_owner(tmp_path: Path) -> None:
    path = tmp_path / messages.CONTROL_SOCKET
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    async with control.bound_socket(tmp_path):
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert not path.exists()


async def test_where_the_folder_is_lost_it_listens_in_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "LOOK_S", 0.1)
    lost, found, refused = tmp_path / "lost", tmp_path / "found", list[int]()
    lost.mkdir()

    def find() -> Path:
        if lost.exists():
            return lost
        if not refused:
            refused.append(1)
            raise DeviceFailed("no device is up")
        found.mkdir(exist_ok=True)
        return found

    async with control.bound_socket(lost) as bound, trio.open_nursery() as nursery:
        await nursery.start(control.serve_anywhere, bound, find, echo)
        (lost / messages.CONTROL_SOCKET).unlink()
        lost.rmdir()
        path = found / messages.CONTROL_SOCKET
        with trio.fail_after(60):
            while not await trio.Path(path).exists():
                await trio.lowlevel.checkpoint()
        owner = await trio.to_thread.run_sync(client.connect, found)
        assert owner is not None
        with owner:
            assert await trio.to_thread.run_sync(owner.ask, Status()) == {"request": "Status"}
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_folder_with_a_long_name_has_a_socket_too(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 200)
    folder.mkdir()
    async with control.bound_socket(folder) as bound, trio.open_nursery() as nursery:
        await nursery.start(control.serve, bound.socket, echo)

        def ask() -> dict[str, object]:
            owner = client.connect(folder)
            assert owner is not None
            with owner:
                return owner.ask(Status())

        assert await trio.to_thread.run_sync(ask) == {"request": "Status"}
        nursery.cancel_scope.cancel()


def test_root_and_the_owners_user_may_ask_and_nobody_else() -> None:
    assert control.may_ask(0)
    assert control.may_ask(os.geteuid())
    assert not control.may_ask(os.geteuid() + 12345)


async def test_the_kernel_says_who_asks_and_who_may_not_gets_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket's mode keeps others out; should it be opened up, their user id does."""
    asked: list[int] = []

    def nobody(user: int) -> bool:
        asked.append(user)
        return False

    monkeypatch.setattr(control, "may_ask", nobody)
    async with control.bound_socket(tmp_path) as bound, trio.open_nursery() as nursery:
        await nursery.start(control.serve, bound.socket, echo)
        async with await trio.open_unix_socket(str(tmp_path / messages.CONTROL_SOCKET)) as stream:
            assert await stream.receive_some() == b""
        nursery.cancel_scope.cancel()
    assert asked == [os.geteuid()]


def test_errors_survive_the_socket() -> None:
    for error in (
        StoreReadOnly("device x failed"),
        NotFound("no door"),
        PermissionError(13, "Permission denied", "/x"),
        FileNotFoundError(2, "No such file or directory", "/\udce9"),
    ):
        answer = messages.decode_answer(messages.encode(messages.failed(error)))
        assert isinstance(answer, messages.Failed)
        revived = messages.revive(answer)
        assert str(error.args[0] if isinstance(error, NotFound) else "") in str(revived)
        assert isinstance(revived, OSError if isinstance(error, OSError) else type(error))
    answer = messages.failed(ZeroDivisionError("division by zero"))
    assert isinstance(messages.revive(answer), messages.OwnerError)


async def test_an_answer_may_be_longer_than_any_request(tmp_path: Path) -> None:
    """`explain` of an object in hundreds of volumes."""
    text = "x" * (2 * messages.LINE_BYTES_MAX)

    async def tell(_: Request, connection: Connection) -> bool:
        await connection.send(Done({"text": text}))
        return True

    async with control.bound_socket(tmp_path) as bound, trio.open_nursery() as nursery:
        await nursery.start(control.serve, bound.socket, tell)

        def ask() -> object:
            owner = client.connect(tmp_path)
            assert owner is not None
            with owner:
                return owner.ask(Status())

        assert await trio.to_thread.run_sync(ask) == {"text": text}
        nursery.cancel_scope.cancel()
