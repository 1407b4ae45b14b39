"""RSNA Pneumonia Detection Challenge 2018: the challenge's own CSVs beside a folder of images."""

from collections import defaultdict
from pathlib import Path

from rich.console import Console

from lungbox.constants import RSNA_CLASSES, RSNA_SIZE
from lungbox.datasets.audit import BoxLabel, check_class
from lungbox.datasets.images import find_images
from lungbox.datasets.join import Label, join
from lungbox.datasets.tables import Row, fold, number, read_table
from lungbox.datasets.types import Dataset, Fault
from lungbox.radiograph.facts import age, sex, view

LABELS = "stage_2_train_labels.csv"
CLASSES = "stage_2_detailed_class_info.csv"
EXTRAS = "images.csv"
IMAGE_FOLDERS = ("images", "stage_2_train_images")
# Of the challenge's training set.
ALL_IMAGES = 26_684
LOOKED_FOR = f"{LABELS} with {CLASSES} and stage_2_train_images/ or images/ (RSNA)"


def matches(folder: Path) -> bool:
    """Whether `folder` looks like RSNA data."""
    return (folder / LABELS).is_file()


def load(folder: Path, say: Console | None = None) -> Dataset:
    """Load RSNA's labels and join them to the files beside them.

    View, sex and age are those of `images.csv`, and where it does not give them, of the DICOM
    headers. An image with Target 1 whose box cannot be used is marked uncertain, and so is one
    with Target 0 and a box.

    Args:
        folder: holds `stage_2_train_labels.csv`, optionally `stage_2_detailed_class_info.csv`,
            the images in `images/` or `stage_2_train_images/`, and optionally `images.csv` with
            `patientId` and any of `fold, group, equalised, PatientAge, PatientSex, ViewPosition`.
        say: where a bar is shown while headers are read.

    Returns:
        One item for every labelled image that has a file, sorted by identity; the others are
        among the faults.

    Raises:
        DatasetError: the labels or the images are not there.
    """
    faults: list[Fault] = []
    columns = ("patientId", "x", "y", "width", "height", "Target")
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in read_table(folder / LABELS, columns, faults):
        rows[row.get("patientId")].append(row)
    categories = _categories(folder / CLASSES, faults)
    extras: dict[str, Row] = {}
    if (folder / EXTRAS).is_file():
        table = read_table(folder / EXTRAS, ("patientId",), faults, once="patientId")
        extras = {row.get("patientId"): row for row in table}
    labels = [
        _label(name, of_image, categories, extras.get(name, Row("", {})), faults)
        for name, of_image in rows.items()
    ]
    files = find_images(folder, IMAGE_FOLDERS, faults)
    return join("rsna", folder, labels, files, faults, say)


def _label(
    name: str, rows: list[Row], categories: dict[str, str], extra: Row, faults: list[Fault]
) -> Label:
    boxes, targets = [], set()
    for row in rows:
        where = f"{row.where}, {name}"
        values = (row.get("x"), row.get("y"), row.get("width"), row.get("height"))
        target = number(row.get("Target"))
        targets.add(target)
        if target not in (0, 1):
            said = f"its Target is {row.get('Target') or 'blank'}, neither 0 nor 1; left out"
            faults.append(Fault("unusable row", where, said))
        elif target == 0 and any(values):
            faults.append(Fault("box without target", where, "Target 0, but a box; left out"))
            targets.add(None)
        elif target == 1 and not any(values):
            faults.append(Fault("target without box", where, "Target 1, but no box"))
        elif target == 1:
            boxes.append(BoxLabel(where, values))
    if targets >= {0, 1}:
        faults.append(Fault("contradiction", f"{rows[-1].where}, {name}", "Target both 0 and 1"))
    positive = targets != {0}
    category = categories.get(name, "")
    if category and 1 in targets and category != RSNA_CLASSES[2]:
        faults.append(Fault("contradiction", f"{CLASSES}, {name}", f"{category}, but Target 1"))
    if categories and name not in categories:
        faults.append(Fault("image without class", f"{CLASSES}, {name}", "is not among its rows"))
    return Label(
        identity=name,
        where=rows[0].where,
        boxes=boxes,
        positive=positive,
        space=(RSNA_SIZE, RSNA_SIZE),
        category=category or (RSNA_CLASSES[2] if 1 in targets else ""),
        patient=extra.get("group", name),
        fold=fold(extra, faults),
        view=view(extra.get("ViewPosition")),
        sex=sex(extra.get("PatientSex")),
        age=age(extra.get("PatientAge")),
        equalised=number(extra.get("equalised")) == 1,
    )


def _categories(path: Path, faults: list[Fault]) -> dict[str, str]:
    """The class of each image; the table has a row for each box, so most rows are repeated."""
    found: dict[str, str] = {}
    if not path.is_file():
        return found
    for row in read_table(path, ("patientId", "class"), faults, repeats=True):
        name, written = row.get("patientId"), row.get("class")
        where = f"{row.where}, {name}"
        if name not in found:
            check_class(written, RSNA_CLASSES, where, faults)
        elif written != found[name]:
            said = f"its class is {written or 'blank'} here and {found[name] or 'blank'} before"
            faults.append(Fault("contradiction", where, said))
        found.setdefault(name, written)
    return found
