"""Data sets: labels matched to image files, in any of the known folder layouts.

A data set is one module: `INFO` declares it, `matches` recognises its folder, `load` reads it. A
new one is added to `_LAYOUTS` below; recipes, checks and evaluation find it by its `INFO`.
"""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from lungbox.datasets import folds, plain, rsna, siim
from lungbox.datasets.images import UNLABELLED, load_unlabelled
from lungbox.datasets.issues import files_across_folds, patients_across_folds
from lungbox.datasets.types import (
    Dataset,
    DatasetError,
    DatasetInfo,
    LabelIssue,
    LabelledRadiograph,
)

__all__ = [
    "INFOS",
    "Dataset",
    "DatasetError",
    "DatasetInfo",
    "LabelIssue",
    "LabelledRadiograph",
    "challenge_images",
    "info_of",
    "load",
    "load_unlabelled",
    "mix_of",
]

# The first that matches a folder loads it.
_LAYOUTS = (rsna, siim, plain)

# Every data set by the source of its images.
INFOS: dict[str, DatasetInfo] = {
    info.name: info for info in (*(layout.INFO for layout in _LAYOUTS), UNLABELLED)
}


def load(folder: Path, console: Console | None = None) -> Dataset:
    """Load every data set in `folder`: its own, or those of the folders in it.

    Every image has a fold: that of `folds.csv` beside the labels where there is one, else the
    data set's own, else one made by `folds.assign`. A `folds.csv` in `folder` itself applies to
    all data sets in it.

    Args:
        folder: see docs/training.md for the layouts.
        console: where a progress bar is shown while the headers of many files are read.

    Raises:
        DatasetError: there is none, or one lacks what it needs.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder")
    found = _load_one(folder, console)
    if found is None:
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            one = _load_one(inner, console)
            if one is not None:
                found = one if found is None else found + one
        if found and (folder / folds.NAME).is_file():
            found = folds.apply_folds(found, folder / folds.NAME)
    if found is None:
        looked_for = "; ".join(layout.INFO.files for layout in _LAYOUTS)
        raise DatasetError(
            f"{folder}: holds no known data set; looked, here and one folder down, for {looked_for}"
        )
    found = folds.assign(found)
    across = (*patients_across_folds(found), *files_across_folds(found))
    return Dataset(found.images, (*found.issues, *across), found.class_names)


def info_of(source: str) -> DatasetInfo:
    """The declaration of the data set that images of `source` are of."""
    return INFOS.get(source) or DatasetInfo(name=source, title=source)


def challenge_images(dataset: Dataset) -> Dataset:
    """The images that ensembles are scored and tuned on first: those of the data set whose
    challenge has a mix of classes; none where there is no such data set."""
    with_mix = {name for name in dataset.sources if info_of(name).mix}
    first = next((name for name in INFOS if name in with_mix), "")
    return dataset.of_source(first)


def mix_of(dataset: Dataset) -> Mapping[str, float]:
    """The share of each class in the challenge that the first image is of; empty without one."""
    return info_of(dataset.images[0].source).mix if dataset.images else {}


def _load_one(folder: Path, console: Console | None) -> Dataset | None:
    for layout in _LAYOUTS:
        if layout.matches(folder):
            found = layout.load(folder, console)
            given = folder / folds.NAME
            return folds.apply_folds(found, given) if given.is_file() else found
    return None
