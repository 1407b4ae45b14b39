"""Matching predicted with true boxes, for many images at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.geometry import Boxes, as_boxes, paired_iou


@dataclass(frozen=True)
class BoxTable:
    """Boxes of a set of images, one a row.

    Attributes:
        images: `(K,)` int64 index of the image of each box.
        boxes: `(K, 4)` float32 `x1, y1, x2, y2`.
        scores: `(K,)` float64 confidences; 1 for truth.
        classes: `(K,)` int64 class of each box; 0 where there is only one.
    """

    images: NDArray[np.int64]
    boxes: Boxes
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        boxes: Sequence[Boxes],
        scores: Sequence[NDArray] | None = None,
        classes: Sequence[NDArray] | None = None,
    ) -> "BoxTable":
        """From one array an image; without `scores` all are 1, without `classes` all are 0."""
        counts = [len(of_image) for of_image in boxes]
        images = np.repeat(np.arange(len(boxes)), counts)
        return cls(
            images=images,
            boxes=as_boxes(np.concatenate(boxes)) if len(images) else as_boxes([]),
            scores=_joined(scores, len(images), 1).astype(np.float64),
            classes=_joined(classes, len(images), 0).astype(np.int64),
        )

    def __len__(self) -> int:
        return len(self.images)


def _joined(values: Sequence[NDArray] | None, count: int, absent: int) -> NDArray:
    if values is None or not count:
        return np.full(count, absent)
    return np.concatenate(values)


def match_predictions(
    truth: BoxTable,
    predicted: BoxTable,
    thresholds: Sequence[float],
    *,
    strict: bool = False,
    only_free: bool = True,
) -> NDArray[np.bool_]:
    """Match predictions with true boxes, one to one.

    In each image and class, predictions are taken in descending confidence, ties in their order.
    Each is matched with the true box of largest IoU.

    Args:
        truth: all true boxes.
        predicted: all predictions.
        thresholds: of IoU, above 0.
        strict: a hit has IoU > threshold rather than >=.
        only_free: match with the largest IoU among true boxes that are not matched yet (RSNA); else
            among all, where a prediction whose true box is matched already is no hit (VOC).

    Returns:
        `(T, K)`: whether each prediction is a hit, at each threshold.
    """
    limits = np.asarray(thresholds, np.float64)[:, None]
    found = np.zeros((len(limits), len(predicted)), bool)
    of_truth, of_predicted = _groups(truth, predicted)
    corners, exists = _padded(truth.boxes, of_truth)
    free = np.repeat(exists[None], len(limits), axis=0)
    for rows in _turns(of_predicted, predicted.scores):
        group = of_predicted[rows]
        overlaps = paired_iou(predicted.boxes[rows, None], corners[group])
        eligible = free[:, group] if only_free else exists[None, group]
        candidates = np.where(eligible, overlaps, -1.0)
        best = np.broadcast_to(candidates.argmax(axis=2), (len(limits), len(rows)))
        largest = candidates.max(axis=2)
        hit = (largest > limits) if strict else (largest >= limits)
        hit = hit & free[np.arange(len(limits))[:, None], group, best]
        level, column = hit.nonzero()
        free[level, group[column], best[level, column]] = False
        found[:, rows] = hit
    return found


def matched_truths(truth: BoxTable, predicted: BoxTable, threshold: float) -> NDArray[np.bool_]:
    """`(K,)` whether any prediction of its image and class overlaps a true box, IoU >= `threshold`.

    Unlike `match_predictions`, one prediction may match several true boxes.
    """
    of_truth, of_predicted = _groups(truth, predicted)
    corners, exists = _padded(truth.boxes, of_truth)
    met = np.zeros(exists.shape, bool)
    for rows in _turns(of_predicted, predicted.scores):
        group = of_predicted[rows]
        met[group] |= paired_iou(predicted.boxes[rows, None], corners[group]) >= threshold
    return met[of_truth, _ranks(of_truth)]


def _groups(truth: BoxTable, predicted: BoxTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The group (image and class) of each true box and prediction; -1 for groups without truth."""
    classes = 1 + max(truth.classes.max(initial=0), predicted.classes.max(initial=0))
    keys, of_truth = np.unique(truth.images * classes + truth.classes, return_inverse=True)
    wanted = predicted.images * classes + predicted.classes
    if not len(keys):
        return of_truth, np.full(len(wanted), -1)
    index = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return of_truth, np.where(keys[index] == wanted, index, -1)


def _padded(boxes: Boxes, group: NDArray[np.int64]) -> tuple[Boxes, NDArray[np.bool_]]:
    """`(groups, most, 4)` boxes of each group, and `(groups, most)` which of these exist."""
    rank = _ranks(group)
    shape = (group.max(initial=-1) + 1, rank.max(initial=-1) + 1)
    corners, exists = np.zeros((*shape, 4), np.float32), np.zeros(shape, bool)
    corners[group, rank] = boxes
    exists[group, rank] = True
    return corners, exists


def _ranks(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """`(K,)` index of each row within its group."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], group[order])
    ranks = np.empty(len(group), np.int64)
    ranks[order] = np.arange(len(group)) - starts
    return ranks


def _turns(group: NDArray[np.int64], scores: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
    """Rows of the most confident prediction of every group, then of the second, and so on."""
    order = np.argsort(-scores, kind="stable")
    order = order[group[order] >= 0]
    ranks = _ranks(group[order])
    by_turn = np.argsort(ranks, kind="stable")
    ends = np.cumsum(np.bincount(ranks))
    yield from np.split(order[by_turn], ends[:-1]) if len(order) else ()
