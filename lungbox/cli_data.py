"""`python -m lungbox prepare|folds|audit`: labelled data, before anything is trained on it."""

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from lungbox.cli_common import SOME_FAILED, DataOption, say


def prepare(
    data: DataOption,
    size: Annotated[int, typer.Option(min=8, help="Side of the square, in pixels.")] = 256,
    preparation: Annotated[
        Literal["equalised", "nearest"],
        typer.Option(help="As the recipe's data.preparation; nearest is the reference system's."),
    ] = "equalised",
) -> None:
    """Read every image once, into the cache that training and evaluation use."""
    from lungbox import datasets
    from lungbox.datasets.cache import missing, prepare_all
    from lungbox.datasets.rsna import ALL_IMAGES
    from lungbox.paths import cache_folder
    from lungbox.progress import bar

    dataset = datasets.load(data, say)
    there = len(dataset) - missing(dataset, size, cache_folder(), preparation)
    read = 0
    start = time.perf_counter()
    with bar(say, "Preparing", len(dataset), done=there) as progress:

        def advance() -> None:
            nonlocal read
            read += 1
            progress.advance()

        cache = prepare_all(dataset, size, cache_folder(), advance, preparation)
    seconds = time.perf_counter() - start
    for path, reason in cache.failed:
        say.print(f"{path}: {reason}", markup=False)
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
        print(f"all were there already; all {ALL_IMAGES:,} of RSNA take {all_of_rsna / 1e9:.2f} GB")
    if cache.failed:
        raise typer.Exit(SOME_FAILED)


def folds(
    data: DataOption,
    output: Annotated[Path, typer.Option(help="The table.")] = Path("folds.csv"),
) -> None:
    """Write the fold of every image, so that others can use the same."""
    from lungbox import datasets
    from lungbox.constants import FOLDS
    from lungbox.datasets.folds import write_folds

    dataset = datasets.load(data, say)
    write_folds(dataset, output)
    for fold in range(FOLDS):
        of_fold = dataset.folds([fold])
        patients = {(image.source, image.patient) for image in of_fold.images}
        positive = sum(image.target for image in of_fold.images)
        said = f"{len(of_fold)} images, {len(patients)} patients, {positive} with boxes"
        print(f"fold {fold}: {said}")
    say.print(f"Written to {output}; as folds.csv in {data} it is used from now on.", markup=False)


def audit(data: DataOption) -> None:
    """List what is wrong with labels and files, and what becomes of it."""
    from lungbox import datasets
    from lungbox.datasets.audit import count

    dataset = datasets.load(data, say)
    for fault in dataset.faults:
        print(fault)
    boxes = sum(len(image.boxes) for image in dataset.images)
    uncertain = sum(image.uncertain for image in dataset.images)
    print(f"{len(dataset)} images, {boxes} boxes, {uncertain} images neither positive nor negative")
    faults = len(dataset.faults)
    print(f"{faults} fault{'' if faults == 1 else 's'}")
    for kind, number in count(dataset.faults):
        print(f"{number:6} {kind}")
    if dataset.faults:
        raise typer.Exit(SOME_FAILED)
