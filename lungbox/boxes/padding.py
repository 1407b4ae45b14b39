"""Radiographs that are padded to a square: where they are in it, and boxes and masks of either.

A file of width w and height h is resized until its longer side is that of the square, and centred.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.geometry import Boxes, as_boxes

Size = tuple[int, int]


def place_in_square(size: Size, side: int) -> tuple[int, int, int, int]:
    """Where a file is in the square it is padded to: left, top, width and height, in its pixels.

    Args:
        size: width and height of the file.
        side: of the square.

    >>> place_in_square((2000, 2500), 256)
    (25, 0, 205, 256)
    """
    longest = max(size)
    width, height = (max(1, round(side * edge / longest)) for edge in size)
    return (side - width) // 2, (side - height) // 2, width, height


def into_square(boxes: Boxes, size: Size, side: int) -> Boxes:
    """`(N, 4)` boxes in pixels of a file, in pixels of the square."""
    left, top, width, height = place_in_square(size, side)
    factors = np.tile(np.divide((width, height), size), 2)
    return as_boxes(np.asarray(boxes, np.float64) * factors + (left, top, left, top))


def boxes_of_file(boxes: NDArray[np.float32], size: Size, side: int) -> NDArray[np.float32]:
    """`(..., 4)` boxes in 0-1 of the square, in 0-1 of the file; clipped to it."""
    left, top, width, height = place_in_square(size, side)
    inside = (boxes * side - (left, top, left, top)) / np.tile((width, height), 2)
    return np.clip(inside, 0, 1).astype(np.float32)


def mask_of_file(mask: NDArray[np.float32], size: Size, side: int) -> NDArray[np.float32]:
    """`(h, w, C)` mask of the square, as one of the file alone: also `(h, w, C)`, linear between
    pixels."""
    left, top, width, height = place_in_square(size, side)
    rows, columns, channels = mask.shape
    # The centre of pixel i of the result, i + 0.5 of `columns`, is in the square at this share.
    scale_x, scale_y = width / side, height / side
    x = columns * left / side + scale_x / 2 - 0.5
    y = rows * top / side + scale_y / 2 - 0.5
    matrix = np.array([[scale_x, 0, x], [0, scale_y, y]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    planes = [
        cv2.warpAffine(
            np.ascontiguousarray(mask[..., channel]), matrix, (columns, rows), flags=flags,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for channel in range(channels)
    ]  # fmt: skip
    return np.stack(planes, axis=-1)
