"""A radiograph's pixels to the input of every network.

One function, called by the training cache and by inference alike, so that the two cannot
disagree. What comes after it (gray to RGB, scaling) is inside the networks.
"""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.padding import place_in_square
from lungbox.constants import GRAY_LEVELS

Preparation = Literal["equalised", "nearest", "padded"]
# Raised when a preparation computes something else, which voids caches and measured results.
VERSIONS: dict[Preparation, int] = {"equalised": 1, "nearest": 2, "padded": 1}

# Those that equalise the histogram; what changes an image later equalises it again.
EQUALISING: frozenset[Preparation] = frozenset({"equalised", "padded"})


def prepare(
    pixels: NDArray[np.uint8], size: int, preparation: Preparation = "equalised"
) -> NDArray[np.uint8]:
    """Resize a radiograph to a square, or pad it to one, and equalise its histogram.

    Example:
        >>> pixels = np.tile(np.arange(100, 140, dtype=np.uint8), (60, 1))
        >>> prepared = prepare(pixels, 32)
        >>> prepared.shape, int(prepared.max())
        ((32, 32), 255)

    Args:
        pixels: `(H, W)` uint8, any aspect ratio.
        size: side of the square, in pixels.
        preparation: `nearest` resizes by OpenCV's nearest neighbour and does not equalise, as the
            reference system does; `padded` keeps the aspect ratio and repeats the pixels at the
            edges up to the square, see `boxes.padding`. (A black margin would take gray levels from
            the lungs when the histogram is equalised.)

    Returns:
        `(size, size)` uint8; equalised, it uses the whole gray range.

    Every radiograph is equalised because public data mixes natural and equalised contrast,
    unevenly over the classes: otherwise a network learns the contrast instead of the label.
    """
    if preparation == "nearest":
        return resize_nearest(pixels, size, size)
    if preparation == "padded":
        return equalise(_padded(pixels, size))
    return equalise(resize_area(pixels, size, size))


def _padded(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    rows, columns = pixels.shape
    left, top, width, height = place_in_square((columns, rows), size)
    right, bottom = size - width - left, size - height - top
    margins = (top, bottom, left, right)
    return cv2.copyMakeBorder(resize_area(pixels, height, width), *margins, cv2.BORDER_REPLICATE)


def resize_nearest(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize `(H, W)` to `(height, width)` by OpenCV's nearest neighbour, as the reference does.

    Row i is the source's row `floor(i * H / height)`: the first of the rows it covers, not the
    one at its centre, which Pillow and scikit-image take.
    """
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)


def resize_area(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize `(H, W)` uint8 to `(height, width)`: area averages where it shrinks, linear where it
    grows.

    When one axis shrinks and the other grows, they are resized separately: OpenCV would use
    linear interpolation on both, which aliases. The one that shrinks comes first: the other way
    round, a single column of millions of pixels would be widened first.
    """
    rows, columns = pixels.shape
    if (height <= rows) == (width <= columns):
        return _resize(pixels, height, width, shrinks=height <= rows)
    smaller = _resize(pixels, min(rows, height), min(columns, width), shrinks=True)
    return _resize(smaller, height, width, shrinks=False)


def equalise(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Equalise the histogram of an 8-bit gray image, exactly as `PIL.ImageOps.equalize` does.

    A monotone map of gray levels: the brightest level in use becomes 255 and the darkest the
    lowest, each level in between moves to the share of pixels below it. An image of a single
    level stays as it is.
    """
    histogram = np.bincount(pixels.ravel(), minlength=GRAY_LEVELS)
    levels = np.flatnonzero(histogram)
    step = (pixels.size - int(histogram[levels[-1]])) // (GRAY_LEVELS - 1)
    if step == 0:
        return pixels.copy()
    below = np.cumsum(histogram) - histogram
    table = np.minimum((below + step // 2) // step, GRAY_LEVELS - 1).astype(np.uint8)
    return table[pixels]


def _resize(pixels: NDArray[np.uint8], height: int, width: int, shrinks: bool) -> NDArray[np.uint8]:
    if pixels.shape == (height, width):
        return pixels
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(pixels, (width, height), interpolation=method)
