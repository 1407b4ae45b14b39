"""`python -m lungbox export`: an ensemble as a file that other programs run."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lungbox.cli_common import say
from lungbox.errors import LungboxError
from lungbox.progress import downloads


def export(
    name: Annotated[str, typer.Argument(help="An ensemble, a name in the manifest.")],
    form: Annotated[
        Literal["onnx", "openvino", "savedmodel", "litert"],
        typer.Option("--format", help="What to write."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="The file or folder to make; named after the ensemble by default."),
    ] = None,
    batch_size: Annotated[
        str, typer.Option(help="Images in one batch: a number, or dynamic for any number.")
    ] = "dynamic",
) -> None:
    """Write an ensemble as one file for other programs, checked against Keras."""
    from lungbox.export import export as export_one

    batch = _batch(batch_size)
    with downloads(say) as watch:
        made = export_one(name, form, output, batch, watch)
    say.print(
        f"{made.path} ({made.bytes / 1e6:.1f} MB) and {made.metadata.name}; on {made.images} "
        f"radiographs its boxes are Keras's, its probabilities within {made.difference:.1g}.",
        markup=False,
    )


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    try:
        return int(text)
    except ValueError:
        raise LungboxError(f"--batch-size {text}: give a number, or dynamic") from None
