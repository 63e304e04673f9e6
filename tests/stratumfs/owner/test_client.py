"""The commands' side of the control socket."""

import io
import os
import select
import signal
import socket
from pathlib import Path

import pytest

from stratumfs.errors import ConfigError
from stratumfs.owner import client
from stratumfs.owner.messages import Status
from stratumfs.owner.run import FIRST_REQUEST_S


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
