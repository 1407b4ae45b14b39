"""SIIM-FISABIO-RSNA COVID-19 Detection 2021, with its boxes of lung opacity, as two tables."""

from collections import defaultdict
from pathlib import Path

from rich.console import Console

from lungbox.constants import SIIM_CLASSES
from lungbox.datasets.audit import BoxLabel, check_class, siim_positive
from lungbox.datasets.images import find_images
from lungbox.datasets.join import Label, join
from lungbox.datasets.tables import Row, fold, number, read_table
from lungbox.datasets.types import Dataset, Fault

IMAGES = "images.csv"
BOXES = "boxes.csv"
LOOKED_FOR = f"{IMAGES} with {BOXES} and images/ (SIIM-COVID as two tables)"


def matches(folder: Path) -> bool:
    """Whether `folder` looks like SIIM-COVID data."""
    return (folder / IMAGES).is_file() and (folder / BOXES).is_file()


def load(folder: Path, say: Console | None = None) -> Dataset:
    """Load SIIM-COVID's boxes and join them to the files beside them.

    Args:
        folder: holds `images.csv` (`image_id, class, fold, group, width, height`, the sizes those
            of the original files), `boxes.csv` (`image_id, x, y, width, height` in pixels of the
            originals) and `images/`.
        say: where a bar is shown while headers are read.

    Returns:
        One item for every image with a file, sorted by identity. An image of a positive study
        without a box is marked uncertain: nobody said that it shows nothing.

    Raises:
        DatasetError: a table or the images are not there.
    """
    faults: list[Fault] = []
    columns = ("image_id", "class", "fold", "group", "width", "height")
    table = read_table(folder / IMAGES, columns, faults, once="image_id")
    boxes: dict[str, list[BoxLabel]] = defaultdict(list)
    known = {row.get("image_id") for row in table}
    for row in read_table(folder / BOXES, ("image_id", "x", "y", "width", "height"), faults):
        name = row.get("image_id")
        values = (row.get("x"), row.get("y"), row.get("width"), row.get("height"))
        boxes[name].append(BoxLabel(f"{row.where}, {name}", values))
        if name not in known:
            said = f"{name} is not in {IMAGES}; left out"
            faults.append(Fault("box without image", row.where, said))
    labels = [label for row in table if (label := _label(row, boxes[row.get("image_id")], faults))]
    return join("siim", folder, labels, find_images(folder, ("images",), faults), faults, say)


def _label(row: Row, boxes: list[BoxLabel], faults: list[Fault]) -> Label | None:
    """What a row says; None, and a fault, where its boxes could not be placed."""
    name = row.get("image_id")
    where = f"{row.where}, {name}"
    width, height = number(row.get("width")), number(row.get("height"))
    if not width or not height or width < 0 or height < 0:
        written = f"{row.get('width') or 'nothing'} x {row.get('height') or 'nothing'}"
        said = f"the size of its original is {written}, so its boxes have no place; left out"
        faults.append(Fault("unusable row", where, said))
        return None
    category = row.get("class")
    check_class(category, SIIM_CLASSES, where, faults)
    return Label(
        identity=name,
        where=row.where,
        boxes=boxes,
        positive=siim_positive(category, boxes, where, faults),
        space=(width, height),
        category=category,
        patient=row.get("group", name),
        fold=fold(row, faults),
    )
