"""Submissions in the format of the RSNA Pneumonia Detection Challenge: written, read, checked.

A header `patientId,PredictionString` and a row an image; the string is `confidence x y width
height` for each box, one space between all numbers, empty where nothing was found.
"""

import csv
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Boxes, geometry
from lungbox.errors import LungboxError
from lungbox.findings import Findings

HEADER = ("patientId", "PredictionString")
_NUMBERS_PER_BOX = 5


class SubmissionError(LungboxError):
    """A submission cannot be read; the message gives file, line and fault."""


@dataclass(frozen=True)
class Prediction:
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
    numbers = np.column_stack([findings.scores, geometry.to_xywh(boxes)])
    return " ".join(f"{c:.4f} {x:.2f} {y:.2f} {w:.2f} {h:.2f}" for c, x, y, w, h in numbers)


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
    if ids is None:
        yield from found
        return
    strings = dict(found)
    for name in ids:
        yield name, strings.get(name, "")


def read_ids(path: Path) -> list[str]:
    """The identities of a sample submission, in its order.

    Raises:
        SubmissionError: it has no column `patientId`, or names an image twice.
    """
    ids = [name for _, name, _ in _read_rows(path, needs=HEADER[:1])]
    if len(set(ids)) < len(ids):
        twice = next(name for index, name in enumerate(ids) if name in ids[:index])
        raise SubmissionError(f"{path}: names {twice} twice")
    return ids


def read_submission(path: Path) -> dict[str, Prediction]:
    """Read a submission, checking every row.

    Raises:
        SubmissionError: the first fault, with its line.
    """
    predictions: dict[str, Prediction] = {}
    for line, name, string in _read_rows(path, needs=HEADER):
        if name in predictions:
            raise SubmissionError(f"{path}, line {line}: {name} stands there a second time")
        try:
            predictions[name] = parse(string)
        except ValueError as error:
            raise SubmissionError(f"{path}, line {line}: {error}") from None
    return predictions


def parse(string: str) -> Prediction:
    """Read a prediction string.

    Raises:
        ValueError: it is not five numbers a box, a number is not finite, a confidence is not in
            0-1, or a box is empty.
    """
    words = string.split()
    if len(words) % _NUMBERS_PER_BOX:
        raise ValueError(f"{len(words)} numbers, not five for each box")
    numbers = np.array([_number(word) for word in words], np.float64).reshape(-1, 5)
    if ((numbers[:, 0] < 0) | (numbers[:, 0] > 1)).any():
        raise ValueError("a confidence is not between 0 and 1")
    if (numbers[:, 3:] <= 0).any():
        raise ValueError("a box has no width or height")
    return Prediction(geometry.from_xywh(numbers[:, 1:]), numbers[:, 0].astype(np.float32))


def _number(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        raise ValueError(f"{word!r} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"{word!r} is not a finite number")
    return value


def _read_rows(path: Path, needs: tuple[str, ...]) -> Iterator[tuple[int, str, str]]:
    """Line, identity and prediction string of each row."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in needs if name not in (reader.fieldnames or ())]
            if missing:
                raise SubmissionError(f"{path}: has no column {missing[0]}")
            for row in reader:
                yield reader.line_num, row[HEADER[0]], row.get(HEADER[1]) or ""
    except OSError as error:
        raise SubmissionError(f"{path}: cannot be opened ({error.strerror})") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SubmissionError(f"{path}: not a CSV file ({error})") from error
