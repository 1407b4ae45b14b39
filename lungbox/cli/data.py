"""`lungbox prepare|folds|audit`: labelled data before training."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lungbox.cli import SOME_FAILED, DataOption, console

if TYPE_CHECKING:
    from lungbox.datasets import Dataset, LabelIssue


def prepare(
    data: DataOption,
    size: Annotated[int, typer.Option(min=8, help="Side of the square, in pixels.")] = 256,
    preparation: Annotated[
        Literal["equalised", "nearest", "padded"],
        typer.Option(help="The recipe's preparation; nearest is the reference system's."),
    ] = "equalised",
) -> None:
    """Prepare every image once, into the cache that training and evaluation use."""
    from lungbox import datasets
    from lungbox.common.paths import cache_folder
    from lungbox.common.progress import progress_bar
    from lungbox.datasets.cache import missing, prepare_all
    from lungbox.datasets.rsna import ALL_IMAGES

    dataset = datasets.load(data, console)
    cached = len(dataset) - missing(dataset, size, cache_folder(), preparation)
    read = 0
    start = time.perf_counter()
    with progress_bar(console, "Preparing", len(dataset), done=cached) as progress:

        def advance() -> None:
            nonlocal read
            read += 1
            progress.advance()

        cache = prepare_all(dataset, size, cache_folder(), advance, preparation)
    seconds = time.perf_counter() - start
    for path, reason in cache.failed:
        console.print(f"{path}: {reason}", markup=False)
    here, all_of_rsna = len(cache) * size**2, ALL_IMAGES * size**2
    print(f"{len(cache)} images of {size} x {size} pixels, {here / 1e6:.1f} MB in {cache_folder()}")
    if read:
        rate = read / seconds
        print(f"{read} read in {seconds:.1f} s, {rate:.1f} a second")
        print(
            f"all {ALL_IMAGES:,} of RSNA: {ALL_IMAGES / rate / 60:.1f} minutes at that rate, "
            f"{all_of_rsna / 1e9:.2f} GB"
        )
    else:
        print(f"none had to be read; all {ALL_IMAGES:,} of RSNA take {all_of_rsna / 1e9:.2f} GB")
    if cache.failed:
        raise typer.Exit(SOME_FAILED)


def folds(
    data: DataOption,
    output: Annotated[Path, typer.Option(help="The CSV to write.")] = Path("folds.csv"),
) -> None:
    """Write the fold of every image to a CSV, so that others can use the same folds."""
    from lungbox import datasets
    from lungbox.constants import FOLDS
    from lungbox.datasets.folds import write_folds

    dataset = datasets.load(data, console)
    write_folds(dataset, output)
    for fold in range(FOLDS):
        of_fold = dataset.folds([fold])
        patients = {(image.source, image.patient) for image in of_fold.images}
        positive = sum(image.target for image in of_fold.images)
        counts = f"{len(of_fold)} images, {len(patients)} patients, {positive} with boxes"
        print(f"fold {fold}: {counts}")
    console.print(
        f"Written to {output}. To use these folds, save it as folds.csv in {data}.", markup=False
    )


def audit(
    data: DataOption,
    images: Annotated[
        bool,
        typer.Option(
            "--images",
            help="Also read every image; list those that do not look like upright frontal chest "
            "radiographs. They are used all the same.",
        ),
    ] = False,
) -> None:
    """List label issues, and how each is handled."""
    from lungbox import datasets
    from lungbox.datasets.issues import count

    dataset = datasets.load(data, console)
    issues = [*dataset.issues, *(_image_issues(dataset) if images else [])]
    for issue in issues:
        print(issue)
    boxes = sum(len(image.boxes) for image in dataset.images)
    uncertain = sum(image.uncertain for image in dataset.images)
    print(f"{len(dataset)} images, {boxes} boxes, {uncertain} images neither positive nor negative")
    print(f"{len(issues)} issue{'' if len(issues) == 1 else 's'}")
    for kind, number in count(issues):
        print(f"{number:6} {kind}")
    if issues:
        raise typer.Exit(SOME_FAILED)


def _image_issues(dataset: "Dataset") -> "list[LabelIssue]":
    """Images that cannot be read, or do not look like radiographs; from the cache where it has
    them."""
    from lungbox.common.paths import cache_folder
    from lungbox.common.progress import progress_bar
    from lungbox.datasets.appearance import SIZE, image_issues
    from lungbox.datasets.cache import missing, prepare_all

    cached = len(dataset) - missing(dataset, SIZE, cache_folder())
    with progress_bar(console, "Preparing", len(dataset), done=cached) as progress:
        prepared = prepare_all(dataset, SIZE, cache_folder(), lambda: progress.advance())
    return image_issues(prepared)
