"""Boxes to the mask a network learns to paint."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Shape = Literal["rectangle", "ellipse"]
Edges = Literal["soft", "hard", "truncated"]


def paint(
    boxes: NDArray[np.float32],
    size: tuple[int, int],
    side: int,
    shape: Shape = "rectangle",
    edges: Edges = "soft",
) -> NDArray[np.uint8]:
    """The share of each mask pixel that the boxes cover, or whether they cover it at all.

    Args:
        boxes: `(N, 4)` `x1, y1, x2, y2`, pixels of an image of `size`.
        size: that image's width and height.
        side: side of the square mask, in pixels.
        shape: the box itself, or the ellipse inside it.
        edges: `soft` for the share, `hard` for whether its centre is covered, `truncated` for
            what the reference system paints: rectangles whose corners are cut down to whole
            mask pixels, `int(x1 * side / width)` to `int(x2 * side / width)`.

    Returns:
        `(side, side)` uint8, 255 where wholly covered. Overlapping boxes take the larger share.
    """
    mask = np.zeros((side, side), np.uint8)
    factors = np.tile(np.divide(side, size), 2)
    for box in np.asarray(boxes, np.float64).reshape(-1, 4) * factors:
        cover = _PAINTERS[shape, edges](box, side)
        np.maximum(mask, cover, out=mask)
    return mask


def paint_edges(boxes: NDArray[np.float32], size: tuple[int, int], side: int) -> NDArray[np.uint8]:
    """Strips along the edges of boxes, inside them, a sixth of the box thick.

    Args:
        boxes: `(N, 4)` `x1, y1, x2, y2`, pixels of an image of `size`.
        size: that image's width and height.
        side: side of the square maps, in pixels.

    Returns:
        `(side, side, 4)` uint8, 255 where wholly covered: top, bottom, left, right.
    """
    x1, y1, x2, y2 = np.asarray(boxes, np.float32).reshape(-1, 4).T
    across, down = (x2 - x1) / 6, (y2 - y1) / 6
    strips = (
        np.stack([x1, y1, x2, y1 + down], axis=1),
        np.stack([x1, y2 - down, x2, y2], axis=1),
        np.stack([x1, y1, x1 + across, y2], axis=1),
        np.stack([x2 - across, y1, x2, y2], axis=1),
    )
    return np.stack([paint(strip, size, side) for strip in strips], axis=-1)


def _rectangle(box: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    edges = np.arange(side)
    # Length of [i, i + 1] inside the box, along each axis.
    across = np.clip(np.minimum(edges + 1, box[2]) - np.maximum(edges, box[0]), 0, 1)
    down = np.clip(np.minimum(edges + 1, box[3]) - np.maximum(edges, box[1]), 0, 1)
    return np.round(255 * np.outer(down, across)).astype(np.uint8)


def _hard_rectangle(box: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    centres = np.arange(side) + 0.5
    across = (box[0] <= centres) & (centres < box[2])
    down = (box[1] <= centres) & (centres < box[3])
    return 255 * np.outer(down, across).astype(np.uint8)


def _truncated_rectangle(box: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    x1, y1, x2, y2 = np.clip(box, 0, side).astype(int)
    cover = np.zeros((side, side), np.uint8)
    cover[y1:y2, x1:x2] = 255
    return cover


def _ellipse(box: NDArray[np.float64], side: int, places: int = 4) -> NDArray[np.uint8]:
    """Each pixel is looked at in `places` x `places` places."""
    at = (np.arange(places * side) + 0.5) / places
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    across, down = (((at - centre[axis]) / half[axis]) ** 2 for axis in (0, 1))
    inside = down[:, None] + across[None, :] <= 1
    cells = inside.reshape(side, places, side, places)
    return np.round(255 * cells.mean(axis=(1, 3))).astype(np.uint8)


_PAINTERS: dict[tuple[Shape, Edges], Callable[[NDArray[np.float64], int], NDArray[np.uint8]]] = {
    ("rectangle", "soft"): _rectangle,
    ("rectangle", "hard"): _hard_rectangle,
    ("rectangle", "truncated"): _truncated_rectangle,
    ("ellipse", "soft"): _ellipse,
    ("ellipse", "hard"): partial(_ellipse, places=1),
}
