"""Boxes of many images at once, and which predictions find a truth of their own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.geometry import Boxes, as_boxes, paired_iou


@dataclass(frozen=True)
class BoxTable:
    """Boxes of a set of images, one a row.

    Attributes:
        images: `(K,)` int64, which image of the set each box is on, from 0.
        boxes: `(K, 4)` float32 `x1, y1, x2, y2`.
        scores: `(K,)` float64 confidences; 1 for truth.
        classes: `(K,)` int64, from 0; 0 where there is only one.
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


def hits(
    truth: BoxTable,
    predicted: BoxTable,
    thresholds: Sequence[float],
    *,
    strict: bool = False,
    only_free: bool = True,
) -> NDArray[np.bool_]:
    """Which predictions find a truth of their own.

    In each image and class, predictions are taken in descending confidence, equal ones in their
    order. Each is matched with the truth of largest IoU.

    Args:
        truth: all true boxes.
        predicted: all predictions.
        thresholds: of IoU, above 0.
        strict: a hit has IoU > threshold rather than >=.
        only_free: the largest IoU is looked for among the truths that are still free (RSNA),
            rather than among all, where a prediction whose truth is taken is no hit (VOC).

    Returns:
        `(T, K)`: a row a threshold, a column a prediction.
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


def reached(truth: BoxTable, predicted: BoxTable, threshold: float) -> NDArray[np.bool_]:
    """`(K,)` which true boxes any prediction of their image and class meets, IoU >= `threshold`.

    Unlike `hits`, one prediction may meet several truths.
    """
    of_truth, of_predicted = _groups(truth, predicted)
    corners, exists = _padded(truth.boxes, of_truth)
    met = np.zeros(exists.shape, bool)
    for rows in _turns(of_predicted, predicted.scores):
        group = of_predicted[rows]
        met[group] |= paired_iou(predicted.boxes[rows, None], corners[group]) >= threshold
    return met[of_truth, _places(of_truth)]


def _groups(truth: BoxTable, predicted: BoxTable) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the pairs of image and class that have truth; -1 for predictions without any."""
    classes = 1 + max(truth.classes.max(initial=0), predicted.classes.max(initial=0))
    keys, of_truth = np.unique(truth.images * classes + truth.classes, return_inverse=True)
    wanted = predicted.images * classes + predicted.classes
    if not len(keys):
        return of_truth, np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return of_truth, np.where(keys[place] == wanted, place, -1)


def _padded(boxes: Boxes, group: NDArray[np.int64]) -> tuple[Boxes, NDArray[np.bool_]]:
    """`(groups, most, 4)` boxes of each group, and `(groups, most)` which of these exist."""
    place = _places(group)
    shape = (group.max(initial=-1) + 1, place.max(initial=-1) + 1)
    corners, exists = np.zeros((*shape, 4), np.float32), np.zeros(shape, bool)
    corners[group, place] = boxes
    exists[group, place] = True
    return corners, exists


def _places(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """`(K,)` how many rows of its own group stand above each row."""
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], group[order])
    places = np.empty(len(group), np.int64)
    places[order] = np.arange(len(group)) - starts
    return places


def _turns(group: NDArray[np.int64], scores: NDArray[np.float64]) -> Iterator[NDArray[np.int64]]:
    """The most certain row of every group, then the second most certain, and so on."""
    order = np.argsort(-scores, kind="stable")
    order = order[group[order] >= 0]
    places = _places(group[order])
    by_turn = np.argsort(places, kind="stable")
    ends = np.cumsum(np.bincount(places))
    yield from np.split(order[by_turn], ends[:-1]) if len(order) else ()
