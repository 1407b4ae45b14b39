"""RSNA Pneumonia Detection Challenge 2018: the challenge's own CSVs beside a folder of images."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lungbox.boxes import geometry
from lungbox.constants import RSNA_SIZE
from lungbox.datasets.files import find_images, read_table, text, whole
from lungbox.datasets.types import Dataset, DatasetError, LabelledRadiograph
from lungbox.radiograph import RadiographError, size

LABELS = "stage_2_train_labels.csv"
CLASSES = "stage_2_detailed_class_info.csv"
EXTRAS = "images.csv"
IMAGE_FOLDERS = ("images", "stage_2_train_images")


def matches(folder: Path) -> bool:
    """Whether `folder` looks like RSNA data."""
    return (folder / LABELS).is_file()


def load(folder: Path) -> Dataset:
    """Load RSNA's labels and join them to the files beside them.

    Args:
        folder: holds `stage_2_train_labels.csv`, optionally `stage_2_detailed_class_info.csv`,
            the images in `images/` or `stage_2_train_images/`, and optionally `images.csv` with
            `patientId, fold, group, equalised, PatientAge, PatientSex, ViewPosition`.

    Returns:
        One item for every labelled image that has a file, sorted by identity; the others are
        among the faults.

    Raises:
        DatasetError: the labels or the images are not there.
    """
    labels = read_table(folder / LABELS, ("patientId", "x", "y", "width", "height", "Target"))
    categories = _categories(folder / CLASSES)
    extras = _extras(folder / EXTRAS)
    files = find_images(folder, IMAGE_FOLDERS)
    images, faults = [], []
    for name, rows in labels.groupby("patientId", sort=True):
        if name not in files:
            faults.append(f"{name}: labelled, but there is no image of that name")
            continue
        try:
            images.append(_join(str(name), files[str(name)], rows, categories, extras))
        except RadiographError as error:
            faults.append(f"{files[str(name)]}: {error}")
    if not images:
        raise DatasetError(f"{folder}: none of the images named in {LABELS} is there")
    return Dataset(tuple(images), tuple(faults))


def _join(
    name: str,
    path: Path,
    rows: pd.DataFrame,
    categories: dict[str, str],
    extras: dict[str, dict[Hashable, Any]],
) -> LabelledRadiograph:
    width, height = size(path)
    corners = rows.loc[rows["Target"] == 1, ["x", "y", "width", "height"]].to_numpy(np.float64)
    target = bool((rows["Target"] == 1).any())
    extra: dict[Hashable, Any] = extras.get(name, {})
    return LabelledRadiograph(
        identity=name,
        path=path,
        source="rsna",
        size=(width, height),
        boxes=geometry.scale(geometry.from_xywh(corners), (RSNA_SIZE, RSNA_SIZE), (width, height)),
        target=target,
        category=categories.get(name, "Lung Opacity" if target else ""),
        patient=text(extra.get("group"), absent=name),
        fold=whole(extra.get("fold"), absent=-1),
        view=text(extra.get("ViewPosition")),
        sex=text(extra.get("PatientSex")),
        age=whole(extra.get("PatientAge"), absent=-1),
        equalised=whole(extra.get("equalised"), absent=0) == 1,
    )


def _categories(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    table = read_table(path, ("patientId", "class")).drop_duplicates("patientId")
    return dict(zip(table["patientId"], table["class"], strict=True))


def _extras(path: Path) -> dict[str, dict[Hashable, Any]]:
    if not path.is_file():
        return {}
    records = read_table(path, ("patientId", "fold")).to_dict("records")
    return {str(record["patientId"]): record for record in records}
