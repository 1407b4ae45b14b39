"""Clusters of overlapping boxes of several networks, from which fusions make one box each."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.geometry import Boxes, area, as_boxes


@dataclass(frozen=True)
class Voter:
    """The boxes of one network.

    Attributes:
        boxes: `(N, 4)` `x1, y1, x2, y2`, in the same unit for all voters.
        scores: `(N,)` confidences, 0-1.
        weight: how much it counts beside the others; 0 leaves it out.
        labels: `(N,)` the class of each box; all of one class where None.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    weight: float = 1.0
    labels: NDArray[np.int64] | None = None


class Fused(NamedTuple):
    """The boxes of all networks together.

    Attributes:
        boxes: `(M, 4)` float32.
        scores: `(M,)` float32 confidences, 0-1, the most confident first.
        labels: `(M,)` int64, the class of each.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


def together(voters: Sequence[Voter]) -> Fused:
    """All boxes, each score multiplied by its voter's weight over the largest."""
    largest = max(voter.weight for voter in voters)
    return Fused(
        as_boxes(np.concatenate([voter.boxes for voter in voters])),
        np.concatenate([v.scores * np.float32(v.weight / largest) for v in voters]),
        np.concatenate(
            [np.zeros(len(v.scores), np.int64) if v.labels is None else v.labels for v in voters]
        ),
    )


class Clusters(NamedTuple):
    """Rows that are one box: their lists, and `(M, 4)` the box each is compared by."""

    members: list[list[int]]
    means: NDArray[np.float64]


@dataclass(frozen=True)
class ScoredRows:
    """The boxes of all voters by class, and in descending weighted score within each."""

    boxes: NDArray[np.float64]  # (N, 4)
    scores: NDArray[np.float64]  # (N,), times the voter's weight
    labels: NDArray[np.int64]  # (N,)
    voters: NDArray[np.int64]  # (N,)

    @classmethod
    def of(cls, voters: Sequence[Voter]) -> "ScoredRows":
        boxes, _, labels = together(voters)
        weights = np.array([voter.weight for voter in voters], np.float64)
        numbers = np.repeat(np.arange(len(voters)), [len(voter.scores) for voter in voters])
        scores = np.concatenate([voter.scores for voter in voters]) * weights[numbers]
        order = np.lexsort((-scores, labels))
        return cls(boxes[order].astype(np.float64), scores[order], labels[order], numbers[order])

    def clusters(self, max_iou: float, moving: bool = True) -> Clusters:
        """Each box joins the cluster of its class that it overlaps most, if by more than `max_iou`.

        Args:
            max_iou: the least overlap.
            moving: whether a cluster's box is the mean of its boxes, weighted by score, or stays
                its first.
        """
        count = len(self.boxes)
        # Of the clusters: corners, in the layout that is fastest, and areas; sums over their boxes.
        low, high, areas = np.zeros((2, count)), np.zeros((2, count)), np.zeros(count)
        sums, members = list[list[float]](), list[list[int]]()
        first, current = 0, None  # where the clusters of the current class begin
        columns, own = self.boxes.reshape(count, 2, 2, 1), area(self.boxes).tolist()
        rows = zip(self.labels.tolist(), self.scores.tolist(), self.boxes.tolist(), strict=True)
        for row, (label, score, (x1, y1, x2, y2)) in enumerate(rows):
            if label != current:
                first, current = len(members), label
            nearest, best, index = 0, -1.0, len(members)
            if index > first:
                of_class = slice(first, index)
                nearest, best = _most_overlapping(
                    low[:, of_class], high[:, of_class], areas[of_class], columns[row], own[row]
                )
            if best > max_iou:
                index = first + nearest
                members[index].append(row)
                if not moving:
                    continue
                total, *sum_of = sums[index]
            else:
                members.append([row])
                sums.append([])
                total, sum_of = 0.0, [0.0] * 4
            total += score
            edges = (x1, y1, x2, y2)
            sum_of = [old + score * edge for old, edge in zip(sum_of, edges, strict=True)]
            sums[index] = [total, *sum_of]
            if total:
                x1, y1, x2, y2 = (edge / total for edge in sum_of)
            low[0, index], low[1, index], high[0, index], high[1, index] = x1, y1, x2, y2
            # Not 0, by which it would be divided.
            areas[index] = max((x2 - x1) * (y2 - y1), 1e-300)
        return Clusters(members, np.concatenate([low, high])[:, : len(members)].T)

    def fused(
        self, boxes: NDArray[np.float64], scores: NDArray[np.float64], clusters: Clusters
    ) -> Fused:
        """The clusters as boxes with these scores."""
        order = np.argsort(-scores, kind="stable")
        labels = self.labels[[members[0] for members in clusters.members]]
        return Fused(as_boxes(boxes[order]), scores[order].astype(np.float32), labels[order])

    def confidences(self, clusters: Clusters, voters: Sequence[Voter]) -> NDArray[np.float64]:
        """`(M,)`: the mean score of each cluster, lowered where fewer boxes than voters are in it,
        and at most 1."""
        sizes = np.array([len(members) for members in clusters.members], np.int64)
        rows = np.array(list(chain(*clusters.members)), np.int64)
        totals = np.bincount(np.repeat(np.arange(len(sizes)), sizes), self.scores[rows])
        agreeing = np.minimum(sizes, len(voters)) / sum(voter.weight for voter in voters)
        return np.minimum(totals / sizes * agreeing, 1)


def _most_overlapping(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    areas: NDArray[np.float64],
    corners: NDArray[np.float64],
    own: float,
) -> tuple[int, float]:
    """The box that another overlaps most, and their IoU.

    Args:
        low: `(2, M)` low corners of M boxes.
        high: `(2, M)` their high corners.
        areas: `(M,)`, above 0.
        corners: `(2, 2, 1)`, the low and the high corner of the other.
        own: its area.
    """
    sides = np.minimum(high, corners[1])
    sides -= np.maximum(low, corners[0])
    shared = np.multiply(*np.maximum(sides, 0, out=sides))
    overlaps = shared / (areas + own - shared)
    nearest = int(overlaps.argmax())
    return nearest, float(overlaps[nearest])
