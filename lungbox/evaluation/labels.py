"""A challenge's label files, read for scoring, which does not need the images.

RSNA's are parsed by `datasets.rsna.read_labels`, as for training. What training leaves out and
reports as an issue is an error here, for the score would be another: the file is refused, with
every such row. As in the challenge, boxes are not compared with the size of the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Boxes, geometry
from lungbox.common.tables import Table, TableError, read_table
from lungbox.constants import VINBIGDATA_CLASSES, VINBIGDATA_NO_FINDING
from lungbox.datasets import LabelIssue, rsna
from lungbox.datasets.issues import Corners, read_corners
from lungbox.datasets.tables import Row, number, read_rows
from lungbox.submission.table import InvalidRowsError, RowError
from lungbox.submission.vinbigdata import NOTHING_BOX

Challenge = Literal["RSNA", "VinBigData"]
# The boxes of an image, each with the number of its class.
_ImageBoxes = list[tuple[int, Corners]]

_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_VINBIGDATA = ("image_id", *_CORNERS, "class_id")


class LabelsError(InvalidRowsError):
    """Labels cannot be read."""


@dataclass(frozen=True)
class Labels:
    """The labels of a challenge.

    Attributes:
        challenge: its name.
        ids: the N images, in the order of the file.
        boxes: N times `(n, 4)` `x1, y1, x2, y2`, in the challenge's space.
        classes: N times `(n,)` the number of each box's class; 0 where there is only one.
    """

    challenge: Challenge
    ids: tuple[str, ...]
    boxes: tuple[Boxes, ...]
    classes: tuple[NDArray[np.int64], ...]


def read_labels(path: Path) -> Labels:
    """Read RSNA's `stage_2_train_labels.csv` or VinBigData's `train.csv`, by its columns.

    VinBigData's boxes are those of all its readers, as given; `No finding` is one truth an image,
    however many readers found none.

    Raises:
        LabelsError: it is neither, or with every row that has an error.
    """
    table = _read(path)
    if set(rsna.COLUMNS) <= set(table.columns):
        return _checked("RSNA", path, *_rsna_boxes(table))
    if set(_VINBIGDATA) <= set(table.columns):
        return _checked("VinBigData", path, *_vinbigdata_boxes(table))
    expected = (
        f"RSNA's columns ({', '.join(rsna.COLUMNS)}) nor VinBigData's ({', '.join(_VINBIGDATA)})"
    )
    raise LabelsError(path, [RowError(f"has neither {expected}", 1)])


def values_by_image(path: Path, column: str, ids: Sequence[str]) -> list[str]:
    """The value of each image in a column of another of RSNA's files.

    Raises:
        LabelsError: it cannot be read, has no such column, or no value for an image.
    """
    table, found = _read(path), dict[str, str]()
    if missing := [name for name in ("patientId", column) if name not in table.columns]:
        raise LabelsError(path, [RowError(f"has no column {name}", 1) for name in missing])
    for row in read_rows(table, ("patientId", column), [], repeats=True):
        found.setdefault(row.get("patientId"), row.get(column))
    if errors := [RowError(f"has no {column} for {name}") for name in ids if not found.get(name)]:
        raise LabelsError(path, errors)
    return [found[name] for name in ids]


def has_column(path: Path, column: str) -> bool:
    """Whether the file exists and has `column`."""
    return path.is_file() and column in _read(path).columns


def _read(path: Path) -> Table:
    try:
        return read_table(path, from_spreadsheet=True)
    except TableError as error:
        raise LabelsError(path, [RowError(error.reason)]) from error


def _checked(
    challenge: Challenge, path: Path, images: dict[str, _ImageBoxes], issues: list[LabelIssue]
) -> Labels:
    errors = [RowError(issue.what.removesuffix("; left out"), issue.line) for issue in issues]
    if not images and not errors:
        errors.append(RowError("labels no image"))
    if errors:
        raise LabelsError(path, sorted(errors, key=lambda error: error.line or 0))
    return Labels(
        challenge=challenge,
        ids=tuple(images),
        boxes=tuple(geometry.as_boxes([box for _, box in boxes]) for boxes in images.values()),
        classes=tuple(np.array([n for n, _ in boxes], np.int64) for boxes in images.values()),
    )


def _rsna_boxes(table: Table) -> tuple[dict[str, _ImageBoxes], list[LabelIssue]]:
    issues: list[LabelIssue] = []
    images: dict[str, _ImageBoxes] = {}
    for name, labels in rsna.read_labels(table, issues).items():
        boxes = images.setdefault(name, [])
        for label in labels.boxes:
            corners = read_corners(label)
            if isinstance(corners, LabelIssue):
                issues.append(corners)
            elif (0, corners) in boxes:
                issues.append(label.issue("duplicate box", "the same box is there twice"))
            else:
                boxes.append((0, corners))
    return images, issues


def _vinbigdata_boxes(table: Table) -> tuple[dict[str, _ImageBoxes], list[LabelIssue]]:
    issues: list[LabelIssue] = []
    images: dict[str, _ImageBoxes] = {}
    # Readers may well draw the very same box.
    for row in read_rows(table, _VINBIGDATA, issues, repeats=True):
        boxes, found = images.setdefault(row.get("image_id"), []), _vinbigdata_box(row)
        if isinstance(found, LabelIssue):
            issues.append(found)
        elif found[0] != VINBIGDATA_NO_FINDING or found not in boxes:
            boxes.append(found)
    return images, issues


def _vinbigdata_box(row: Row) -> tuple[int, Corners] | LabelIssue:
    name = row.get("class_id")
    if name not in map(str, range(len(VINBIGDATA_CLASSES))):
        what = f"{name!r} is no class, 0 to {len(VINBIGDATA_CLASSES) - 1}"
        return row.issue("unknown class", what)
    if int(name) == VINBIGDATA_NO_FINDING:
        return VINBIGDATA_NO_FINDING, NOTHING_BOX
    x1, y1, x2, y2 = (number(row.get(column)) for column in _CORNERS)
    if x1 is None or y1 is None or x2 is None or y2 is None:
        written = ", ".join(row.get(column, "nothing") for column in _CORNERS)
        return row.issue("box without numbers", f"its box is {written}, not four numbers")
    if x2 <= x1 or y2 <= y1:
        return row.issue("box without area", f"its box is {x2 - x1:g} x {y2 - y1:g} pixels")
    return int(name), (x1, y1, x2, y2)
