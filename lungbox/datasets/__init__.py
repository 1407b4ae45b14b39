"""Data sets: labels matched to image files, in any of the known folder layouts.

A data set is one module: `INFO` declares it, `matches` recognises its folder, `load` reads it. A
new one is added to `_LAYOUTS` below; recipes, checks and evaluation find it by its `INFO`.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from lungbox.boxes.consensus import SAME_FINDING_IOU
from lungbox.datasets import folds, nih, plain, rsna, siim, vinbigdata
from lungbox.datasets.consensus import findings_only, opacity_only, readers_agreement
from lungbox.datasets.images import UNLABELLED, load_unlabelled
from lungbox.datasets.issues import files_across_folds, patients_across_folds
from lungbox.datasets.types import (
    LUNG_OPACITY,
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
    "as_findings",
    "as_opacity",
    "challenge_images",
    "info_of",
    "load",
    "load_unlabelled",
    "mix_of",
    "readers_agreement",
]

# The first that matches a folder loads it.
_LAYOUTS = (rsna, siim, nih, vinbigdata, plain)

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


def as_opacity(dataset: Dataset, classes: Collection[str] = ()) -> Dataset:
    """The data set as the task of lung opacity has it, see `consensus.opacity_only`.

    Args:
        dataset: with boxes of any classes.
        classes: those that count as opacity in data sets of several findings; what these declare
            (`DatasetInfo.opacity`) where empty.
    """
    images = []
    for image in dataset.images:
        declared = info_of(image.source).opacity
        images.append(opacity_only(image, (classes or declared) if declared else ()))
    return replace(dataset, images=tuple(images), class_names=(LUNG_OPACITY,))


def as_findings(
    dataset: Dataset,
    classes: Sequence[str] = (),
    min_readers: int = 1,
    iou_threshold: float = SAME_FINDING_IOU,
) -> Dataset:
    """The data set as the task of several findings has it, see `consensus.findings_only`.

    Boxes that a single reader drew are kept by default: the labels of VinBigData's challenge are
    the union of three readers, its winners trained on that, and 38 % of the boxes have no partner.

    Data sets with boxes of lung opacity alone (RSNA, SIIM) are left out, and so are those with
    boxes of none of `classes`. An image without any box is uncertain where its data set has a class
    of normal images and it is of another.

    Args:
        dataset: with boxes of any classes, of all readers.
        classes: the findings, in the order of a detector's outputs; all of the data where empty.
        min_readers: the fewest readers that have to agree, where several readers drew boxes.
        iou_threshold: boxes of one class that overlap by more are of one finding.

    Raises:
        DatasetError: a class is in none of the data sets, or none has boxes of several findings.

    >>> as_findings(Dataset(()))
    Traceback (most recent call last):
    lungbox.datasets.types.DatasetError: none of the data sets has boxes of several findings
    """
    of_source = {source: _findings_of(dataset, source) for source in dataset.sources}
    known = set().union(*of_source.values())
    names = tuple(classes) or tuple(name for name in dataset.class_names if name in known)
    if not names:
        raise DatasetError("none of the data sets has boxes of several findings")
    for name in names:
        if name not in known:
            has = ", ".join(label for label in dataset.class_names if label in known) or "none"
            raise DatasetError(f"no data set has boxes of the finding {name}; they have: {has}")
    images = []
    for image in dataset.images:
        if not of_source[image.source].intersection(names):
            continue
        normal = info_of(image.source).normal or image.category
        unknown = len(image.boxes) == 0 and image.category != normal
        found = findings_only(image, names, min_readers, iou_threshold)
        images.append(replace(found, uncertain=found.uncertain or unknown))
    return replace(dataset, images=tuple(images), class_names=names)


def _findings_of(dataset: Dataset, source: str) -> frozenset[str]:
    """The classes of a data set's boxes; none where they are of lung opacity alone."""
    names = set(info_of(source).class_names) - {LUNG_OPACITY}
    names.update(*(image.labels for image in dataset.images if image.source == source))
    return frozenset(names if names != {LUNG_OPACITY} else ())


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
