"""SIIM-FISABIO-RSNA COVID-19 Detection 2021 exactly as Kaggle ships it."""

import ast
from pathlib import Path

from rich.console import Console

from lungbox.constants import SIIM_CLASSES
from lungbox.datasets.audit import BoxLabel, siim_positive
from lungbox.datasets.images import find_images
from lungbox.datasets.join import Label, join
from lungbox.datasets.tables import Row, number, read_table
from lungbox.datasets.types import Dataset, Fault

IMAGES = "train_image_level.csv"
STUDIES = "train_study_level.csv"
FOLDER = "train"
LOOKED_FOR = f"{IMAGES} with {STUDIES} and {FOLDER}/ (SIIM-COVID as Kaggle ships it)"


def matches(folder: Path) -> bool:
    """Whether `folder` looks like the challenge's files."""
    return (folder / IMAGES).is_file()


def load(folder: Path, say: Console | None = None) -> Dataset:
    """Load the boxes of the images and the classes of their studies, and join them to the files.

    The patient is the study's `PatientID` where the headers give one, else the study. An image
    of a positive study without a box is marked uncertain: nobody said that it shows nothing.

    Args:
        folder: holds `train_image_level.csv` (`id, boxes, label, StudyInstanceUID`),
            `train_study_level.csv` (`id` and a column of 0 and 1 for each class) and
            `train/<study>/<series>/<image>.dcm`.
        say: where a bar is shown while headers are read.

    Raises:
        DatasetError: a table or the images are not there.
    """
    faults: list[Fault] = []
    columns = ("id", "boxes", "StudyInstanceUID")
    table = read_table(folder / IMAGES, columns, faults, once="id")
    studies = {
        row.get("id").removesuffix("_study"): _category(row, faults)
        for row in read_table(folder / STUDIES, ("id", *SIIM_CLASSES), faults, once="id")
    }
    labels = [_label(row, studies, faults) for row in table]
    return join("siim", folder, labels, find_images(folder, (FOLDER,), faults), faults, say)


def _label(row: Row, studies: dict[str, str], faults: list[Fault]) -> Label:
    name = row.get("id").removesuffix("_image")
    study = row.get("StudyInstanceUID")
    where = f"{row.where}, {name}"
    if study not in studies:
        said = f"its study {study or '(none given)'} is not in {STUDIES}; taken as without a class"
        faults.append(Fault("image without class", where, said))
    category = studies.get(study, "")
    boxes = _boxes(row.get("boxes"), where)
    return Label(
        identity=name,
        where=row.where,
        boxes=boxes,
        positive=siim_positive(category, boxes, where, faults),
        category=category,
        study=study,
    )


def _category(row: Row, faults: list[Fault]) -> str:
    """The class of a study; none, and a fault, unless exactly one is marked."""
    marked = [name for name in SIIM_CLASSES if number(row.get(name)) == 1]
    if len(marked) == 1:
        return marked[0]
    said = f"the study has {len(marked)} classes ({', '.join(marked) or 'none'}), not one"
    faults.append(Fault("unknown class", f"{row.where}, {row.get('id')}", said))
    return ""


def _boxes(written: str, where: str) -> list[BoxLabel]:
    """The boxes of a cell, a list of dictionaries as Python writes it.

    What is no such list is one box that cannot be used, so that it is said, and the image is not
    taken for one without findings.
    """
    if not written:
        return []
    try:
        found = ast.literal_eval(written)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list):
        return [BoxLabel(where, (written[:60], "", "", ""))]
    return [
        BoxLabel(where, (box.get("x"), box.get("y"), box.get("width"), box.get("height")))
        if isinstance(box, dict)
        else BoxLabel(where, (box, "", "", ""))
        for box in found
    ]
