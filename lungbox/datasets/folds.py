"""Folds: parts of the data with the same mix of classes, and no patient in two of them."""

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lungbox.common.files import atomic_write
from lungbox.constants import FOLDS
from lungbox.datasets.tables import fold, read_rows
from lungbox.datasets.types import Dataset, LabelIssue, LabelledRadiograph

NAME = "folds.csv"
_SEED = 2024
_COLUMNS = ("image_id", "source", "patient", "category", "fold")

# The images of a fold are counted by strata of three levels, the finest first; each level decides
# where those before it are equal.
_Stratum = tuple[object, ...]


def assign(dataset: Dataset) -> Dataset:
    """Give a fold to every image that has none.

    The images of one patient stay together, also with those that have a fold already. The folds
    have, within a few images, the same numbers of each data set, class, view and target. They
    do not depend on the order of the images; but another image may move many, so save them
    (`write_folds`) before the data grows.
    """
    patients: dict[tuple[str, str], list[LabelledRadiograph]] = defaultdict(list)
    for image in dataset.images:
        patients[image.source, image.patient].append(image)
    chosen: dict[tuple[str, str], int] = {}
    counts: list[Counter[_Stratum]] = [Counter() for _ in range(FOLDS)]
    open_patients = []
    for patient, images in patients.items():
        given = [image.fold for image in images if image.fold >= 0]
        if given:
            chosen[patient] = min(given)
            for image in images:
                counts[image.fold if image.fold >= 0 else min(given)].update(_strata(image))
        else:
            open_patients.append(patient)
    # The largest first, while others can still make up for them.
    for patient in sorted(
        open_patients, key=lambda patient: (-len(patients[patient]), _shuffle_key(*patient))
    ):
        wanted = Counter(stratum for image in patients[patient] for stratum in _strata(image))
        best = min(range(FOLDS), key=lambda number: (_crowding(wanted, counts[number]), number))
        chosen[patient] = best
        counts[best].update(wanted)
    folded = (
        image if image.fold >= 0 else replace(image, fold=chosen[image.source, image.patient])
        for image in dataset.images
    )
    return replace(dataset, images=tuple(folded))


def apply_folds(dataset: Dataset, path: Path) -> Dataset:
    """Give every image its fold in the table at `path`.

    Args:
        dataset: the images.
        path: a CSV with `image_id` and `fold`; where it has a `source`, a row is only for images
            of that data set.

    Returns:
        The images; those that the table does not name have no fold, which is an issue.

    Raises:
        DatasetError: the table lacks a column or cannot be read.
    """
    issues = list(dataset.issues)
    given: dict[tuple[str, str], int] = {}
    for row in read_rows(path, ("image_id", "fold"), issues):
        key = row.get("source"), row.get("image_id")
        if key in given:
            issues.append(row.issue("duplicate row", f"{key[1]} has a fold already; left out"))
        else:
            given[key] = fold(row, issues)
    images = []
    for image in dataset.images:
        key = (image.source, image.identity)
        number = given.get(key, given.get(("", image.identity), -1))
        if number < 0:
            what = f"gives no fold to {image.identity} of {image.source}; it is assigned one"
            issues.append(LabelIssue("image without fold", path.name, what))
        images.append(replace(image, fold=number))
    return replace(dataset, images=tuple(images), issues=tuple(issues))


def write_folds(dataset: Dataset, path: Path) -> None:
    """Write `image_id, source, patient, category, fold` of every image to a CSV at `path`."""
    with atomic_write(path) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        for image in sorted(dataset.images, key=lambda image: (image.source, image.identity)):
            table.writerow(
                (image.identity, image.source, image.patient, image.category, image.fold)
            )


def _strata(image: LabelledRadiograph) -> Sequence[_Stratum]:
    source, category = image.source, image.category
    return (
        (0, source, category, image.view, image.target),
        (1, source, category),
        (2, source),
    )


def _crowding(wanted: Counter[_Stratum], there: Counter[_Stratum]) -> tuple[int, ...]:
    """How many images a fold has of the strata that a patient would add to, level by level."""
    crowds = [0, 0, 0]
    for stratum, count in wanted.items():
        crowds[int(str(stratum[0]))] += count * there[stratum]
    return tuple(crowds)


def _shuffle_key(source: str, patient: str) -> str:
    """Sorts patients in an order that has nothing to do with their names."""
    return hashlib.sha256(f"{_SEED}\n{source}\n{patient}".encode()).hexdigest()
