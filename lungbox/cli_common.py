"""What every part of the command line shares: where it speaks, how it ends, common options."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

say = Console(stderr=True, highlight=False, soft_wrap=True)

# Exit codes: all read; nothing to do or wrong use; some files failed and the rest is written;
# stopped by Ctrl-C, which is the command line library's own; stopped by SIGTERM.
OK, WRONG_USE, SOME_FAILED, STOPPED, TERMINATED = 0, 2, 3, 130, 143

DataOption = Annotated[Path, typer.Option(help="Folder of labelled radiographs.")]
