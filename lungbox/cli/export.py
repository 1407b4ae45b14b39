"""`python -m lungbox export`: an ensemble as a file for other programs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lungbox.cli import console
from lungbox.common.progress import download_progress
from lungbox.errors import LungboxError


def export(
    name: Annotated[str, typer.Argument(help="Name of an ensemble in the manifest.")],
    form: Annotated[
        Literal["onnx", "openvino", "savedmodel", "litert"],
        typer.Option("--format", help="Output format."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="New file or folder; named after the ensemble by default."),
    ] = None,
    batch_size: Annotated[
        str, typer.Option(help="Images per batch: a number, or dynamic for any.")
    ] = "dynamic",
) -> None:
    """Export an ensemble to ONNX, OpenVINO, SavedModel or LiteRT, verified against Keras."""
    from lungbox.export import export as export_one

    batch = _batch(batch_size)
    with download_progress(console) as watch:
        result = export_one(name, form, output, batch, watch)
    console.print(
        f"Wrote {result.path} ({result.bytes / 1e6:.1f} MB) and {result.metadata.name}; on "
        f"{result.images} radiographs its boxes equal Keras', its probabilities to "
        f"{result.difference:.1g}.",
        markup=False,
    )


def _batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    try:
        return int(text)
    except ValueError:
        raise LungboxError(f"--batch-size {text}: use a number, or dynamic") from None
