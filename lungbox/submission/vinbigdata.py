"""Submissions to the VinBigData Chest X-ray Abnormalities Detection challenge.

A header `image_id,PredictionString` and a row an image; the string is `class confidence x1 y1 x2
y2` for each box, in pixels of the file. Class 14 is "no finding", written as a box of one pixel,
alone (`14 1 0 0 1 1`) or beside boxes with a confidence below 1 (`14 0.4 0 0 1 1 3 0.5 ...`).
https://www.kaggle.com/competitions/vinbigdata-chest-xray-abnormalities-detection/overview/evaluation
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Boxes, geometry
from lungbox.common.equality import ValueEquality
from lungbox.constants import CLASS_NAMES, OPACITY, VINBIGDATA_CLASSES, VINBIGDATA_NO_FINDING
from lungbox.findings import Findings
from lungbox.submission import table
from lungbox.submission.prediction_strings import (
    ANY_SIZE,
    box_errors,
    confidence_errors,
    numbers,
    rounded,
)
from lungbox.submission.table import StringError

HEADER = ("image_id", table.STRING)
NOTHING = f"{VINBIGDATA_NO_FINDING} 1 0 0 1 1"
NOTHING_BOX = (0.0, 0.0, 1.0, 1.0)
_NAMES = ("class", "confidence", "x1", "y1", "x2", "y2")
_NUMBERS = {name.lower(): number for number, name in enumerate(VINBIGDATA_CLASSES)}


@dataclass(frozen=True, eq=False)
class SubmittedClassBoxes(ValueEquality):
    """One row.

    Attributes:
        boxes: `(N, 4)` `x1, y1, x2, y2`, pixels of the file.
        scores: `(N,)` confidences.
        classes: `(N,)` numbers in `VINBIGDATA_CLASSES`, 14 for `No finding` with the box
            `0, 0, 1, 1`.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]


def fits(class_names: Collection[str]) -> bool:
    """Whether findings of these classes are written in VinBigData's format.

    Lung opacity alone is RSNA's task, although VinBigData has a class of that name.

    >>> fits(["Nodule/Mass", "ILD"]), fits(["lung opacity"]), fits(["Effusion", "ILD"])
    (True, False, False)
    """
    names = {name.lower() for name in class_names}
    return names <= set(_NUMBERS) and not names <= {CLASS_NAMES[OPACITY]}


def is_complete(class_names: Collection[str]) -> bool:
    """Whether these are all of the challenge's classes, so that an image without any of them has no
    finding in its sense.

    >>> is_complete(["Nodule/Mass", "ILD"]), is_complete(VINBIGDATA_CLASSES[:14])
    (False, True)
    """
    found = {name.lower() for name in VINBIGDATA_CLASSES[:VINBIGDATA_NO_FINDING]}
    return {name.lower() for name in class_names} == found


def prediction_string(findings: Findings) -> str:
    """The boxes of one radiograph as a submission gives them.

    Args:
        findings: labels are names of `VINBIGDATA_CLASSES`, in any case. "No finding" is written
            where there is no box, and where `no_finding` is above 0, with that confidence.

    Raises:
        ValueError: a label is none of them.

    >>> import numpy as np
    >>> box = np.array([[691, 1375, 1653, 1831]], np.float32)
    >>> unsure = Findings("1.2.840", (2022, 2022), 0.4, box, np.float32([0.5]), ("ILD",),
    ...                   no_finding=0.6)
    >>> prediction_string(unsure)
    '14 0.6000 0 0 1 1 5 0.5000 691.00 1375.00 1653.00 1831.00'
    """
    unknown = [label for label in findings.labels if label.lower() not in _NUMBERS]
    if unknown:
        raise ValueError(f"{findings.identity}: VinBigData has no class {unknown[0]!r}")
    boxes = zip(findings.labels, findings.scores, rounded(findings.boxes), strict=True)
    strings = [
        f"{_NUMBERS[label.lower()]} {score:.4f} {x1:.2f} {y1:.2f} {x2:.2f} {y2:.2f}"
        for label, score, (x1, y1, x2, y2) in boxes
    ]
    if findings.no_finding:
        strings.insert(0, f"{VINBIGDATA_NO_FINDING} {findings.no_finding:.4f} 0 0 1 1")
    return " ".join(strings) or NOTHING


def rows(
    findings: Iterable[Findings], ids: Iterable[str] | None = None
) -> Iterator[tuple[str, str]]:
    """Rows of a submission.

    Args:
        findings: one for each image, in the order to write.
        ids: where given, exactly these rows in this order; nothing found for those without
            findings.
    """
    found = ((item.identity, prediction_string(item)) for item in findings)
    return table.arranged(found, ids, absent=NOTHING)


def read_ids(path: Path) -> list[str]:
    """The identities of a sample submission, in its order.

    Raises:
        SubmissionError: it has no column `image_id`, or names an image twice.
    """
    return table.read_names(path, HEADER[0])


def read_submission(
    path: Path,
    ids: Collection[str] | None = None,
    sizes: Mapping[str, tuple[float, float]] | None = None,
) -> dict[str, SubmittedClassBoxes]:
    """Read a submission, checking every row.

    Args:
        path: CSV, gzipped where it ends in `.gz`.
        ids: where given, exactly these images must have a row.
        sizes: width and height of each image, that no box may leave; of one that is not there,
            only edges below 0 are errors.

    Raises:
        SubmissionError: with every error and its line.
    """
    known = sizes or {}
    return table.read(
        path, HEADER[0], lambda name, string: parse(string, known.get(name, ANY_SIZE)), ids
    )


def parse(string: str, size: tuple[float, float] = ANY_SIZE) -> SubmittedClassBoxes:
    """Read a prediction string.

    Raises:
        StringError: it is empty or not six numbers a box, a number is not finite, a class is not
            0-14, a confidence is not in 0-1, or a box is empty or outside an image of `size`;
            with every such error.
    """
    values = numbers(string, _NAMES)
    if not len(values):
        raise StringError([f"is empty; where nothing was found, write {NOTHING}"])
    classes, scores, corners = values[:, 0], values[:, 1], values[:, 2:]
    errors = _class_errors(classes) + confidence_errors(scores) + box_errors(corners, size)
    placed = (classes == VINBIGDATA_NO_FINDING) & (corners != NOTHING_BOX).any(axis=1)
    errors += [
        f"box {row + 1} is of class {VINBIGDATA_NO_FINDING}, nothing found, but not 0 0 1 1"
        for row in np.flatnonzero(placed)
    ]
    if errors:
        raise StringError(errors)
    return SubmittedClassBoxes(
        geometry.as_boxes(corners), scores.astype(np.float32), classes.astype(np.int64)
    )


def _class_errors(classes: NDArray[np.float64]) -> list[str]:
    good = (classes >= 0) & (classes < len(VINBIGDATA_CLASSES)) & (classes % 1 == 0)
    return [
        f"box {row + 1} has the class {classes[row]:g}, not a whole number from 0 to "
        f"{len(VINBIGDATA_CLASSES) - 1}"
        for row in np.flatnonzero(~good)
    ]
