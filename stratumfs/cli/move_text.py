"""``stratum-tier move`` for people: a bar while it moves, a line at the end."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from stratumfs.cli.status_text import size_text
from stratumfs.owner import messages


class MoveProgress:
    """A bar on standard error, where that is a terminal."""

    def __init__(self, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("looks what there is to move", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, progress: messages.Progress) -> None:
        self._bar.update(self._task, description=progress.text, completed=progress.done or 0, total=progress.total)


def outcome_text(target: str, found: Mapping[str, Any]) -> str:
    """What came of a move, in one line."""
    text = f"{target}: {size_text(found['bytes'])} moved to {found['to']}"
    if found["outcome"] == "stopped":
        text = f"{target}: stopped, {size_text(found['bytes'])} of {size_text(found['total'])} are in {found['to']} now"
    if found["bytes_unreadable"]:
        text += f"; {size_text(found['bytes_unreadable'])} could not be read and stay"
    if found["files_damaged"]:
        text += f"; files whose rows are damaged: {found['files_damaged']}"
    return text
