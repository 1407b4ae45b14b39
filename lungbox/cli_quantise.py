"""`lungbox quantise`."""

from typing import TYPE_CHECKING, Annotated

import typer

from lungbox.cli_common import DataOption, say

if TYPE_CHECKING:
    from lungbox.quantise.parity import Parity


def quantise(
    name: Annotated[str, typer.Argument(help="An ensemble, a name in the manifest.")],
    data: DataOption,
    fold: Annotated[
        int, typer.Option(help="Checked on its images, which no weights have seen.")
    ] = 0,
    images: Annotated[int, typer.Option(min=3, help="Images for calibration.")] = 300,
) -> None:
    """Make an ensemble's INT8 model, and check how its boxes change."""
    from lungbox.quantise import run

    found = run(data, fold, name, images, say)
    print("| precision | RSNA metric, raw | change | images with as many boxes | may be chosen |")
    print("| --- | --- | --- | --- | --- |")
    for one in found:
        change, same = one.checked.metric_change, one.checked.same_count
        chosen = "yes" if one.checked.passed else "no"
        print(f"| {one.precision} | {one.metric:.4f} | {change:+.4f} | {same:.3f} | {chosen} |")
    for one in found:
        if one.precision != "float32":
            print(f"\n{_changes(one)}")


def _changes(one: "Parity") -> str:
    boxes = one.changes
    said = (
        f"{one.precision}: of {boxes.images} images with a box, {boxes.identical} have the very "
        f"boxes of float32 and {boxes.other_number} another number"
    )
    if boxes.images == boxes.other_number:
        return f"{said}."
    return (
        f"{said}; of the others, 95 % have no edge that moved by more than {boxes.moved:.1%} of "
        "the side."
    )
