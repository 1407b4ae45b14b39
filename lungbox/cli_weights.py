"""`python -m lungbox weights list|fetch|verify|add|remove|convert|bundle`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from lungbox.cli_common import say
from lungbox.errors import LungboxError
from lungbox.progress import downloads

app = typer.Typer(
    no_args_is_help=True,
    help="Weight files: list, fetch, verify, add, remove, convert, bundle.",
)

Replace = Annotated[
    bool, typer.Option("--replace", help="In place of a file entered under this name earlier.")
]
Names = Annotated[list[str] | None, typer.Argument(help="Ensembles or weights; all by default.")]


@app.command("list")
def list_() -> None:
    """Every known ensemble and weight file, and whether it is on this machine."""
    from lungbox.architecture_table import narrow_table, widen
    from lungbox.weights.collection import statuses
    from lungbox.weights.manifest import Weights, load_manifest

    table = narrow_table()
    table.add_column("weights", overflow="fold")
    table.add_column("network", overflow="fold")
    for header in ("input", "MB"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("state", overflow="fold")
    for status in statuses():
        weights = status.weights
        size = f"{weights.bytes / 1e6:.1f}" if weights.bytes else "?"
        about = ("8-bit integers", "")
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
    console.print(table)


@app.command()
def fetch(names: Names = None) -> None:
    """Fetch what is not on this machine yet."""
    from lungbox.weights.collection import members_of
    from lungbox.weights.computation import int8_files
    from lungbox.weights.fetch import explain_unpublished, unpublished
    from lungbox.weights.fetch import fetch as fetch_one
    from lungbox.weights.files import WeightsError
    from lungbox.weights.manifest import File, load_manifest

    manifest = load_manifest()
    wanted = members_of(names) if names else [n for n, w in manifest.weights.items() if w.sources]
    files: dict[str, File] = {name: manifest.file(name) for name in wanted}
    files |= int8_files(manifest, names or None)
    missing = unpublished(files)
    reasons = []
    with downloads(say) as watch:
        for name, file in files.items():
            if name in missing:
                continue
            try:
                path = fetch_one(name, file, watch)
                say.print(f"{name}: {path}", markup=False)
            except WeightsError as error:
                reasons.append(str(error))
    if missing:
        reasons.append(explain_unpublished(missing))
    for reason in reasons:
        say.print(f"lungbox: {reason}", markup=False)
    if reasons:
        raise typer.Exit(2)


@app.command()
def verify(names: Names = None) -> None:
    """Check the hash of every weight file that is on this machine."""
    from lungbox.weights.collection import statuses

    wrong = 0
    for status in statuses(names):
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
    replace: Replace = False,
    folds: Annotated[
        str | None,
        typer.Option(help="That a new entry was trained on: 1,2,3,4, or none.", metavar="LIST"),
    ] = None,
) -> None:
    """Enter a weight file that is on this machine, for instance fetched by hand."""
    from lungbox.weights.collection import add as add_one

    _start()
    kept = add_one(name, file, architecture, image_size, replace, _folds(folds))
    say.print(f"{name}: {kept}", markup=False)


@app.command()
def remove(name: Annotated[str, typer.Argument(help="Weights or an ensemble.")]) -> None:
    """Remove an entry of your own, or what was fetched and pinned for one of Lungbox's."""
    from lungbox.weights.collection import remove as remove_one

    removed = remove_one(name)
    done = ["entry removed"] if removed.entry else []
    if removed.files:
        done.append(f"{_files(len(removed.files), 'file')} removed")
    if removed.pin:
        done.append("pinned hash forgotten")
    done += [f"{path} stays" for path in removed.kept]
    said = f"{name}: {', '.join(done)}" if done else f"nothing to remove: {name} {removed.whose}"
    say.print(said, markup=False)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A Keras 2 weight file, .h5.")],
    architecture: Annotated[str, typer.Option(help="The network it belongs to.")],
    name: Annotated[str | None, typer.Option(help="Of the new entry; the file's own.")] = None,
    replace: Replace = False,
) -> None:
    """Convert a Keras 2 weight file to safetensors and enter it."""
    _start()
    from lungbox.weights.collection import convert as convert_one

    entered = convert_one(file, architecture, name, replace)
    say.print(f"Entered as {entered}: python -m lungbox predict IMAGE_DIR --ensemble {entered}")


@app.command()
def bundle(
    folder: Annotated[Path, typer.Argument(help="Is made, or added to.")],
    names: Annotated[list[str], typer.Argument(help="Ensembles or weights.")],
    wheels: Annotated[bool, typer.Option("--wheels", help="Also what pip needs.")] = False,
) -> None:
    """Make a folder for a machine without internet, or for a Kaggle data set."""
    from lungbox.weights.bundle import bundle as make
    from lungbox.weights.bundle import own_wheel

    with downloads(say) as watch:
        files = make(folder, names, wheels, watch)
    said = f"{_files(len(files), 'weight file')} in {folder}/. There: set LUNGBOX_BUNDLE to it"
    if wheels:
        said += (
            f", and pip install --no-index --find-links {folder.name}/wheels "
            f"-r {folder.name}/requirements.txt" + (" lungbox" if own_wheel(folder) else "")
        )
    say.print(said, markup=False)


def _files(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _start() -> None:
    from lungbox.frameworks import start_keras

    start_keras()


def _folds(text: str | None) -> tuple[int, ...] | None:
    """`1,2,3` or `none`."""
    if text is None or text.strip().lower() == "none":
        return None if text is None else ()
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError:
        raise LungboxError(f"--folds {text}: give numbers, as in 1,2,3,4, or none") from None
