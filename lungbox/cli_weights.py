"""`lungbox weights list|fetch|verify|add|remove|convert|bundle`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from lungbox.progress import downloads

app = typer.Typer(no_args_is_help=True, help="Weight files: list, fetch, verify, add, bundle.")
_say = Console(stderr=True, highlight=False, soft_wrap=True)

Names = Annotated[list[str] | None, typer.Argument(help="Ensembles or weights; all by default.")]


@app.command("list")
def list_() -> None:
    """Every known ensemble and weight file, and whether it is on this machine."""
    from lungbox.weights.library import statuses
    from lungbox.weights.manifest import load_manifest

    table = Table("weights", "network", "input", "MB", "state")
    for status in statuses():
        weights = status.weights
        size = f"{weights.bytes / 1e6:.1f}" if weights.bytes else "?"
        row = (status.name, weights.architecture, str(weights.image_size), size, status.state)
        table.add_row(*row)
    ensembles = Table("ensemble", "members", "note")
    for name, ensemble in load_manifest().ensembles.items():
        ensembles.add_row(name, ", ".join(ensemble.members), ensemble.note)
    console = Console(highlight=False)
    console.print(ensembles)
    console.print(table)


@app.command()
def fetch(names: Names = None) -> None:
    """Fetch what is not on this machine yet."""
    from lungbox.weights.fetch import fetch as fetch_one
    from lungbox.weights.library import members_of
    from lungbox.weights.manifest import load_manifest

    manifest = load_manifest()
    wanted = members_of(names) if names else [n for n, w in manifest.weights.items() if w.sources]
    with downloads(_say) as watch:
        for name in wanted:
            path = fetch_one(name, manifest.file(name), watch)
            _say.print(f"{name}: {path}", markup=False)


@app.command()
def verify(names: Names = None) -> None:
    """Check the hash of every weight file that is on this machine."""
    from lungbox.weights.library import members_of, statuses

    wrong = 0
    for status in statuses(members_of(names) if names else None):
        print(f"{status.name}: {status.state}")
        wrong += status.path is not None and status.state != "here"
    if wrong:
        raise typer.Exit(2)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A known entry, or a new name.")],
    file: Annotated[Path, typer.Argument(help="A .safetensors file, or .h5 of Keras 2.")],
    architecture: Annotated[str | None, typer.Option(help="Of a new entry.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Of a new entry, in pixels.")] = None,
) -> None:
    """Enter a weight file that is on this machine, for instance fetched by hand."""
    from lungbox.weights.library import add as add_one

    if architecture:
        _start()
    _say.print(f"{name}: {add_one(name, file, architecture, image_size)}", markup=False)


@app.command()
def remove(name: Annotated[str, typer.Argument(help="An entry.")]) -> None:
    """Remove an entry of your own, or the downloaded file of one of Lungbox's."""
    from lungbox.weights.library import remove as remove_one

    removed = remove_one(name)
    _say.print(f"{name}: removed {len(removed)} file{'' if len(removed) == 1 else 's'}")


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A Keras 2 weight file, .h5.")],
    architecture: Annotated[str, typer.Option(help="The network it belongs to.")],
    name: Annotated[str | None, typer.Option(help="Of the new entry; the file's own.")] = None,
) -> None:
    """Convert a Keras 2 weight file to safetensors and enter it."""
    _start()
    from lungbox.weights.library import convert as convert_one

    entered = convert_one(file, architecture, name)
    _say.print(f"Entered as {entered}: python inference.py IMAGE_DIR --ensemble {entered}")


@app.command()
def bundle(
    folder: Annotated[Path, typer.Argument(help="Is made.")],
    names: Annotated[list[str], typer.Argument(help="Ensembles or weights.")],
    wheels: Annotated[bool, typer.Option("--wheels", help="Also every requirement.")] = False,
) -> None:
    """Make a folder for a machine without internet, or for a Kaggle data set."""
    from lungbox.weights.library import bundle as make

    with downloads(_say) as watch:
        files = make(folder, names, wheels, watch)
    _say.print(
        f"{len(files)} weight files in {folder}/. There: set LUNGBOX_BUNDLE to that folder"
        + (
            f", and pip install --no-index --find-links {folder.name}/wheels "
            f"-r {folder.name}/requirements.txt"
            if wheels
            else ""
        ),
        markup=False,
    )


def _start() -> None:
    from lungbox.frameworks import start_keras

    start_keras()
