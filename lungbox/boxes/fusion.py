"""Boxes of several networks as one set."""

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lungbox.boxes.clusters import Clusters, Fused, ScoredRows, Voter, together
from lungbox.boxes.geometry import area, as_boxes, iou
from lungbox.boxes.suppression import class_wise_suppression, soft_nms

Fusion = Literal[
    "weighted", "nms", "soft_nms", "non_maximum_weighted", "intersection", "percentile"
]
# RSNA's second place: sizes at this percentile, and this share of the spread taken off.
_SMALL, _LARGE, _SPREAD = 20, 80, 0.9


def fuse(voters: Sequence[Voter], max_iou: float, fusion: Fusion = "weighted") -> Fused:
    """Fuse the boxes of several networks on one radiograph, class by class.

    Args:
        voters: the networks' boxes.
        max_iou: boxes of a class that overlap by more are one.
        fusion: `weighted` (`weighted_boxes`); `nms` and `soft_nms` (linear), suppression over all
            boxes, each score multiplied by its voter's weight over the largest;
            `non_maximum_weighted`; `intersection`, of `weighted` those that every network has; or
            `percentile` (`percentile_boxes`).
    """
    counted = [voter for voter in voters if voter.weight > 0]
    if not any(len(voter.scores) for voter in counted):
        return Fused(as_boxes([]), np.zeros(0, np.float32), np.zeros(0, np.int64))
    return _FUSIONS[fusion](counted, max_iou)


def weighted_boxes_fusion(
    boxes: Sequence[ArrayLike],
    scores: Sequence[ArrayLike],
    labels: Sequence[ArrayLike],
    weights: Sequence[float] | None = None,
    iou_threshold: float = 0.5,
    skip_threshold: float = 0.0,
    fusion: Fusion = "weighted",
) -> Fused:
    """Weighted boxes fusion of several models' boxes, class by class; see `weighted_boxes`.

    Args:
        boxes: of each model `(N, 4)` `x1, y1, x2, y2`, in any unit that all share. Boxes without
            area are left out.
        scores: of each model `(N,)` confidences, 0-1.
        labels: of each model `(N,)` class numbers.
        weights: of each model; equal by default, and 0 leaves it out.
        iou_threshold: boxes of a class that overlap by more are one.
        skip_threshold: boxes with a lower score are left out.
        fusion: another way to fuse, see `fuse`.

    Returns:
        `(M, 4)` boxes, `(M,)` confidences and `(M,)` labels, the most confident first.

    Raises:
        ValueError: there are not as many scores, labels or weights as boxes or models.

    >>> boxes, scores, labels = weighted_boxes_fusion(
    ...     [[[0, 0, 8, 8]], [[0, 0, 8, 10], [20, 0, 30, 9]]], [[0.9], [0.3, 0.8]], [[3], [3, 7]]
    ... )
    >>> boxes.tolist(), scores.round(2).tolist(), labels.tolist()
    ([[0.0, 0.0, 8.0, 8.5], [20.0, 0.0, 30.0, 9.0]], [0.6..., 0.4...], [3, 7])
    """
    shares = [1.0] * len(boxes) if weights is None else weights
    voters = []
    for of_model, score, label, share in zip(boxes, scores, labels, shares, strict=True):
        voter = Voter(
            as_boxes(of_model), np.asarray(score, np.float32), share, np.asarray(label, np.int64)
        )
        if not len(voter.boxes) == len(voter.scores) == len(np.asarray(label)):
            raise ValueError("each model needs as many scores and labels as boxes")
        voters.append(_only(voter, (voter.scores >= skip_threshold) & (area(voter.boxes) > 0)))
    return fuse(voters, iou_threshold, fusion)


def _only(voter: Voter, kept: NDArray[np.bool_]) -> Voter:
    labels = None if voter.labels is None else voter.labels[kept]
    return Voter(voter.boxes[kept], voter.scores[kept], voter.weight, labels)


def weighted_boxes(voters: Sequence[Voter], max_iou: float) -> Fused:
    """Weighted boxes fusion.

    Boxes are taken in descending weighted score, each joins the cluster whose mean box it overlaps
    most, if by more than `max_iou`; a cluster's box is the mean of its boxes weighted by their
    scores, its confidence their weighted mean, lowered where fewer voters than there are agree.

    Source: Solovyev, Wang and Gabruseva, *Weighted boxes fusion: ensembling boxes from different
    object detection models*, Image and Vision Computing 107, 2021; equal to the authors' package
    `ensemble-boxes` (`conf_type="avg"`) where that one's confidence is at most 1, its limit here.

    Args:
        voters: the networks' boxes, of weights above 0.
        max_iou: a box joins a cluster whose box it overlaps by more.

    >>> voters = [Voter(as_boxes([[0, 0, 8, 8]]), np.float32([0.9])),
    ...           Voter(as_boxes([[0, 0, 8, 10]]), np.float32([0.3]))]
    >>> boxes, scores, _ = weighted_boxes(voters, 0.5)
    >>> boxes.tolist(), scores.round(3).tolist()
    ([[0.0, 0.0, 8.0, 8.5]], [0.6...])
    """
    rows = ScoredRows.of(voters)
    clusters = rows.clusters(max_iou)
    return rows.fused(clusters.means, rows.confidences(clusters, voters), clusters)


