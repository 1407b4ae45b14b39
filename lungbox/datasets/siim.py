"""SIIM-FISABIO-RSNA COVID-19 Detection 2021, with its boxes of lung opacity."""

from pathlib import Path

import numpy as np

from lungbox.boxes import geometry
from lungbox.constants import SIIM_CLASSES
from lungbox.datasets.files import find_images, read_table, text, whole
from lungbox.datasets.types import Dataset, DatasetError, LabelledRadiograph
from lungbox.radiograph import RadiographError, size

IMAGES = "images.csv"
BOXES = "boxes.csv"


def matches(folder: Path) -> bool:
    """Whether `folder` looks like SIIM-COVID data."""
    return (folder / IMAGES).is_file() and (folder / BOXES).is_file()


def load(folder: Path) -> Dataset:
    """Load SIIM-COVID's boxes and join them to the files beside them.

    Args:
        folder: holds `images.csv` (`image_id, class, Target, fold, group, width, height`, the
            sizes those of the original files), `boxes.csv` (`image_id, x, y, width, height` in
            pixels of the originals) and `images/`.

    Returns:
        One item for every image with a file, sorted by identity. An image of a positive study
        without a box is marked uncertain: nobody said that it shows nothing.

    Raises:
        DatasetError: a table or the images are not there.
    """
    columns = ("image_id", "class", "fold", "group", "width", "height")
    table = read_table(folder / IMAGES, columns).sort_values("image_id")
    boxes = read_table(folder / BOXES, ("image_id", "x", "y", "width", "height"))
    corners = {
        name: rows[["x", "y", "width", "height"]].to_numpy(np.float64)
        for name, rows in boxes.groupby("image_id")
    }
    files = find_images(folder, ("images",))
    images, faults = [], []
    for row in table.to_dict("records"):
        name = str(row["image_id"])
        if name not in files:
            faults.append(f"{name}: labelled, but there is no image of that name")
            continue
        try:
            file_size = size(files[name])
        except RadiographError as error:
            faults.append(f"{files[name]}: {error}")
            continue
        found = geometry.from_xywh(corners.get(name, np.zeros((0, 4))))
        original = (float(row["width"]), float(row["height"]))
        images.append(
            LabelledRadiograph(
                identity=name,
                path=files[name],
                source="siim",
                size=file_size,
                boxes=geometry.scale(found, original, file_size),
                target=len(found) > 0,
                category=str(row["class"]),
                patient=text(row["group"], absent=name),
                fold=whole(row["fold"], absent=-1),
                uncertain=len(found) == 0 and row["class"] != SIIM_CLASSES[0],
            )
        )
    if not images:
        raise DatasetError(f"{folder}: none of the images named in {IMAGES} is there")
    return Dataset(tuple(images), tuple(faults))
