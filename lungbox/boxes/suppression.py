"""Overlapping boxes: the most confident stays, or lowers the others."""

from typing import Literal

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
    return class_wise_suppression(boxes, scores, np.zeros(len(boxes), np.int64), max_iou)


def class_wise_suppression(
    boxes: Boxes, scores: NDArray[np.floating], labels: NDArray[np.integer], max_iou: float
) -> NDArray[np.int64]:
    """Non-maximum suppression in which only boxes of the same class suppress each other.

    Args:
        boxes: `(N, 4)` `x1, y1, x2, y2`.
        scores: `(N,)` confidences.
        labels: `(N,)` their classes.
        max_iou: a box that overlaps a kept one of its class by more is dropped.

    Returns:
        Rows of the boxes that stay, the most confident first; equal ones in their order.

    >>> boxes = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [0, 0, 10, 10]], np.float32)
    >>> class_wise_suppression(boxes, np.array([0.6, 0.9, 0.5]), np.array([0, 0, 1]), 0.5).tolist()
    [1, 2]
    """
    order = np.argsort(-scores, kind="stable")
    ordered, of_class = boxes[order], labels[order]
    overlapping = (iou(ordered, ordered) > max_iou) & (of_class[:, None] == of_class)
    # A box that overlaps no other needs no look at it.
    dropped = np.zeros(len(order), bool)
    for row in np.flatnonzero(overlapping.sum(axis=1) > 1).tolist():
        if not dropped[row]:
            dropped[row + 1 :] |= overlapping[row, row + 1 :]
    return order[~dropped]


def soft_nms(
    boxes: Boxes,
    scores: NDArray[np.floating],
    max_iou: float = 0.3,
    method: Literal["linear", "gaussian"] = "linear",
    sigma: float = 0.5,
    min_score: float = 0.001,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Soft-NMS, for boxes of one class: overlapping boxes stay, with a lower score.

    The most confident box is taken, and the scores of those it overlaps are multiplied by `1 - IoU`
    (`linear`, where IoU > `max_iou`) or by `exp(-IoU^2 / sigma)` (`gaussian`); and so on with the
    rest.

    Source: Bodla, Singh, Chellappa and Davis, *Soft-NMS: improving object detection with one line
    of code*, ICCV 2017.

    Args:
        boxes: `(N, 4)` `x1, y1, x2, y2`.
        scores: `(N,)` confidences.
        max_iou: of `linear`: boxes that overlap by no more keep their score.
        method: how scores fall with the overlap.
        sigma: of `gaussian`.
        min_score: boxes whose score falls below are dropped.

    Returns:
        Rows of the boxes that stay, the most confident first, and `(M,)` their lowered scores.

    >>> boxes = np.array([[0, 0, 10, 10], [0, 5, 10, 10], [20, 0, 30, 10]], np.float32)
    >>> rows, lowered = soft_nms(boxes, np.array([0.75, 0.9, 0.5]))
    >>> rows.tolist(), lowered.round(4).tolist()
    ([1, 2, 0], [0.8999999761581421, 0.5, 0.375])
    """
    left = np.array(scores, np.float64)
    overlaps = iou(boxes, boxes)
    if method == "linear":
        factors = np.where(overlaps > max_iou, 1 - overlaps, 1)
    else:
        factors = np.exp(-(overlaps**2) / sigma)
    waiting = np.ones(len(left), bool)
    rows: list[int] = []
    while (waiting & (left >= min_score)).any():
        row = int(np.where(waiting, left, -1).argmax())
        rows.append(row)
        waiting[row] = False
        left[waiting] *= factors[row, waiting]
    return np.array(rows, np.int64), left[rows].astype(np.float32)


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
