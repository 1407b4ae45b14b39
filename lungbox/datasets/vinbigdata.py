"""VinBigData Chest X-ray Abnormalities Detection 2021: 14 findings, each image read by three
radiologists."""

from collections import defaultdict
from pathlib import Path

from rich.console import Console

from lungbox.constants import VINBIGDATA_CLASSES, VINBIGDATA_NO_FINDING
from lungbox.datasets.findings import share_of_readers
from lungbox.datasets.images import find_images
from lungbox.datasets.issues import BoxLabel
from lungbox.datasets.labels import Label, match_files
from lungbox.datasets.tables import Row, fold, number, original_size, read_rows
from lungbox.datasets.types import Dataset, DatasetInfo, LabelIssue

ROWS, SIZES, IMAGES = "train.csv", "train_meta.csv", "images.csv"
IMAGE_FOLDERS = ("train", "images256", "images")
NO_FINDING = VINBIGDATA_CLASSES[VINBIGDATA_NO_FINDING]
CLASSES = VINBIGDATA_CLASSES[:VINBIGDATA_NO_FINDING]
OPACITY = ("Lung Opacity", "Consolidation", "Infiltration")
_ABNORMAL = "Abnormal without opacity"
INFO = DatasetInfo(
    name="vinbigdata",
    title="VinBigData",
    files=f"{ROWS} with {SIZES} and images (VinBigData; both tables also as .gz)",
    class_names=CLASSES,
    categories=(NO_FINDING, _ABNORMAL, "Opacity"),
    negatives={"normal": NO_FINDING, "abnormal": _ABNORMAL},
    opacity=OPACITY,
)


def matches(folder: Path) -> bool:
    """Whether `folder` has the challenge's two tables."""
    return _table(folder, ROWS).is_file() and _table(folder, SIZES).is_file()


def load(folder: Path, console: Console | None = None) -> Dataset:
    """Load VinBigData's boxes, all readers', and match them to the image files.

    Args:
        folder: holds `train.csv` (`image_id, class_name, rad_id, x_min, y_min, x_max, y_max`, in
            pixels of the originals), `train_meta.csv` (`image_id, dim0, dim1`: height and width
            of the originals), image files of any size in `train/`, `images256/` or `images/`, and
            optionally `images.csv` with the `fold` of each `image_id`. Images without a file are
            left out without an issue: few people keep all 15,000 in full size.
        console: where a progress bar is shown while headers are read.

    Returns:
        The images that have a file, sorted by identity; patients are not known, an image is one.

    Raises:
        DatasetError: a table lacks a column, or the images are missing.
    """
    issues: list[LabelIssue] = []
    sizes = read_rows(_table(folder, SIZES), ("image_id", "dim0", "dim1"), issues, once="image_id")
    folds = _folds(folder, issues)
    columns = ("image_id", "class_name", "rad_id", "x_min", "y_min", "x_max", "y_max")
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(_table(folder, ROWS), columns, issues, repeats=True):
        rows[row.get("image_id")].append(row)
    files = find_images(folder, IMAGE_FOLDERS, issues)
    with_file = (row for row in sizes if row.get("image_id") in rows.keys() & files.keys())
    found = (_label(row, rows[row.get("image_id")], folds, issues) for row in with_file)
    labels = [label for label in found if label]
    return match_files(INFO, folder, labels, files, issues, console)


def _table(folder: Path, name: str) -> Path:
    """The table, or its compressed form where only that is there."""
    packed = folder / f"{name}.gz"
    return packed if packed.is_file() and not (folder / name).is_file() else folder / name


def _folds(folder: Path, issues: list[LabelIssue]) -> dict[str, int]:
    if not (folder / IMAGES).is_file():
        return {}
    rows = read_rows(folder / IMAGES, ("image_id", "fold"), issues, once="image_id")
    return {row.get("image_id"): fold(row, issues) for row in rows}


def _label(
    size: Row, rows: list[Row], folds: dict[str, int], issues: list[LabelIssue]
) -> Label | None:
    """The labels of an image; None, and an issue, where the space of its boxes is not known."""
    name = size.get("image_id")
    space = original_size(size, ("dim1", "dim0"), name, issues)
    if space is None:
        return None
    boxes = [_box(row, name) for row in rows if row.get("class_name") != NO_FINDING]
    marked = {box.name for box in boxes}
    return Label(
        identity=name,
        where=rows[0].where,
        boxes=boxes,
        positive=False,
        space=space,
        category="Opacity" if marked & set(OPACITY) else _ABNORMAL if marked else NO_FINDING,
        patient=name,
        fold=folds.get(name, -1),
        findings=share_of_readers(
            [row.get("class_name") for row in rows], [row.get("rad_id") for row in rows]
        ),
    )


def _box(row: Row, name: str) -> BoxLabel:
    x1, y1, x2, y2 = (number(row.get(edge)) for edge in ("x_min", "y_min", "x_max", "y_max"))
    values: tuple[object, object, object, object] = (x1, y1, None, None)
    if x1 is not None and y1 is not None and x2 is not None and y2 is not None:
        values = (x1, y1, x2 - x1, y2 - y1)
    where = f"{row.where}, {name}"
    return BoxLabel(where, values, row.get("class_name"), row.line, row.get("rad_id"))
