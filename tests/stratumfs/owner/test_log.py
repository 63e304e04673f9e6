import json
import logging
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from stratumfs.config import Log, LogFormat, LogLevel
from stratumfs.owner import log
from stratumfs.owner.log import Sink, configure


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """The process's own logging, as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hook = sys.excepthook
    yield
    sys.excepthook = hook
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


class Hanging:
    """A place that takes lines only once it is let go."""

    def __init__(self) -> None:
        self.held = threading.Event()
        self.written: list[str] = []
        self.closed = False

    def write(self, level: str, text: str) -> None:
        self.held.wait()
        self.written.append(text)

    def close(self) -> None:
        self.closed = True


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def test_events_are_lines_with_time_level_and_quoted_values(tmp_path: Path) -> None:
    sink = configure(Log(), tmp_path / "log", tmp_path)
    structlog.get_logger("a").info("opened", path="/a b", count=3, odd='x="y"\n', empty="")
    structlog.get_logger("a").debug("not said")
    sink.close()
    (line,) = lines(tmp_path / "log")
    assert line.split(" ", 1)[0].endswith("Z")
    assert line.split(" ", 1)[1] == 'INFO opened path="/a b" count=3 odd="x=\\"y\\"\\n" empty=""'


def test_errors_keep_their_traceback_and_other_loggers_are_heard(tmp_path: Path) -> None:
    sink = configure(Log(), tmp_path / "log", tmp_path)
    try:
        raise ZeroDivisionError("division by zero")
    except ZeroDivisionError:
        structlog.get_logger().exception("failed")
    logging.getLogger("gateway.http").warning("odd %s", "request")
    logging.getLogger("gateway.http").info("not said")
    sink.close()
    text = (tmp_path / "log").read_text()
    assert "ERROR failed\nTraceback (most recent call last):" in text
    assert "ZeroDivisionError: division by zero" in text
    assert 'WARNING "odd request" logger=gateway.http' in text or "WARNING odd request logger=gateway.http" in text
    assert "not said" not in text


def test_json_is_one_object_a_line(tmp_path: Path) -> None:
    sink = configure(Log(level=LogLevel.DEBUG, format=LogFormat.JSON), tmp_path / "log", tmp_path)
    structlog.get_logger().debug("opened", where=Path("/x"))
    sink.close()
    (line,) = lines(tmp_path / "log")
    found = json.loads(line)
    assert (found["event"], found["level"], found["where"]) == ("opened", "debug", "/x")


def test_without_journal_and_syslog_the_log_lies_in_the_store_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "JOURNAL_SOCKET", tmp_path / "none")
    monkeypatch.setattr(log, "SYSLOG_SOCKET", tmp_path / "none")
    sink = configure(Log(), None, tmp_path)
    structlog.get_logger().info("here")
    sink.close()
    assert "INFO here" in (tmp_path / "owner.log").read_text()


def test_the_journal_gets_datagrams_of_its_own_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        monkeypatch.setattr(log, "JOURNAL_SOCKET", tmp_path / "journal")
        sink = configure(Log(), None, tmp_path)
        structlog.get_logger().warning("two\nlines")
        sink.close()
        datagram = journal.recv(65536)
    head, _, body = datagram.partition(b"MESSAGE\n")
    assert b"PRIORITY=4\n" in head
    assert b"SYSLOG_IDENTIFIER=stratumfs\n" in head
    text = body[8:-1]
    assert int.from_bytes(body[:8], "little") == len(text)
    assert text == b"WARNING two\nlines"


def test_a_place_that_hangs_costs_lines_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LINES_WAITING_MAX", 3)
    place = Hanging()
    sink = Sink(place)
    for number in range(20):
        sink.put("info", str(number))
    place.held.set()
    sink.close()
    assert place.written[0] == "0"
    assert any(text.startswith("log_lines_dropped count=") for text in place.written)
    assert len(place.written) < 20
    assert place.closed


def test_a_file_that_cannot_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        configure(Log(), tmp_path / "missing" / "log", tmp_path)
