"""The commands' side of the control socket."""

import io
import os
import select
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from stratumfs.errors import ConfigError, StoreInUse
from stratumfs.owner import client, create
from stratumfs.owner.control import Listening
from stratumfs.owner.lock import Locks
from stratumfs.owner.messages import Status
from stratumfs.owner.run import FIRST_REQUEST_S
from tests.stratumfs.owner.helpers import KEYS, devices


def test_a_daemon_holds_nothing_that_its_command_was_started_with(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    with client.start(tmp_path, None) as owner:
        os.close(writer)
        # Closed by exec. The owner itself, which nobody asks anything, would end only after FIRST_REQUEST_S.
        ended, _, _ = select.select([reader], [], [], FIRST_REQUEST_S / 2)
        os.close(reader)
        assert ended, "the owner keeps the pipe of a script open"
        with pytest.raises(ConfigError, match="is missing"):
            owner.ask(Status())


def test_who_stays_in_the_foreground_is_told_that_the_owner_was_killed(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    pid = os.posix_spawnp("sleep", ["sleep", "600"], os.environ)
    os.kill(pid, signal.SIGKILL)
    theirs.close()
    with client.Owner(ours, client.Started(pid, io.BytesIO())) as owner:
        assert owner.wait_ended() == "the owner of the store ended"


def test_regression_an_owner_whose_store_folder_has_died_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds the locks, and is heard in another folder some seconds later."""
    monkeypatch.setattr(client, "_POLL_S", 0.0)
    create.make_store(tmp_path / "store", devices(tmp_path), 4, 2, KEYS)
    locks, looks, heard = Locks(), 0, tmp_path / "d3"

    def find() -> Path:
        nonlocal looks
        looks += 1
        if looks == 3:
            stack.callback(Listening(heard).socket.close)
        return heard if looks >= 3 else tmp_path / "store"

    with ExitStack() as stack:
        locks.take(tmp_path / "d3")
        stack.callback(locks.release)
        found = client.connect_to_holder(find)
        assert found is not None
        found.close()
    assert client.connect_to_holder(lambda: tmp_path / "store") is None


def test_a_store_that_is_held_by_who_does_not_answer_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TAKEOVER_WAIT_S", -1.0)
    create.make_store(tmp_path / "store", devices(tmp_path), 4, 2, KEYS)
    locks = Locks()
    locks.take(tmp_path / "d0")
    try:
        with pytest.raises(StoreInUse):
            client.connect_to_holder(lambda: tmp_path / "store")
    finally:
        locks.release()
