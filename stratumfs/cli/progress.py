"""How far a long request of the owner is, shown while it runs."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from stratumfs.owner import messages


class BytesProgress:
    """A bar on standard error, where that is a terminal."""

    def __init__(self, first: str, console: Console | None = None) -> None:
        """*first* is shown until the owner says what it does."""
        console = console or Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task(first, total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, progress: messages.Progress) -> None:
        self._bar.update(self._task, description=progress.text, completed=progress.done or 0, total=progress.total)
