"""The command line, `lungbox COMMAND`: a module for each group of commands, and what they share."""

from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

console = Console(stderr=True, highlight=False, soft_wrap=True)

# Exit codes: success; wrong use, or nothing done; some files failed, the rest is written; stopped
# by Ctrl-C, as click has it; stopped by SIGTERM.
OK, WRONG_USE, SOME_FAILED, STOPPED, TERMINATED = 0, 2, 3, 130, 143

DataOption = Annotated[Path, typer.Option(help="Folder of labelled radiographs.")]

# Of a file or pipe, where lines need not be broken.
_WIDTH = 130


def narrow_table() -> Table:
    """A table with narrow rules, so that long names are broken on narrow terminals, not numbers."""
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def widen(console: Console) -> None:
    """Widen the lines of a file or pipe; a terminal breaks them itself."""
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
