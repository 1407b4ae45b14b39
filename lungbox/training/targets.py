"""Rasterizing boxes to target masks."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Shape = Literal["rectangle", "ellipse"]
Edges = Literal["soft", "hard", "truncated"]


def rasterize(
    boxes: NDArray[np.float32],
    size: tuple[int, int],
    side: int,
    shape: Shape = "rectangle",
    edges: Edges = "soft",
) -> NDArray[np.uint8]:
    """Rasterize boxes to a square mask.

    Args:
        boxes: `(N, 4)` `x1, y1, x2, y2`, pixels of an image of `size`.
        size: that image's width and height.
        side: side of the square mask, in pixels.
        shape: the box itself, or the ellipse inside it.
        edges: `soft` gives a pixel its covered share, `hard` 255 where its centre is covered,
            `truncated` is the reference system's: rectangles whose corners are truncated to
            integer mask pixels, from `int(x1 * side / width)` to `int(x2 * side / width)`.

    Returns:
        `(side, side)` uint8, 255 where completely covered; where boxes overlap, the maximum.

    Example:
        >>> rasterize(np.array([[0, 0, 20, 30]]), size=(80, 60), side=4)
        array([[255,   0,   0,   0],
               [255,   0,   0,   0],
               [  0,   0,   0,   0],
               [  0,   0,   0,   0]], dtype=uint8)
    """
    mask = np.zeros((side, side), np.uint8)
    factors = np.tile(np.divide(side, size), 2)
    for box in np.asarray(boxes, np.float64).reshape(-1, 4) * factors:
        cover = _RASTERIZERS[shape, edges](box, side)
        np.maximum(mask, cover, out=mask)
    return mask


def rasterize_edges(
    boxes: NDArray[np.float32], size: tuple[int, int], side: int
) -> NDArray[np.uint8]:
    """Rasterize strips along the edges of boxes, inside them, a sixth of the box wide.

    Args:
        boxes: `(N, 4)` `x1, y1, x2, y2`, pixels of an image of `size`.
        size: that image's width and height.
        side: side of the square maps, in pixels.

    Returns:
        `(side, side, 4)` uint8, 255 where completely covered: top, bottom, left, right.
    """
    x1, y1, x2, y2 = np.asarray(boxes, np.float32).reshape(-1, 4).T
    across, down = (x2 - x1) / 6, (y2 - y1) / 6
    strips = (
        np.stack([x1, y1, x2, y1 + down], axis=1),
        np.stack([x1, y2 - down, x2, y2], axis=1),
        np.stack([x1, y1, x1 + across, y2], axis=1),
        np.stack([x2 - across, y1, x2, y2], axis=1),
    )
    return np.stack([rasterize(strip, size, side) for strip in strips], axis=-1)


def _rectangle(box: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    edges = np.arange(side)
    # The length of the interval [i, i + 1] that is inside the box, along each axis.
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


def _ellipse(box: NDArray[np.float64], side: int, samples: int = 4) -> NDArray[np.uint8]:
    """Each pixel is sampled at `samples` x `samples` points."""
    at = (np.arange(samples * side) + 0.5) / samples
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    across, down = (((at - centre[axis]) / half[axis]) ** 2 for axis in (0, 1))
    inside = down[:, None] + across[None, :] <= 1
    cells = inside.reshape(side, samples, side, samples)
    return np.round(255 * cells.mean(axis=(1, 3))).astype(np.uint8)


_RASTERIZERS: dict[tuple[Shape, Edges], Callable[[NDArray[np.float64], int], NDArray[np.uint8]]] = {
    ("rectangle", "soft"): _rectangle,
    ("rectangle", "hard"): _hard_rectangle,
    ("rectangle", "truncated"): _truncated_rectangle,
    ("ellipse", "soft"): _ellipse,
    ("ellipse", "hard"): partial(_ellipse, samples=1),
}
