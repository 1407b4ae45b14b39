"""Overlapping boxes of one network: the most confident stays."""

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.geometry import Boxes, iou


def non_maximum_suppression(
    boxes: Boxes, scores: NDArray[np.floating], max_iou: float
) -> NDArray[np.int64]:
    """Greedy non-maximum suppression (as in Girshick et al., R-CNN, 2014), for boxes of one class.

    Args:
        boxes: `(N, 4)` `x1, y1, x2, y2`.
        scores: `(N,)` confidences.
        max_iou: a box that overlaps a kept one by more is dropped.

    Returns:
        Rows of the boxes that stay, the most confident first; equal ones in their order.

    >>> boxes = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [20, 0, 30, 10]], np.float32)
    >>> non_maximum_suppression(boxes, np.array([0.6, 0.9, 0.5]), 0.5).tolist()
    [1, 2]
    """
    order = np.argsort(-scores, kind="stable")
    overlaps = iou(boxes, boxes) > max_iou
    kept: list[int] = []
    for row in order.tolist():
        if not overlaps[row, kept].any():
            kept.append(row)
    return np.array(kept, np.int64)


def one_box_per_lung(boxes: Boxes, scores: NDArray[np.floating], width: float) -> NDArray[np.int64]:
    """Of the boxes whose centre is in the same half of an image of `width`, the most confident.

    A centre on the midline counts for the left half.

    Args:
        boxes: `(N, 4)` `x1, y1, x2, y2`.
        scores: `(N,)` confidences.
        width: of the image, in the boxes' unit.

    Returns:
        Rows of the boxes that stay, the most confident first.
    """
    order = np.argsort(-scores, kind="stable")
    right = boxes[order, 0] + boxes[order, 2] > width
    _, first = np.unique(right, return_index=True)
    return order[np.sort(first)]
