"""`python -m lungbox weights list|fetch|verify|add|remove|convert|bundle`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lungbox.cli import WRONG_USE, console, narrow_table, widen
from lungbox.common.backend import start_keras
from lungbox.common.progress import download_progress
from lungbox.errors import LungboxError

app = typer.Typer(
    no_args_is_help=True,
    help="Weight files: list, fetch, verify, add, remove, convert, bundle.",
)

Replace = Annotated[
    bool, typer.Option("--replace", help="Replace a file registered under this name.")
]
Names = Annotated[list[str] | None, typer.Argument(help="Ensembles or weights; all by default.")]


@app.command("list")
def list_() -> None:
    """List every known ensemble and weight file, and whether it is downloaded."""
    from lungbox.weights.collection import statuses
    from lungbox.weights.entries import Weights
    from lungbox.weights.manifest import load_manifest

    table = narrow_table()
    table.add_column("weights", overflow="fold")
    table.add_column("network", overflow="fold")
    for header in ("input", "MB"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for status in statuses():
        weights = status.weights
        size = f"{weights.bytes / 1e6:.1f}" if weights.bytes else "?"
        about = ("INT8 model", "")
        if isinstance(weights, Weights):
            about = (weights.architecture, str(weights.image_size))
        row = (status.name, *about, size, status.state)
        table.add_row(*map(escape, row))
    ensembles = narrow_table()
    for header in ("ensemble", "members", "note"):
        ensembles.add_column(header, overflow="fold")
    for name, ensemble in load_manifest().ensembles.items():
        ensembles.add_row(*map(escape, (name, "\n".join(ensemble.members), ensemble.note)))
    console = Console(highlight=False)
    widen(console)
    console.print(ensembles)
    console.print(_operating_points())
    console.print(table)


def _operating_points() -> Table:
    """The operating points of ensembles by name, with their figures on held-out images."""
    from lungbox.weights.manifest import load_manifest

    table = narrow_table()
    table.add_column("operating point", overflow="fold")
    for header in ("gate", "sensitivity", "specificity", "false boxes an image"):
        table.add_column(header, justify="right")
    table.add_column("on", overflow="fold")
    for name, ensemble in load_manifest().ensembles.items():
        for key, entry in ensemble.operating_points.items():
            gate = ensemble.calibration(entry.gate) if ensemble.calibration else entry.gate
            figures = entry.figures
            shown: tuple[str, ...] = ("?", "?", "?", "not recorded")
            if figures:
                rates = (figures.sensitivity, figures.specificity, figures.false_positives)
                shown = (*(f"{rate:.3f}" for rate in rates), f"{figures.images} {figures.on}")
            table.add_row(escape(f"{name}: {key}"), f"{gate:.4f}", *map(escape, shown))
    return table


@app.command()
def fetch(names: Names = None) -> None:
    """Download weight files that are missing here."""
    from lungbox.weights.collection import files_of
    from lungbox.weights.formats.safetensors import WeightsError
    from lungbox.weights.store import explain_unpublished, unpublished
    from lungbox.weights.store import fetch as fetch_one

    files = files_of(names)
    if not names:
        files = {name: file for name, file in files.items() if file.sources}
    missing = unpublished(files)
    reasons = []
    with download_progress(console) as watch:
        for name, file in files.items():
            if name in missing:
                continue
            try:
                path = fetch_one(name, file, watch)
                console.print(f"{name}: {path}", markup=False)
            except WeightsError as error:
                reasons.append(str(error))
    if missing:
        reasons.append(explain_unpublished(missing))
    for reason in reasons:
        console.print(f"lungbox: {reason}", markup=False)
    if reasons:
        raise typer.Exit(WRONG_USE)


@app.command()
def verify(names: Names = None) -> None:
    """Check the hash of every downloaded weight file."""
    from lungbox.weights.collection import statuses

    wrong = 0
    for status in statuses(names):
        print(f"{status.name}: {status.state}")
        wrong += status.path is not None and status.state != "here"
    if wrong:
        raise typer.Exit(WRONG_USE)


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="A known entry, or a new name.")],
    file: Annotated[Path, typer.Argument(help="A .safetensors file, or .h5 of Keras 2.")],
    architecture: Annotated[str | None, typer.Option(help="Of a new entry.")] = None,
    image_size: Annotated[int | None, typer.Option(help="Of a new entry, in pixels.")] = None,
    replace: Replace = False,
    folds: Annotated[
        str | None,
        typer.Option(help="That a new entry was trained on: 1,2,3,4, or none.", metavar="LIST"),
    ] = None,
    classes: Annotated[
        list[str],
        typer.Option("--class", help="Of a new entry's boxes or labels; once for each, in order."),
    ] = [],  # noqa: B006
    option: Annotated[
        list[str],
        typer.Option(
            help="Of a new entry's network, as in its recipe: relations=16.", metavar="NAME=VALUE"
        ),
    ] = [],  # noqa: B006
) -> None:
    """Register a local weight file, for instance one downloaded in a browser."""
    from lungbox.weights.collection import add as add_one

    start_keras()
    kept = add_one(
        *(name, file, architecture, image_size, replace, _folds(folds)),
        class_names=tuple(classes),
        options=dict(map(_option, option)),
    )
    console.print(f"{name}: {kept}", markup=False)


def _option(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise typer.BadParameter(f"{text} is no NAME=NUMBER, as relations=16") from None


@app.command()
def average(
    name: Annotated[str, typer.Argument(help="Of the new entry.")],
    members: Annotated[list[str], typer.Argument(help="Weights of one network.")],
    shares: Annotated[
        str | None, typer.Option(help="Of each in the mean: 0.25,0.75. Equal if not given.")
    ] = None,
    replace: Replace = False,
) -> None:
    """Average the weights of several runs of one network, and register the result."""
    from lungbox.weights.average import average_weights

    start_keras()
    try:
        numbers = [float(part) for part in shares.split(",")] if shares else []
    except ValueError:
        raise typer.BadParameter(f"{shares} is no list of numbers: 0.25,0.75") from None
    kept = average_weights(name, members, numbers, replace)
    console.print(f"{name}: {kept}", markup=False)


@app.command()
def remove(name: Annotated[str, typer.Argument(help="Weights or an ensemble.")]) -> None:
    """Remove an entry of your own, or the download and pinned hash of one of Lungbox's."""
    from lungbox.weights.collection import remove as remove_one

    console.print(f"{name}: {', '.join(remove_one(name))}", markup=False)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A Keras 2 weight file, .h5.")],
    architecture: Annotated[str, typer.Option(help="The network it belongs to.")],
    name: Annotated[str | None, typer.Option(help="Of the new entry.")] = None,
    replace: Replace = False,
) -> None:
    """Convert a Keras 2 weight file to safetensors and register it."""
    start_keras()
    from lungbox.weights.collection import convert as convert_one

    name = convert_one(file, architecture, name, replace)
    console.print(f"Registered as {name}: python -m lungbox predict IMAGE_DIR --ensemble {name}")


@app.command()
def bundle(
    folder: Annotated[Path, typer.Argument(help="Created, or added to.")],
    names: Annotated[list[str], typer.Argument(help="Ensembles or weights.")],
    wheels: Annotated[bool, typer.Option("--wheels", help="Also the Python packages.")] = False,
) -> None:
    """Create a folder for a computer without internet, or for a Kaggle data set."""
    from lungbox.weights.bundle import bundle as make
    from lungbox.weights.bundle import own_wheel

    with download_progress(console) as watch:
        files = make(folder, names, wheels, watch)
    plural = "" if len(files) == 1 else "s"
    message = f"{len(files)} weight file{plural} in {folder}/. On the other computer, set "
    message += "LUNGBOX_BUNDLE to its path"
    if wheels:
        message += (
            f", and pip install --no-index --find-links {folder.name}/wheels "
            f"-r {folder.name}/requirements.txt" + (" lungbox" if own_wheel(folder) else "")
        )
    console.print(message, markup=False)


def _folds(text: str | None) -> tuple[int, ...] | None:
    """`1,2,3` or `none`."""
    if text is None or text.strip().lower() == "none":
        return None if text is None else ()
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise LungboxError(f"--folds {text}: give numbers, as in 1,2,3,4, or none") from None
