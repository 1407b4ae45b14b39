"""Prediction strings: the numbers of all boxes, separated by spaces."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.geometry import Boxes
from lungbox.constants import MAX_PIXELS
from lungbox.submission.table import StringError

# Rounding to two decimals may move an edge this far outside the image.
TOLERANCE = 0.02
SMALLEST_SIDE = 0.01

# No image that Lungbox reads is larger.
ANY_SIZE = (MAX_PIXELS, MAX_PIXELS)

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_PLAIN = re.compile(r"(\d{1,9}(\.\d{1,9})?( |$))*", re.ASCII)


def numbers(string: str, names: Sequence[str]) -> NDArray[np.float64]:
    """Read a prediction string.

    Args:
        string: a cell of the file.
        names: of the numbers of a box.

    Returns:
        `(N, len(names))`, a row a box.

    Raises:
        StringError: a word is not a finite number, or they are not `len(names)` a box.
    """
    words = string.split()
    # Nearly every string is correct, which one match shows.
    doubtful = [] if _PLAIN.fullmatch(string) else words
    errors = [error for word in doubtful if (error := _number_error(word))]
    if len(words) % len(names):
        expected = f"{len(names)} for each box ({' '.join(names)})"
        errors.append(f"{len(words)} numbers, not {expected}")
    if errors:
        raise StringError(errors)
    return np.array([float(word) for word in words], np.float64).reshape(-1, len(names))


def box_errors(boxes: NDArray[np.float64], size: tuple[float, float]) -> list[str]:
    """Errors of `(N, 4)` `x1, y1, x2, y2` boxes on an image of `size`."""
    sides = boxes[:, 2:] - boxes[:, :2]
    low = (boxes[:, :2] < -TOLERANCE).any(axis=1)
    high = (boxes[:, 2:] > np.add(size, TOLERANCE)).any(axis=1)
    errors = [
        f"a box has no width or height: {sides[row, 0]:g} x {sides[row, 1]:g} of box {row + 1}"
        for row in np.flatnonzero((sides <= 0).any(axis=1))
    ]
    image = "" if size == ANY_SIZE else f" of {size[0]:g} x {size[1]:g}"
    for row in np.flatnonzero(low | high):
        corners = ", ".join(f"{edge:g}" for edge in boxes[row])
        errors.append(f"box {row + 1} is outside the image{image}: {corners}")
    return errors


def confidence_errors(scores: NDArray[np.float64]) -> list[str]:
    """Errors of `(N,)` confidences."""
    return [
        f"a confidence is not between 0 and 1: {scores[row]:g} of box {row + 1}"
        for row in np.flatnonzero((scores < 0) | (scores > 1))
    ]


def rounded(boxes: Boxes) -> NDArray[np.float64]:
    """Boxes rounded to two decimals, each with a width and height."""
    corners = boxes.astype(np.float64).round(2)
    corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + SMALLEST_SIDE)
    return corners


def _number_error(word: str) -> str:
    if _NUMBER.fullmatch(word):
        return "" if np.isfinite(float(word)) else f"{word!r} is not a finite number"
    if word.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return f"{word!r} is not a finite number"
    if re.fullmatch(r"[\d.+-]+", word) and re.search(r"\d", word):
        return f"{word!r} is not a number; two may be joined without a space between them"
    return f"{word!r} is not a number"
