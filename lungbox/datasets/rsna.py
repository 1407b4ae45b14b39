"""RSNA Pneumonia Detection Challenge 2018: the challenge's own CSVs beside a folder of images."""

from pathlib import Path

import numpy as np
import pandas as pd

from lungbox.constants import RSNA_SIZE
from lungbox.datasets.files import find_images, read_table
from lungbox.datasets.types import Dataset, DatasetError, LabelledRadiograph, scale_boxes
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
    name: str, path: Path, rows: pd.DataFrame, categories: dict[str, str], extras: pd.DataFrame
) -> LabelledRadiograph:
    width, height = size(path)
    corners = rows.loc[rows["Target"] == 1, ["x", "y", "width", "height"]].to_numpy(np.float64)
    corners[:, 2:] += corners[:, :2]
    target = bool((rows["Target"] == 1).any())
    extra = extras.loc[name] if name in extras.index else pd.Series(dtype=object)
    return LabelledRadiograph(
        identity=name,
        path=path,
        source="rsna",
        size=(width, height),
        boxes=scale_boxes(corners, (RSNA_SIZE, RSNA_SIZE), (width, height)),
        target=target,
        category=categories.get(name, "Lung Opacity" if target else ""),
        patient=str(extra.get("group", name)),
        fold=int(extra.get("fold", -1)),
        view=str(extra.get("ViewPosition", "")),
        sex=str(extra.get("PatientSex", "")),
        age=int(extra.get("PatientAge", -1)),
        equalised=bool(int(extra.get("equalised", 0))),
    )


def _categories(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    table = read_table(path, ("patientId", "class")).drop_duplicates("patientId")
    return dict(zip(table["patientId"], table["class"], strict=True))


def _extras(path: Path) -> pd.DataFrame:
    if not path.is_file():
        return pd.DataFrame()
    return read_table(path, ("patientId", "fold")).set_index("patientId")
