"""Progress bars with rate and time left; silent where the console is no terminal."""

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


class ProgressBar:
    """A running progress bar."""

    def __init__(self, progress: Progress, task_id: TaskID) -> None:
        self._progress, self._task = progress, task_id

    def advance(self, count: int = 1) -> None:
        """Count `count` more as done."""
        self._progress.advance(self._task, count)

    def describe(self, text: str) -> None:
        """Set the text before the bar."""
        self._progress.update(self._task, description=text)


@contextmanager
def progress_bar(console: Console, text: str, total: int, done: int = 0) -> Iterator[ProgressBar]:
    """Show a bar on `console` while the block runs; silent where it is no terminal.

    Args:
        console: where the bar is shown, below messages printed meanwhile.
        text: before the bar.
        total: number of items.
        done: items finished by an earlier run.
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
        yield ProgressBar(progress, progress.add_task(text, total=total, completed=done))


@contextmanager
def download_progress(
    console: Console,
) -> Iterator[Callable[[str], Callable[[int, int | None], object]]]:
    """A bar for each download while the block runs; silent where `console` is no terminal.

    The block gets a function from a source's name to its callback, which takes the bytes downloaded
    and, where known, the total.
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
