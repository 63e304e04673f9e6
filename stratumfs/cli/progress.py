"""How far a long request of the owner is, shown while it runs."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from stratumfs.owner import messages


class _Bar:
    """A bar on standard error, where that is a terminal. *first* is shown until the owner says what it does."""

    def __init__(self, first: str, console: Console | None, *columns: ProgressColumn) -> None:
        console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            *columns,
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(first, total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


class BytesProgress(_Bar):
    """Of bytes, and how fast they go."""

    def __init__(self, first: str, console: Console | None = None) -> None:
        super().__init__(first, console, DownloadColumn(binary_units=True), TransferSpeedColumn())

    def show(self, progress: messages.Progress) -> None:
        self._bar.update(self._task, description=progress.text, completed=progress.done or 0, total=progress.total)


class CountProgress(_Bar):
    """Of things that are counted."""

    def __init__(self, first: str, console: Console | None = None) -> None:
        super().__init__(first, console, MofNCompleteColumn())

    def show(self, text: str, done: int, total: int | None) -> None:
        self._bar.update(self._task, description=text, completed=done, total=total)
