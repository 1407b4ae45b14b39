"""Boxes to the mask a network learns to paint."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Shape = Literal["rectangle", "ellipse"]


def paint(
    boxes: NDArray[np.float32], size: tuple[int, int], side: int, shape: Shape = "rectangle"
) -> NDArray[np.uint8]:
    """The share of each mask pixel that the boxes cover.

    Args:
        boxes: `(N, 4)` `x1, y1, x2, y2`, pixels of an image of `size`.
        size: that image's width and height.
        side: side of the square mask, in pixels.
        shape: the box itself, or the ellipse inside it.

    Returns:
        `(side, side)` uint8, 255 where wholly covered. Overlapping boxes take the larger share.
    """
    mask = np.zeros((side, side), np.uint8)
    factors = np.tile(np.divide(side, size), 2)
    for box in np.asarray(boxes, np.float64).reshape(-1, 4) * factors:
        cover = _ellipse(box, side) if shape == "ellipse" else _rectangle(box, side)
        np.maximum(mask, cover, out=mask)
    return mask


def _rectangle(box: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    edges = np.arange(side)
    # Length of [i, i + 1] inside the box, along each axis.
    across = np.clip(np.minimum(edges + 1, box[2]) - np.maximum(edges, box[0]), 0, 1)
    down = np.clip(np.minimum(edges + 1, box[3]) - np.maximum(edges, box[1]), 0, 1)
    return np.round(255 * np.outer(down, across)).astype(np.uint8)


def _ellipse(box: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    mask = np.zeros((side, side), np.uint8)
    # OpenCV counts pixel centres as whole numbers, in units of 1 / 16 here.
    centre = np.round(((box[:2] + box[2:]) / 2 - 0.5) * 16).astype(int)
    half = np.round((box[2:] - box[:2]) / 2 * 16).astype(int)
    cv2.ellipse(mask, centre.tolist(), half.tolist(), 0, 0, 360, 255, -1, cv2.LINE_AA, 4)
    return mask
