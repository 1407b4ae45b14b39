"""Progress on the terminal: a bar with rate and time left; nothing where nobody watches."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
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
