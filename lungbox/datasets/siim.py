"""SIIM-FISABIO-RSNA COVID-19 Detection 2021, with its boxes of lung opacity: as Kaggle ships it, or
as two tables."""

import ast
from collections import defaultdict
from pathlib import Path

from rich.console import Console

from lungbox.constants import SIIM_CLASSES
from lungbox.datasets.images import find_images
from lungbox.datasets.issues import BoxLabel, check_class
from lungbox.datasets.labels import Label, match_files
from lungbox.datasets.tables import Row, fold, number, original_size, read_rows
from lungbox.datasets.types import Dataset, DatasetInfo, LabelIssue

KAGGLE_IMAGES, KAGGLE_STUDIES, KAGGLE_FOLDER = (
    "train_image_level.csv",
    "train_study_level.csv",
    "train",
)
IMAGES, BOXES = "images.csv", "boxes.csv"
_NEGATIVE = SIIM_CLASSES[0]
INFO = DatasetInfo(
    name="siim",
    title="SIIM-COVID",
    files=f"{KAGGLE_IMAGES} with {KAGGLE_STUDIES} and {KAGGLE_FOLDER}/ (SIIM-COVID as Kaggle ships "
    f"it); {IMAGES} with {BOXES} and images/ (SIIM-COVID as two tables)",
    categories=SIIM_CLASSES,
    negatives={"negative": _NEGATIVE},
)


def matches(folder: Path) -> bool:
    """Whether `folder` looks like SIIM-COVID data."""
    return (folder / KAGGLE_IMAGES).is_file() or all(
        (folder / name).is_file() for name in (IMAGES, BOXES)
    )


def load(folder: Path, console: Console | None = None) -> Dataset:
    """Load SIIM-COVID's boxes and match them to the image files.

    An image of a positive study without a box is marked uncertain: it is not labelled as without
    finding.

    Args:
        folder: either holds `train_image_level.csv` (`id, boxes, label, StudyInstanceUID`),
            `train_study_level.csv` (`id` and a column of 0 and 1 for each class) and
            `train/<study>/<series>/<image>.dcm`; then the patient is the study's `PatientID` where
            the headers give one, else the study. Or it holds `images.csv` (`image_id, class, fold,
            group, width, height`, the sizes those of the original files), `boxes.csv` (`image_id,
            x, y, width, height` in pixels of the originals) and `images/`.
        console: where a progress bar is shown while headers are read.

    Returns:
        The images that have a file, sorted by identity.

    Raises:
        DatasetError: a table or the images are missing.
    """
    issues: list[LabelIssue] = []
    if (folder / KAGGLE_IMAGES).is_file():
        labels, images = _kaggle_labels(folder, issues), KAGGLE_FOLDER
    else:
        labels, images = _two_tables(folder, issues), "images"
    files = find_images(folder, (images,), issues)
    return match_files(INFO, folder, labels, files, issues, console)


def _two_tables(folder: Path, issues: list[LabelIssue]) -> list[Label]:
    columns = ("image_id", "class", "fold", "group", "width", "height")
    table = read_rows(folder / IMAGES, columns, issues, once="image_id")
    boxes: dict[str, list[BoxLabel]] = defaultdict(list)
    known = {row.get("image_id") for row in table}
    for row in read_rows(folder / BOXES, ("image_id", "x", "y", "width", "height"), issues):
        name = row.get("image_id")
        boxes[name].append(BoxLabel.of(row, name))
        if name not in known:
            issues.append(row.issue("box without image", f"{name} is not in {IMAGES}; left out"))
    labels = (_sized_label(row, boxes[row.get("image_id")], issues) for row in table)
    return [label for label in labels if label]


def _sized_label(row: Row, boxes: list[BoxLabel], issues: list[LabelIssue]) -> Label | None:
    """The labels of an image; None, and an issue, where the space of its boxes is not known."""
    name = row.get("image_id")
    space = original_size(row, ("width", "height"), name, issues)
    if space is None:
        return None
    where, category = f"{row.where}, {name}", row.get("class")
    check_class(category, SIIM_CLASSES, where, issues)
    return Label(
        identity=name,
        where=row.where,
        boxes=boxes,
        positive=_is_positive(category, boxes, where, issues),
        space=space,
        category=category,
        patient=row.get("group", name),
        fold=fold(row, issues),
    )


def _kaggle_labels(folder: Path, issues: list[LabelIssue]) -> list[Label]:
    columns = ("id", "boxes", "StudyInstanceUID")
    table = read_rows(folder / KAGGLE_IMAGES, columns, issues, once="id")
    studies = {
        row.get("id").removesuffix("_study"): _study_class(row, issues)
        for row in read_rows(folder / KAGGLE_STUDIES, ("id", *SIIM_CLASSES), issues, once="id")
    }
    return [_kaggle_label(row, studies, issues) for row in table]


def _kaggle_label(row: Row, studies: dict[str, str], issues: list[LabelIssue]) -> Label:
    name, study = row.get("id").removesuffix("_image"), row.get("StudyInstanceUID")
    if study not in studies:
        what = f"its study {study or '(none given)'} is not in {KAGGLE_STUDIES}; it has no class"
        issues.append(row.issue("image without class", what, name))
    where, category = f"{row.where}, {name}", studies.get(study, "")
    boxes = _boxes_of_cell(row.get("boxes"), where)
    return Label(
        identity=name,
        where=row.where,
        boxes=boxes,
        positive=_is_positive(category, boxes, where, issues),
        category=category,
        study=study,
    )


def _study_class(row: Row, issues: list[LabelIssue]) -> str:
    """The class of a study; none, and an issue, unless exactly one is marked."""
    marked = [name for name in SIIM_CLASSES if number(row.get(name)) == 1]
    if len(marked) == 1:
        return marked[0]
    what = f"the study has {len(marked)} classes ({', '.join(marked) or 'none'}), not one"
    issues.append(row.issue("unknown class", what, row.get("id")))
    return ""


def _is_positive(
    category: str, boxes: list[BoxLabel], where: str, issues: list[LabelIssue]
) -> bool:
    """Whether a class is that of a positive study; boxes on a negative one are an issue."""
    if boxes and category == _NEGATIVE:
        issues.append(LabelIssue("box without target", where, f"{category}, but has a box"))
    return category != _NEGATIVE


def _boxes_of_cell(written: str, where: str) -> list[BoxLabel]:
    """The boxes of a cell: a list of dictionaries as Python writes it.

    Anything else becomes one unusable box, so that it is an issue and the image does not count as
    one without finding.
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
