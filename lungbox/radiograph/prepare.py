"""From a radiograph's pixels to what every network reads.

One function, called by the training cache and by inference alike, so that the two cannot
disagree. What comes after it (gray to RGB, scaling) is inside the networks.
"""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from lungbox.constants import GRAY_LEVELS

Preparation = Literal["equalised", "nearest"]
# Raised when a preparation computes something else, so that what was kept or found out about what
# it computed before is not taken for it.
VERSIONS: dict[Preparation, int] = {"equalised": 1, "nearest": 2}


def prepare(
    pixels: NDArray[np.uint8], size: int, preparation: Preparation = "equalised"
) -> NDArray[np.uint8]:
    """Squash a radiograph to a square and equalise its histogram.

    Args:
        pixels: `(H, W)` uint8, any aspect ratio.
        size: side of the square, in pixels.
        preparation: `nearest` resizes by OpenCV's nearest neighbour and leaves the contrast as
            it is, which is all the reference system does.

    Returns:
        `(size, size)` uint8; equalised, it uses the whole gray range.

    Every radiograph is equalised because public data mixes natural and equalised contrast, and
    not evenly over the classes: left alone, a network learns the contrast for the label.
    """
    if preparation == "nearest":
        return resize_nearest(pixels, size, size)
    return equalise(resize_area(pixels, size, size))


def resize_nearest(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize `(H, W)` to `(height, width)` by OpenCV's nearest neighbour, as the reference does.

    Row i is the source's row `floor(i * H / height)`: the first of the rows it stands for, not
    the one at its centre, which Pillow and scikit-image take.
    """
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_NEAREST)


def resize_area(pixels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Resize `(H, W)` uint8 to `(height, width)`: area averages where it shrinks, linear where it
    grows.

    The two axes are treated apart when one shrinks and the other grows, for OpenCV falls back
    to linear interpolation on both, which aliases. The one that shrinks comes first: the other way
    round, a single column of millions of pixels would be widened as it is.
    """
    rows, columns = pixels.shape
    if (height <= rows) == (width <= columns):
        return _resize(pixels, height, width, shrinks=height <= rows)
    smaller = _resize(pixels, min(rows, height), min(columns, width), shrinks=True)
    return _resize(smaller, height, width, shrinks=False)


def equalise(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Equalise the histogram of an 8-bit gray image, to the level as `PIL.ImageOps.equalize` does.

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
