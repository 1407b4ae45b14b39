"""RSNA Pneumonia Detection Challenge 2018: the challenge's own CSVs beside a folder of images."""

from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from lungbox.common.tables import Table
from lungbox.constants import RSNA_CLASS_MIX, RSNA_CLASSES, RSNA_SIZE
from lungbox.datasets.findings import nih_findings
from lungbox.datasets.images import find_images
from lungbox.datasets.issues import BoxLabel, check_class
from lungbox.datasets.labels import Label, match_files
from lungbox.datasets.tables import Row, fold, number, read_rows
from lungbox.datasets.types import Dataset, DatasetInfo, LabelIssue
from lungbox.radiograph.metadata import age, sex, view

LABELS = "stage_2_train_labels.csv"
CLASSES = "stage_2_detailed_class_info.csv"
EXTRAS = "images.csv"
IMAGE_FOLDERS = ("images", "stage_2_train_images")
COLUMNS = ("patientId", "x", "y", "width", "height", "Target")
# Of the challenge's training set.
ALL_IMAGES = 26_684
_NORMAL, _NOT_NORMAL, _OPACITY = RSNA_CLASSES
INFO = DatasetInfo(
    name="rsna",
    title="RSNA",
    files=f"{LABELS} with {CLASSES} and stage_2_train_images/ or images/ (RSNA)",
    categories=RSNA_CLASSES,
    negatives={"normal": _NORMAL, "not normal": _NOT_NORMAL},
    mix=RSNA_CLASS_MIX,
    categories_file=CLASSES,
)


@dataclass
class ImageLabels:
    """The rows of one image in `stage_2_train_labels.csv`.

    Attributes:
        where: the first of them.
        boxes: of rows with Target 1, in 1024 space; not checked against the image.
        targets: 0 and 1 where a row has it; None where a row is an issue.
    """

    where: str
    boxes: list[BoxLabel] = field(default_factory=list)
    targets: set[int | None] = field(default_factory=set)


def matches(folder: Path) -> bool:
    """Whether `folder` looks like RSNA data."""
    return (folder / LABELS).is_file()


def load(folder: Path, console: Console | None = None) -> Dataset:
    """Load RSNA's labels and match them to the image files.

    View, sex and age are those of `images.csv`, and where it does not give them, of the DICOM
    headers. An image with Target 1 whose box cannot be used is marked uncertain, and so is one
    with Target 0 and a box.

    Args:
        folder: holds `stage_2_train_labels.csv`, optionally `stage_2_detailed_class_info.csv`,
            the images in `images/` or `stage_2_train_images/`, and optionally `images.csv` with
            `patientId` and any of `fold, group, equalised, PatientAge, PatientSex, ViewPosition,
            nih_labels`, the last NIH's findings with `|` between them.
        console: where a progress bar is shown while headers are read.

    Returns:
        The labelled images that have a file, sorted by identity; the others are among the issues.

    Raises:
        DatasetError: the labels or the images are missing.
    """
    issues: list[LabelIssue] = []
    images = read_labels(folder / LABELS, issues)
    categories = _categories(folder / CLASSES, issues)
    extras: dict[str, Row] = {}
    if (folder / EXTRAS).is_file():
        table = read_rows(folder / EXTRAS, ("patientId",), issues, once="patientId")
        extras = {row.get("patientId"): row for row in table}
    labels = [
        _label(name, of_image, categories, extras.get(name, Row("", {})), issues)
        for name, of_image in images.items()
    ]
    files = find_images(folder, IMAGE_FOLDERS, issues)
    return match_files(INFO, folder, labels, files, issues, console)


def read_labels(table: Path | Table, issues: list[LabelIssue]) -> dict[str, ImageLabels]:
    """The rows of `stage_2_train_labels.csv` by image, in the order of the file.

    An issue is: a row that is there twice, without `patientId` or with too many cells; a Target
    that is neither 0 nor 1; a box with Target 0 and none with Target 1; an image with both Targets.
    Training leaves such rows out (`load`); scoring refuses the file (`evaluation.labels`).

    Args:
        table: the file, or what was read of it.
        issues: those found are appended.

    Raises:
        DatasetError: it cannot be read, or lacks a column.
    """
    images: dict[str, ImageLabels] = {}
    for row in read_rows(table, COLUMNS, issues):
        name = row.get("patientId")
        image = images.setdefault(name, ImageLabels(row.where))
        box, target = BoxLabel.of(row, name), number(row.get("Target"))
        before = image.targets & {0, 1}
        if target not in (0, 1):
            what = f"its Target is {row.get('Target') or 'blank'}, neither 0 nor 1; left out"
            issues.append(row.issue("unusable row", what, name))
            image.targets.add(None)
            continue
        if target == 0 and not box.blank:
            issues.append(box.issue("box without target", "Target 0, but a box; left out"))
            image.targets.add(None)
        elif target == 1 and box.blank:
            issues.append(box.issue("target without box", "Target 1, but no box"))
        elif target == 1:
            image.boxes.append(box)
        image.targets.add(int(target))
        if before == {1 - int(target)}:
            issues.append(row.issue("contradiction", "Target both 0 and 1", name))
    return images


def _label(
    name: str,
    image: ImageLabels,
    categories: dict[str, str],
    extra: Row,
    issues: list[LabelIssue],
) -> Label:
    category = categories.get(name, "")
    if category and 1 in image.targets and category != _OPACITY:
        issues.append(
            LabelIssue("contradiction", f"{CLASSES}, {name}", f"{category}, but Target 1")
        )
    if categories and name not in categories:
        issues.append(
            LabelIssue("image without class", f"{CLASSES}, {name}", "is not among its rows")
        )
    return Label(
        identity=name,
        where=image.where,
        boxes=image.boxes,
        positive=image.targets != {0},
        space=(RSNA_SIZE, RSNA_SIZE),
        category=category or (_OPACITY if 1 in image.targets else ""),
        patient=extra.get("group", name),
        fold=fold(extra, issues),
        view=view(extra.get("ViewPosition")),
        sex=sex(extra.get("PatientSex")),
        age=age(extra.get("PatientAge")),
        equalised=number(extra.get("equalised")) == 1,
        findings=nih_findings(extra.get("nih_labels")),
    )


def _categories(path: Path, issues: list[LabelIssue]) -> dict[str, str]:
    """The class of each image; the table has a row for each box, so that most rows are repeated."""
    found: dict[str, str] = {}
    if not path.is_file():
        return found
    for row in read_rows(path, ("patientId", "class"), issues, repeats=True):
        name, written = row.get("patientId"), row.get("class")
        if name not in found:
            check_class(written, RSNA_CLASSES, f"{row.where}, {name}", issues)
        elif written != found[name]:
            what = f"its class is {written or 'blank'} here and {found[name] or 'blank'} before"
            issues.append(row.issue("contradiction", what, name))
        found.setdefault(name, written)
    return found
