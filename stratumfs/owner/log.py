"""Where the owner's log goes: a file, the journal, syslog, or ``owner.log`` in the store folder where neither is.

structlog and the standard library's loggers (of Hypercorn and Quart) end in one sink, which a thread of its own writes
behind a bounded queue: a disk that hangs must not stop the loop by way of its own log line. What does not fit into the
queue is counted and said later.
"""

import json
import logging
import os
import queue
import socket
import sys
import threading
import traceback
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import structlog

from stratumfs.config import Log, LogFormat, LogLevel
from stratumfs.owner.messages import STDERR

LINES_WAITING_MAX = 10_000
JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
SYSLOG_SOCKET = Path("/dev/log")
LOG_FILE = "owner.log"
_IDENTIFIER = "stratumfs"
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_DAEMON_FACILITY = 3

_log = structlog.get_logger(__name__)


class Destination(Protocol):
    """Where lines go. Both are called in the sink's thread; an OSError costs that line alone."""

    def write(self, level: str, text: str) -> None: ...

    def close(self) -> None: ...


class Sink:
    """A bounded queue and the thread that empties it into *destination*."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._lines: queue.Queue[tuple[str, str] | None] = queue.Queue(LINES_WAITING_MAX)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, level: str, text: str) -> None:
        """Queue a line; never waits."""
        try:
            self._lines.put_nowait((level, text))
        except queue.Full:
            self._dropped += 1

    def close(self, wait_s: float = 2.0) -> None:
        """Write what is queued, then end; gives up after *wait_s* where the place of the log hangs."""
        with suppress(queue.Full):
            self._lines.put(None, timeout=wait_s)
        self._thread.join(wait_s)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            with suppress(OSError, ValueError):
                self._destination.write(*line)
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    self._destination.write("warning", f"log_lines_dropped count={dropped}")
        self._destination.close()


def configure(settings: Log, file: Path | None, store: Path) -> Sink:
    """Send all logs of this process to one sink; the caller closes it at the end. Raises: OSError for a bad *file*."""
    destination, stamped = _destination(file, store)
    sink = Sink(destination)
    _configure_structlog(settings, sink, stamped)
    _configure_standard(settings)
    return sink


def _destination(file: Path | None, store: Path) -> tuple[Destination, bool]:
    """Where the log goes, and whether its lines need a time of their own."""
    if file == STDERR:
        return ToStderr(), True
    if file is not None:
        return ToFile(file), True
    if JOURNAL_SOCKET.is_socket():
        return ToJournal(), False
    if SYSLOG_SOCKET.is_socket():
        return ToSyslog(), False
    return ToFile(store / LOG_FILE), True


class ToFile:
    """Lines appended to a file. It is opened by name for each, for a log rotation may have moved it away."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("a", encoding="utf-8"):
            pass

    def write(self, level: str, text: str) -> None:
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(text + "\n")

    def close(self) -> None:
        pass


class ToStderr:
    """Of a command in the foreground. A terminal that went away is no reason to stop."""

    def write(self, level: str, text: str) -> None:
        os.write(2, text.encode("utf-8", "replace") + b"\n")

    def close(self) -> None:
        pass


class ToJournal:
    """The journal's own datagrams, so that level and lines arrive whole (systemd, "Native Journal Protocol")."""

    def __init__(self) -> None:
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def write(self, level: str, text: str) -> None:
        body = text.encode("utf-8", "replace")
        head = f"SYSLOG_IDENTIFIER={_IDENTIFIER}\nPRIORITY={_PRIORITIES.get(level, 6)}\nMESSAGE\n".encode()
        self._channel.sendto(head + len(body).to_bytes(8, "little") + body + b"\n", str(JOURNAL_SOCKET))

    def close(self) -> None:
        self._channel.close()


class ToSyslog:
    def __init__(self) -> None:
        self._channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def write(self, level: str, text: str) -> None:
        priority = _DAEMON_FACILITY * 8 + _PRIORITIES.get(level, 6)
        for line in text.splitlines():
            self._channel.sendto(f"<{priority}>{_IDENTIFIER}[{os.getpid()}]: {line}".encode(), str(SYSLOG_SOCKET))

    def close(self) -> None:
        self._channel.close()


def adopt_stderr() -> None:
    """From now on what libraries write to standard error becomes lines of the log (libfuse has no other voice)."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, False)
    os.dup2(writer, 2)
    os.close(writer)

    def follow() -> None:
        with os.fdopen(reader, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.strip():
                    _log.warning("stderr", text=line.rstrip())

    threading.Thread(target=follow, name="stderr", daemon=True).start()


def _configure_structlog(settings: Log, sink: Sink, stamped: bool) -> None:
    render = _render_json if settings.format is LogFormat.JSON else _render_text
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_log_level,
            _add_traceback,
            *([_add_time] if stamped else []),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_number(settings.level)),
        logger_factory=lambda *_: _SinkLogger(sink),
        cache_logger_on_first_use=False,
    )


class _SinkLogger:
    """What structlog calls with the rendered (level, text)."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def msg(self, level: str, text: str) -> None:
        self._sink.put(level, text)

    debug = info = warning = error = critical = fatal = exception = log = msg


class _ToStructlog(logging.Handler):
    """Records of the standard library's loggers, warnings included, as events."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
            trace = "".join(traceback.format_exception(*record.exc_info)) if record.exc_info else None
            fields = {"logger": record.name} | ({"traceback": trace} if trace else {})
            structlog.get_logger().log(record.levelno, event, **fields)
        except Exception:
            self.handleError(record)


def _configure_standard(settings: Log) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_ToStructlog()]
    # Libraries at debug tell of every byte; their warnings are what an administrator wants.
    root.setLevel(max(_number(settings.level), logging.WARNING))
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    structlog.get_logger().critical("uncaught", traceback=text)


def _add_time(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["time"] = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return event


def _add_traceback(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        event["traceback"] = "".join(traceback.format_exception(error))
    return event


def _render_text(_: Any, __: str, event: MutableMapping[str, Any]) -> tuple[tuple[str, str], dict[str, Any]]:
    level = str(event.pop("level", "info"))
    words = [event.pop("time", ""), level.upper(), str(event.pop("event", ""))]
    trace = event.pop("traceback", None)
    words += [f"{name}={_quoted(value)}" for name, value in event.items()]
    text = " ".join(word for word in words if word)
    return (level, f"{text}\n{trace.rstrip()}" if trace else text), {}


def _render_json(_: Any, __: str, event: MutableMapping[str, Any]) -> tuple[tuple[str, str], dict[str, Any]]:
    fields: Mapping[str, Any] = event
    return (str(fields.get("level", "info")), json.dumps(fields, default=str, ensure_ascii=False)), {}


def _quoted(value: object) -> str:
    """A value on one line, in quotes where it has blanks or could be taken for two."""
    text = str(value)
    return text if text and text.isprintable() and not set(text) & set(" \"='") else json.dumps(text)


def _number(level: LogLevel) -> int:
    return {
        LogLevel.DEBUG: logging.DEBUG,
        LogLevel.INFO: logging.INFO,
        LogLevel.WARNING: logging.WARNING,
        LogLevel.ERROR: logging.ERROR,
    }[level]