def non_maximum_weighted(voters: Sequence[Voter], max_iou: float) -> Fused:
    """Non-maximum weighted: each cluster around its most confident box is averaged, weighted by
    score times IoU with that box, whose confidence it keeps.

    Source: Zhou et al., *CAD: scale invariant framework for real-time object detection*, ICCV
    workshops 2017; equal to `non_maximum_weighted` of `ensemble-boxes`.

    Args:
        voters: the networks' boxes, of weights above 0; scores are multiplied by the weight over
            the largest.
        max_iou: a box joins a cluster whose first box it overlaps by more.
    """
    rows = ScoredRows.of(voters)
    clusters = rows.clusters(max_iou, moving=False)
    boxes = []
    for first, members in zip(clusters.means, clusters.members, strict=True):
        shares = rows.scores[members] * iou(rows.boxes[members], first[None])[:, 0]
        whole = shares.sum()
        boxes.append(shares @ rows.boxes[members] / whole if whole > 0 else first)
    best = np.array([rows.scores[members[0]] for members in clusters.members])
    scores = best / max(voter.weight for voter in voters)
    return rows.fused(np.array(boxes), scores, clusters)


def intersection(voters: Sequence[Voter], max_iou: float) -> Fused:
    """The boxes of `weighted_boxes` that every voter has, as RSNA's sixth place combines two
    ensembles.

    Args:
        voters: the networks' boxes, of weights above 0.
        max_iou: as in `weighted_boxes`.
    """
    rows = ScoredRows.of(voters)
    found = rows.clusters(max_iou)
    agreed = [len(set(rows.voters[members].tolist())) == len(voters) for members in found.members]
    clusters = Clusters(list(compress(found.members, agreed)), found.means[agreed])
    return rows.fused(clusters.means, rows.confidences(clusters, voters), clusters)


def percentile_boxes(voters: Sequence[Voter], max_iou: float, spread: float = _SPREAD) -> Fused:
    """Clusters of `weighted_boxes` with smaller boxes where the networks disagree.

    Around the centre of the mean box, width and height are those at the 20th percentile of the
    cluster's logarithmic sizes, less `spread` times the distance to the 80th percentile: the boxes
    that several readers agree on are small, and smaller where they are not sure.

    Source: second place of the RSNA challenge (D. Poplavskiy,
    https://github.com/pdima/kaggle_RSNA_Pneumonia_Detection, `prepare_submission.py`), where the
    outputs of the folds are merged anchor by anchor.

    Args:
        voters: the networks' boxes, of weights above 0.
        max_iou: as in `weighted_boxes`.
        spread: share of the distance between the percentiles.
    """
    rows = ScoredRows.of(voters)
    clusters = rows.clusters(max_iou)
    centres = (clusters.means[:, :2] + clusters.means[:, 2:]) / 2
    logs = np.log(np.maximum(rows.boxes[:, 2:] - rows.boxes[:, :2], 1e-12))
    halves = []
    for members in clusters.members:
        small, large = np.percentile(logs[members], (_SMALL, _LARGE), axis=0)
        halves.append(np.exp(small - spread * (large - small)) / 2)
    boxes = np.concatenate([centres - halves, centres + halves], axis=1)
    return rows.fused(boxes, rows.confidences(clusters, voters), clusters)


def _suppressed(voters: Sequence[Voter], max_iou: float) -> Fused:
    boxes, scores, labels = together(voters)
    kept = class_wise_suppression(boxes, scores, labels, max_iou)
    return Fused(boxes[kept], scores[kept], labels[kept])


def _softly_suppressed(voters: Sequence[Voter], max_iou: float) -> Fused:
    boxes, scores, labels = together(voters)
    parts = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        kept, lowered = soft_nms(boxes[rows], scores[rows], max_iou)
        parts.append((rows[kept], lowered))
    staying, lowered = (np.concatenate(values) for values in zip(*parts, strict=True))
    order = np.argsort(-lowered, kind="stable")
    return Fused(boxes[staying[order]], lowered[order], labels[staying[order]])


_FUSIONS: dict[Fusion, Callable[[Sequence[Voter], float], Fused]] = {
    "weighted": weighted_boxes,
    "nms": _suppressed,
    "soft_nms": _softly_suppressed,
    "non_maximum_weighted": non_maximum_weighted,
    "intersection": intersection,
    "percentile": percentile_boxes,
}
