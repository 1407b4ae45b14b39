"""Boxes as arrays: `(N, 4)` float32, `x1, y1, x2, y2`, in pixels, y down, edges not pixels.

A box that covers a complete 1024 x 1024 image is `0, 0, 1024, 1024`. Other formats exist only
where files are read and written.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float32]


def as_boxes(values: ArrayLike) -> Boxes:
    """Any sequence of four-number boxes, empty too, as `(N, 4)` float32."""
    return np.asarray(values, np.float32).reshape(-1, 4)


def area(boxes: NDArray) -> NDArray:
    """`(...)` areas of `(..., 4)` boxes in square pixels; 0 where a box is inside out."""
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return np.maximum(width, 0) * np.maximum(height, 0)


def iou(first: NDArray, second: NDArray) -> NDArray[np.float64]:
    """`(N, M)` intersection over union of every box in `first` with every one in `second`.

    0 where both are empty.
    """
    return paired_iou(first[:, None], second[None])


def paired_iou(first: NDArray, second: NDArray) -> NDArray[np.float64]:
    """Intersection over union of pairs of boxes with the same index.

    Args:
        first: `(..., 4)`.
        second: `(..., 4)`, of a shape that broadcasts with the first's.

    Returns:
        `(...)`; 0 where both are empty.
    """
    a, b = first.astype(np.float64), second.astype(np.float64)
    across = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    down = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    overlap = np.maximum(across, 0) * np.maximum(down, 0)
    union = area(a) + area(b) - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union > 0)


def shrink(boxes: Boxes, share: float) -> Boxes:
    """Take `share` of its width or height off EACH side of each box: 0.05 leaves 90 %.

    Raises:
        ValueError: not in [0, 0.5), so that something is left.
    """
    if not 0 <= share < 0.5:
        raise ValueError(f"a box can lose 0 to 0.5 of its width a side, not {share}")
    margin = (boxes[:, 2:] - boxes[:, :2]) * share
    return np.concatenate([boxes[:, :2] + margin, boxes[:, 2:] - margin], axis=1).astype(np.float32)


def scale(boxes: Boxes, source: tuple[float, float], target: tuple[float, float]) -> Boxes:
    """Move boxes from an image of size `source` to one of size `target` (width, height)."""
    factors = np.tile(np.divide(target, source), 2)
    return as_boxes(np.asarray(boxes, np.float64).reshape(-1, 4) * factors)


def clip(boxes: Boxes, size: tuple[float, float]) -> Boxes:
    """Cut boxes off at the edges of an image of `size` (width, height)."""
    return np.clip(boxes, 0, np.tile(np.asarray(size, np.float32), 2))


def to_xywh(boxes: Boxes) -> NDArray[np.float32]:
    """`x1, y1, x2, y2` to `x, y, width, height`."""
    return np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
