"""Data sets: labels joined to files, whatever layout they come in."""

from pathlib import Path

from rich.console import Console

from lungbox.datasets import folds, plain, rsna, siim, siim_kaggle
from lungbox.datasets.audit import torn_patients
from lungbox.datasets.types import Dataset, DatasetError, Fault, LabelledRadiograph
from lungbox.datasets.unlabelled import load_unlabelled

__all__ = ["Dataset", "DatasetError", "Fault", "LabelledRadiograph", "load", "load_unlabelled"]

# The first that matches is it.
_LAYOUTS = (rsna, siim_kaggle, siim, plain)


def load(folder: Path, say: Console | None = None) -> Dataset:
    """Load every data set in `folder`: its own, or those of the folders in it.

    Every image has a fold: that of `folds.csv` beside the labels where there is one, else the
    data set's own, else one made by `folds.assign`. A `folds.csv` in `folder` itself holds for
    all data sets in it.

    Args:
        folder: see docs/training.md for the layouts.
        say: where a bar is shown while the headers of many files are read.

    Raises:
        DatasetError: there is none, or one lacks what it needs.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder")
    found = _load_one(folder, say)
    if not found.images:
        for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
            found = found + _load_one(inner, say)
        if found.images and (folder / folds.NAME).is_file():
            found = folds.apply_folds(found, folder / folds.NAME)
    if not found.images:
        looked_for = "; ".join(layout.LOOKED_FOR for layout in _LAYOUTS)
        raise DatasetError(
            f"{folder}: holds no known data set; looked, here and one folder down, for {looked_for}"
        )
    found = folds.assign(found)
    return Dataset(found.images, (*found.faults, *torn_patients(found)))


def _load_one(folder: Path, say: Console | None) -> Dataset:
    for layout in _LAYOUTS:
        if layout.matches(folder):
            found = layout.load(folder, say)
            given = folder / folds.NAME
            return folds.apply_folds(found, given) if given.is_file() else found
    return Dataset(())
