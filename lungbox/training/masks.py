"""Boxes to the mask a network learns to paint."""

from typing import Literal

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
    """Each pixel is looked at in 4 x 4 places."""
    places = (np.arange(4 * side) + 0.5) / 4
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    across, down = (((places - centre[axis]) / half[axis]) ** 2 for axis in (0, 1))
    inside = down[:, None] + across[None, :] <= 1
    return np.round(255 * inside.reshape(side, 4, side, 4).mean(axis=(1, 3))).astype(np.uint8)
