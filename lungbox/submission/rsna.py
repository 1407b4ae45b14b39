"""Submissions to the RSNA Pneumonia Detection Challenge.

A header `patientId,PredictionString` and a row an image; the string is `confidence x y width
height` for each box, one space between all numbers, empty where nothing was found.
https://www.kaggle.com/competitions/rsna-pneumonia-detection-challenge/overview/evaluation
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Boxes, geometry
from lungbox.common.equality import ValueEquality
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

HEADER = ("patientId", table.STRING)
_NAMES = ("confidence", "x", "y", "width", "height")


@dataclass(frozen=True, eq=False)
class SubmittedBoxes(ValueEquality):
    """One row: `(N, 4)` `x1, y1, x2, y2` boxes in the submission's space, `(N,)` confidences."""

    boxes: Boxes
    scores: NDArray[np.float32]


def prediction_string(findings: Findings, space: int | None = None) -> str:
    """The boxes of one radiograph as a submission gives them.

    Args:
        findings: boxes in pixels of the file.
        space: side of the square that x and y are rescaled to; pixels of the file where None.
    """
    boxes = findings.boxes
    if space is not None:
        boxes = geometry.scale(boxes, findings.size, (space, space))
    corners = rounded(boxes)
    rows_of_numbers = np.column_stack(
        [findings.scores, corners[:, :2], corners[:, 2:] - corners[:, :2]]
    )
    return " ".join(f"{c:.4f} {x:.2f} {y:.2f} {w:.2f} {h:.2f}" for c, x, y, w, h in rows_of_numbers)


def rows(
    findings: Iterable[Findings], space: int | None = None, ids: Iterable[str] | None = None
) -> Iterator[tuple[str, str]]:
    """Rows of a submission.

    Args:
        findings: one for each image, in the order to write.
        space: see `prediction_string`.
        ids: where given, exactly these rows in this order, empty for those without findings.
    """
    found = ((item.identity, prediction_string(item, space)) for item in findings)
    return table.arranged(found, ids, absent="")


def read_ids(path: Path) -> list[str]:
    """The identities of a sample submission, in its order.

    Raises:
        SubmissionError: it has no column `patientId`, or names an image twice.
    """
    return table.read_names(path, HEADER[0])


def read_submission(
    path: Path,
    ids: Collection[str] | None = None,
    size: tuple[float, float] = ANY_SIZE,
) -> dict[str, SubmittedBoxes]:
    """Read a submission, checking every row.

    Args:
        path: CSV, gzipped where it ends in `.gz`.
        ids: where given, exactly these images must have a row.
        size: width and height that no box may leave; anything below 10^8 pixels by default.

    Raises:
        SubmissionError: with every error and its line.
    """
    return table.read(path, HEADER[0], lambda _, string: parse(string, size), ids)


def parse(string: str, size: tuple[float, float] = ANY_SIZE) -> SubmittedBoxes:
    """Read a prediction string.

    Raises:
        StringError: it is not five numbers a box, a number is not finite, a confidence is not in
            0-1, or a box is empty or outside an image of `size`; with every such error.
    """
    values = numbers(string, _NAMES)
    corners = np.concatenate([values[:, 1:3], values[:, 1:3] + values[:, 3:]], axis=1)
    if errors := confidence_errors(values[:, 0]) + box_errors(corners, size):
        raise StringError(errors)
    return SubmittedBoxes(geometry.as_boxes(corners), values[:, 0].astype(np.float32))
