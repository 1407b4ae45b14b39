"""`lungbox quantize`: an ensemble's INT8 model, with a table of its checks."""

from typing import TYPE_CHECKING, Annotated

import typer

from lungbox.cli import DataOption, console

if TYPE_CHECKING:
    from lungbox.quantization.parity import Parity


def quantize(
    name: Annotated[str, typer.Argument(help="An ensemble, a name in the manifest.")],
    data: DataOption,
    fold: Annotated[
        int, typer.Option(help="A fold that no member was trained on; it is checked on its images.")
    ] = 0,
    images: Annotated[int, typer.Option(min=3, help="Images for calibration.")] = 300,
) -> None:
    """Make an ensemble's INT8 model, and check how its boxes change."""
    from lungbox.evaluation.markdown import markdown_table
    from lungbox.quantization import quantize_ensemble

    parities = quantize_ensemble(data, fold, name, images, console)
    columns = (
        "precision", "RSNA metric, raw", "change", "images with as many boxes", "may be chosen",
    )  # fmt: skip
    rows = (
        (
            one.precision,
            f"{one.metric:.4f}",
            f"{one.checked.metric_change:+.4f}",
            f"{one.checked.same_count:.3f}",
            "yes" if one.checked.passed else "no",
        )
        for one in parities
    )
    print(markdown_table(columns, rows))
    for one in parities:
        if one.precision != "float32":
            print(f"\n{_changes(one)}")


def _changes(parity: "Parity") -> str:
    boxes = parity.changes
    text = (
        f"{parity.precision}: of {boxes.images} images with a box, {boxes.identical} have exactly "
        f"the boxes of float32 and {boxes.other_number} another number"
    )
    if boxes.images == boxes.other_number:
        return f"{text}."
    return (
        f"{text}; of the others, 95 % have no edge that moved by more than {boxes.moved:.1%} of "
        "the side."
    )
