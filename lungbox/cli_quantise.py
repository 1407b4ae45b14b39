"""`lungbox quantise`."""

from typing import Annotated

import typer

from lungbox.cli_common import DataOption, say


def quantise(
    name: Annotated[str, typer.Argument(help="An ensemble, a name in the manifest.")],
    data: DataOption,
    fold: Annotated[
        int, typer.Option(help="Checked on its images, which no weights have seen.")
    ] = 0,
    images: Annotated[int, typer.Option(min=3, help="Images for calibration.")] = 300,
) -> None:
    """Make an ensemble's network of 8-bit integers, and check what becomes of its boxes."""
    from lungbox.quantise import run

    found = run(data, fold, name, images, say)
    print("| precision | RSNA metric, raw | change | images with as many boxes | may be chosen |")
    print("| --- | --- | --- | --- | --- |")
    for one in found:
        change, same = one.checked.metric_change, one.checked.same_count
        chosen = "yes" if one.checked.passed else "no"
        print(f"| {one.precision} | {one.metric:.4f} | {change:+.4f} | {same:.3f} | {chosen} |")
