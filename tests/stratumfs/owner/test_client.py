"""The commands' side of the control socket."""

import os
import select
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
