"""Several readers' boxes of one radiograph as one truth, and how far the readers agree."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.geometry import Boxes, as_boxes, iou

# Boxes of one finding overlap by more: the threshold at which VinBigData's metric counts a hit, so
# that a predicted box cannot be right for two truths of one finding.
SAME_FINDING_IOU = 0.4


class Consensus(NamedTuple):
    """The truth that several readers' boxes are merged to.

    Attributes:
        boxes: `(M, 4)` float32 `x1, y1, x2, y2`, in the unit of the readers' boxes.
        labels: the class of each.
        counts: `(M,)` int64, how many readers drew each.
    """

    boxes: Boxes
    labels: tuple[str, ...]
    counts: NDArray[np.int64]


def consensus(
    boxes: Boxes,
    readers: Sequence[str],
    labels: Sequence[str],
    min_readers: int = 1,
    iou_threshold: float = SAME_FINDING_IOU,
) -> Consensus:
    """Merge the boxes that several readers drew independently to one truth, class by class.

    Boxes are clustered as in weighted boxes fusion (`boxes.fusion`) of equal scores: each joins
    the cluster of its class whose mean box it overlaps most, if by more than `iou_threshold`, else
    it starts one. A truth is the mean of its cluster's boxes.

    Args:
        boxes: `(N, 4)` `x1, y1, x2, y2`, in their order of the data.
        readers: who drew each.
        labels: the class of each.
        min_readers: the fewest readers that have to agree; who draws a finding twice counts once.
            1 keeps what a single reader saw.
        iou_threshold: boxes of one class that overlap by more are of one finding.

    Returns:
        The truth, in the order of the clusters' first boxes.

    >>> drawn = as_boxes([[0, 0, 10, 10], [0, 0, 10, 12], [50, 50, 60, 60], [0, 0, 10, 10]])
    >>> truth = consensus(drawn, ["R8", "R9", "R9", "R9"], ["ILD", "ILD", "ILD", "Other lesion"])
    >>> truth.boxes[0].tolist(), truth.labels, truth.counts.tolist()
    ([0.0, 0.0, 10.0, 11.0], ('ILD', 'ILD', 'Other lesion'), [2, 1, 1])
    """
    clusters: list[list[int]] = []
    for row, box in enumerate(boxes):
        same = [cluster for cluster in clusters if labels[cluster[0]] == labels[row]]
        means = as_boxes([boxes[cluster].mean(axis=0) for cluster in same])
        overlaps = iou(means, box[None])[:, 0]
        if len(same) and overlaps.max() > iou_threshold:
            same[int(overlaps.argmax())].append(row)
        else:
            clusters.append([row])
    counts = [len({readers[row] for row in cluster}) for cluster in clusters]
    kept = [
        (cluster, count)
        for cluster, count in zip(clusters, counts, strict=True)
        if count >= min_readers
    ]
    return Consensus(
        as_boxes([boxes[cluster].mean(axis=0) for cluster, _ in kept]),
        tuple(labels[cluster[0]] for cluster, _ in kept),
        np.array([count for _, count in kept], np.int64),
    )


def confirmed(
    boxes: Boxes,
    readers: Sequence[str],
    labels: Sequence[str],
    iou_threshold: float = SAME_FINDING_IOU,
) -> NDArray[np.bool_]:
    """Which boxes of one radiograph another reader drew, too.

    Args:
        boxes: `(N, 4)` `x1, y1, x2, y2`.
        readers: who drew each.
        labels: the class of each.
        iou_threshold: two boxes of one class are of one finding where they overlap by more.

    Returns:
        `(N,)`: whether another reader has a box of the same class that overlaps by more.

    >>> drawn = as_boxes([[0, 0, 10, 10], [0, 0, 10, 12], [0, 0, 10, 10]])
    >>> confirmed(drawn, ["R8", "R9", "R9"], ["ILD", "ILD", "Other lesion"]).tolist()
    [True, True, False]
    """
    who, what = np.array(readers, object), np.array(labels, object)
    pairs = (who[:, None] != who) & (what[:, None] == what)
    return (pairs & (iou(boxes, boxes) > iou_threshold)).any(axis=1)
