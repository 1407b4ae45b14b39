"""Progress on the terminal: a bar with rate and time left; nothing where nobody watches."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        rate = task.finished_speed or task.speed
        return Text(f"{rate:.1f}/s" if rate else "")


class Bar:
    """A bar that is under way."""

    def __init__(self, progress: Progress, task_id: TaskID) -> None:
        self._progress, self._task = progress, task_id

    def advance(self, count: int = 1) -> None:
        """`count` more are done."""
        self._progress.advance(self._task, count)

    def describe(self, text: str) -> None:
        """What stands before the bar."""
        self._progress.update(self._task, description=text)


@contextmanager
def bar(console: Console, text: str, total: int, done: int = 0) -> Iterator[Bar]:
    """Show a bar on `console` while the block runs; silent where it is no terminal.

    Args:
        console: where to; messages printed on it meanwhile stand above the bar.
        text: what is being done.
        total: how many there are.
        done: how many an earlier run did.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Bar(progress, progress.add_task(text, total=total, completed=done))


@contextmanager
def downloads(console: Console) -> Iterator[Callable[[str], Callable[[int, int | None], object]]]:
    """A bar for each download while the block runs; silent where `console` is no terminal.

    The block gets a function that is told a source, and gives one that is told how many bytes of
    it are there and, where that is known, how many there will be.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def watch(source: str) -> Callable[[int, int | None], object]:
            task = progress.add_task(source[:60], total=None)
            return lambda have, total: progress.update(task, completed=have, total=total)

        yield watch
