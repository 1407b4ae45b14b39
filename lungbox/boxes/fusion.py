"""Boxes of several networks as one set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.geometry import Boxes, as_boxes, iou
from lungbox.boxes.suppression import non_maximum_suppression

Fusion = Literal["weighted", "nms"]


@dataclass(frozen=True)
class Voter:
    """The boxes of one network, of one class.

    Attributes:
        boxes: `(N, 4)` `x1, y1, x2, y2`, in the same unit for all voters.
        scores: `(N,)` confidences, 0-1.
        weight: how much it counts beside the others.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    weight: float = 1.0


def fuse(
    voters: Sequence[Voter], max_iou: float, fusion: Fusion = "weighted"
) -> tuple[Boxes, NDArray[np.float32]]:
    """Fuse the boxes of several networks, of one class, on one radiograph.

    Args:
        voters: the networks' boxes.
        max_iou: boxes that overlap by more are one.
        fusion: `weighted` for `weighted_boxes`, `nms` for non-maximum suppression over all of
            them, each score multiplied by its voter's weight over the largest.

    Returns:
        `(M, 4)` boxes and `(M,)` confidences, the most confident first.
    """
    if fusion == "weighted":
        return weighted_boxes(voters, max_iou)
    boxes = as_boxes(np.concatenate([as_boxes([]), *(voter.boxes for voter in voters)]))
    largest = max((voter.weight for voter in voters), default=1.0)
    scores = np.concatenate(
        [np.zeros(0, np.float32), *(v.scores * np.float32(v.weight / largest) for v in voters)]
    )
    kept = non_maximum_suppression(boxes, scores, max_iou)
    return boxes[kept], scores[kept].astype(np.float32)


def weighted_boxes(voters: Sequence[Voter], max_iou: float) -> tuple[Boxes, NDArray[np.float32]]:
    """Weighted boxes fusion.

    Boxes are taken in descending weighted score, each joins the cluster whose mean box it overlaps
    most, if by more than `max_iou`; a cluster's box is the mean of its boxes weighted by their
    scores, its confidence their weighted mean, lowered where fewer voters than there are agree.

    Source: Solovyev, Wang and Gabruseva, *Weighted boxes fusion: ensembling boxes from different
    object detection models*, Image and Vision Computing 107, 2021; equal to the authors' package
    `ensemble-boxes` (`conf_type="avg"`).

    Args:
        voters: the networks' boxes.
        max_iou: a box joins a cluster whose box it overlaps by more.

    Returns:
        `(M, 4)` boxes and `(M,)` confidences, the most confident first.

    >>> voters = [Voter(as_boxes([[0, 0, 8, 8]]), np.float32([0.9])),
    ...           Voter(as_boxes([[0, 0, 8, 10]]), np.float32([0.3]))]
    >>> boxes, scores = weighted_boxes(voters, 0.5)
    >>> boxes.tolist(), scores.round(3).tolist()
    ([[0.0, 0.0, 8.0, 8.5]], [0.6000000238418579])
    """
    rows = [
        (float(score) * voter.weight, box)
        for voter in voters
        for box, score in zip(voter.boxes.astype(np.float64), voter.scores, strict=True)
    ]
    rows.sort(key=lambda row: -row[0])
    # Of each cluster: the sum of its boxes times their scores, the sum of scores, the mean box.
    sums, totals, means = np.zeros((len(rows), 4)), np.zeros(len(rows)), np.zeros((len(rows), 4))
    counts: list[int] = []
    for score, box in rows:
        overlaps = iou(means[: len(counts)], box[None])[:, 0]
        joins = len(counts) > 0 and overlaps.max() > max_iou
        index = int(overlaps.argmax()) if joins else len(counts)
        if not joins:
            counts.append(0)
        counts[index] += 1
        sums[index] += score * box
        totals[index] += score
        means[index] = sums[index] / totals[index] if totals[index] else box
    size = np.array(counts, np.float64)
    agreeing = np.minimum(size, len(voters)) / max(sum(voter.weight for voter in voters), 1e-12)
    confidences = np.divide(totals[: len(counts)], size) * agreeing
    order = np.argsort(-confidences, kind="stable")
    return as_boxes(means[: len(counts)][order]), confidences[order].astype(np.float32)
