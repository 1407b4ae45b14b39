"""From an ensemble's prediction to boxes: the one decision that inference, tuning, evaluation,
quantization's check and export share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.clusters import Voter, together
from lungbox.boxes.fusion import Fusion, fuse
from lungbox.boxes.geometry import Boxes, area, as_boxes, clip, scale, shrink
from lungbox.boxes.regions import (
    Region,
    connected_regions,
    mean_probability,
    reference_boxes,
)
from lungbox.boxes.suppression import class_wise_suppression, one_box_per_lung
from lungbox.common.equality import ValueEquality
from lungbox.constants import BACKGROUND, RSNA_SIZE

Compatibility = Literal["lungbox", "reference"]


@dataclass(frozen=True, eq=False)
class Detections(ValueEquality):
    """The boxes one detection network predicts on one radiograph: one voter of a fusion.

    Attributes:
        boxes: `(K, 4)` float32 `x1, y1, x2, y2` in 0-1 of the radiograph's width and height.
        scores: `(K, C)` float32 probabilities of each of C classes, 0-1.
        weight: of the network among the voters.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class RawPrediction(ValueEquality):
    """The prediction of an ensemble for one radiograph, for `boxes.decide`.

    Attributes:
        image_score: probability that it shows any finding at all, 0-1.
        mask: `(h, w, 1 + C)` float32, probabilities of background and of each of C classes, the
            mean of the segmentation networks; None where there is no such network.
        detections: of each detection network, and of each view of test-time augmentation.
        class_scores: `(L,)` float32, image-level probabilities of L labels, the mean of the
            classification networks; None where there is no such network.
        mask_weight: of the mask's boxes among the voters of the fusion.

    >>> RawPrediction(0.9, np.zeros((64, 64, 2), np.float32)).detections
    ()
    """

    image_score: float
    mask: NDArray[np.float32] | None = None
    detections: tuple[Detections, ...] = ()
    class_scores: NDArray[np.float32] | None = None
    mask_weight: float = 1.0


@dataclass(frozen=True)
class OperatingPoint:
    """The settings that turn a prediction into boxes.

    Attributes:
        rule: a mask pixel is of a class where that class has the largest probability (`argmax`),
            or at least `threshold`.
        threshold: for the rule `threshold`, 0-1.
        min_area: a box is dropped unless, before it is shrunk, it is larger than this share of the
            image.
        shrink: share taken off EACH side of a box's width and height.
        gate: no box at all where the image score is below this.
        compatibility: `reference` repeats the reference system's arithmetic, see
            `regions.reference_boxes`; of the other settings only `rule`, `threshold` and `gate`
            then count.
        max_one_box_per_lung: of the boxes of a class whose centre is in the same half of the
            image, only the most confident stays.
        min_score: boxes of detection networks with a lower score are dropped.
        nms_iou: of one detection network's boxes of a class that overlap by more, only the most
            confident stays.
        fusion: how boxes of several networks become one set, see `fusion.fuse`.
        fusion_iou: boxes of several networks that overlap by more are one.
        upper_gate: where the image score is at or above `gate` and below this, a submission to
            VinBigData's challenge has "no finding" beside the boxes, with confidence 1 - score.

    >>> strict = OperatingPoint("threshold", 0.6, gate=0.9)
    >>> decide(RawPrediction(image_score=0.8), (160, 80), strict).boxes.shape
    (0, 4)
    """

    rule: Literal["argmax", "threshold"] = "threshold"
    threshold: float = 0.5
    min_area: float = 0.005
    shrink: float = 0.05
    gate: float = 0.0
    compatibility: Compatibility = "lungbox"
    max_one_box_per_lung: bool = False
    min_score: float = 0.05
    nms_iou: float = 0.5
    fusion: Fusion = "weighted"
    fusion_iou: float = 0.5
    upper_gate: float = 0.0

    def is_between_gates(self, image_score: float) -> bool:
        """Whether VinBigData's format has "no finding" beside the boxes.

        >>> point = OperatingPoint(gate=0.08, upper_gate=0.985)
        >>> [point.is_between_gates(score) for score in (0.07, 0.08, 0.985)]
        [False, True, False]
        """
        return self.gate <= image_score < self.upper_gate


class Decision(NamedTuple):
    """The boxes of one radiograph.

    Attributes:
        boxes: `(N, 4)` float32 `x1, y1, x2, y2` in pixels of the file.
        scores: `(N,)` float32 confidences, 0-1, the most confident first.
        labels: `(N,)` int64 class of each box, an index into the ensemble's class names.
    """

    boxes: Boxes
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


class Candidates(NamedTuple):
    """The boxes of a prediction before any is dropped, in pixels of the mask, or of a square of
    side 1 where there is none.

    Attributes:
        boxes: `(N, 4)` `x1, y1, x2, y2`, not shrunk.
        areas: `(N,)` of these, as shares of the image.
        scores: `(N,)` confidences, 0-1.
        labels: `(N,)` their classes.
        space: width and height of the image they are in.
    """

    boxes: Boxes
    areas: NDArray[np.float64]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    space: tuple[int, int]


def decide(prediction: RawPrediction, size: tuple[int, int], point: OperatingPoint) -> Decision:
    """The boxes of one radiograph.

    Args:
        prediction: of an ensemble.
        size: width and height of the radiograph, in pixels of the file.
        point: the settings.

    >>> opacity = np.zeros((8, 16), np.float32)
    >>> opacity[2:4, 4:8] = 0.75
    >>> prediction = RawPrediction(0.9, np.stack([1 - opacity, opacity], axis=-1))
    >>> boxes, scores, labels = decide(prediction, (160, 80), OperatingPoint(shrink=0))
    >>> boxes.tolist(), scores.tolist(), labels.tolist()
    ([[40.0, 20.0, 80.0, 40.0]], [0.75], [0])
    """
    if prediction.image_score < point.gate:
        return _no_boxes()
    return _decide_without_gate(prediction, size, point)


def withheld_by_gate(
    prediction: RawPrediction, size: tuple[int, int], point: OperatingPoint
) -> Decision:
    """The boxes of one radiograph that the gate alone keeps out of `decide`'s.

    Where the image score is below the gate, they are those of the same point with a gate of 0;
    elsewhere there are none.

    Args:
        prediction: of an ensemble.
        size: width and height of the radiograph, in pixels of the file.
        point: the settings.

    >>> mask = np.zeros((8, 16, 2), np.float32)
    >>> mask[2:4, 4:8, 1] = 0.75
    >>> unsure, point = RawPrediction(0.4, mask), OperatingPoint(shrink=0, gate=0.5)
    >>> len(decide(unsure, (160, 80), point).boxes)
    0
    >>> withheld_by_gate(unsure, (160, 80), point).boxes.tolist()
    [[40.0, 20.0, 80.0, 40.0]]
    """
    if prediction.image_score >= point.gate:
        return _no_boxes()
    return _decide_without_gate(prediction, size, point)


def _no_boxes() -> Decision:
    return Decision(as_boxes([]), np.zeros(0, np.float32), np.zeros(0, np.int64))


def _decide_without_gate(
    prediction: RawPrediction, size: tuple[int, int], point: OperatingPoint
) -> Decision:
    if point.compatibility == "reference":
        return _decide_as_reference(prediction, size, point)
    return select(find_candidates(prediction, point), size, point)


def find_candidates(prediction: RawPrediction, point: OperatingPoint) -> Candidates:
    """The boxes of a prediction before any is dropped.

    Those of masks depend on the point's rule and threshold alone, those of detections on
    `min_score`, `nms_iou`, `fusion` and `fusion_iou`; so a search over the other settings finds
    them once.
    """
    if not prediction.detections:
        return _mask_candidates(prediction.mask, point)
    return _fused_candidates(prediction, point)


def select(found: Candidates, size: tuple[int, int], point: OperatingPoint) -> Decision:
    """The candidates that a point keeps, shrunk; the gate is not applied.

    Args:
        found: see `find_candidates`.
        size: width and height of the radiograph, in pixels of the file.
        point: the settings.
    """
    order = np.argsort(-found.scores, kind="stable")
    kept = order[found.areas[order] > point.min_area]
    if point.max_one_box_per_lung and len(kept) > 1:
        kept = _one_per_lung_and_class(found, kept)
    boxes = scale(shrink(found.boxes[kept], point.shrink), found.space, size)
    return Decision(boxes, found.scores[kept], found.labels[kept])


def _one_per_lung_and_class(found: Candidates, kept: NDArray[np.int64]) -> NDArray[np.int64]:
    rows = [
        of_class[one_box_per_lung(found.boxes[of_class], found.scores[of_class], found.space[0])]
        for label in np.unique(found.labels[kept])
        for of_class in [kept[found.labels[kept] == label]]
    ]
    staying = np.concatenate(rows)
    return staying[np.argsort(-found.scores[staying], kind="stable")]


def binarize(
    mask: NDArray[np.floating], point: OperatingPoint, channel: int = 1
) -> NDArray[np.bool_]:
    """`(h, w)`: which pixels of a `(h, w, 1 + C)` mask are of the class of a channel."""
    if point.rule == "threshold":
        return mask[..., channel] >= point.threshold
    others = [other for other in range(mask.shape[-1]) if other != channel]
    # Ties are the background's, and then the earlier class's.
    return np.all(
        [
            mask[..., channel] > mask[..., other]
            if other < channel or other == BACKGROUND
            else mask[..., channel] >= mask[..., other]
            for other in others
        ],
        axis=0,
    )


def _mask_candidates(mask: NDArray[np.float32] | None, point: OperatingPoint) -> Candidates:
    if mask is None:
        empty = np.zeros(0)
        return Candidates(as_boxes([]), empty, empty.astype(np.float32), empty.astype(int), (1, 1))
    height, width, channels = mask.shape
    found: list[tuple[Region, float, int]] = []
    for channel in range(1, channels):
        for region in connected_regions(binarize(mask, point, channel)):
            found.append((region, mean_probability(region, mask[..., channel]), channel - 1))
    return Candidates(
        boxes=as_boxes([region.box for region, _, _ in found]),
        areas=np.array([region.area_bbox / (height * width) for region, _, _ in found]),
        scores=np.array([score for _, score, _ in found], np.float32),
        labels=np.array([label for _, _, label in found], np.int64),
        space=(width, height),
    )


def _fused_candidates(prediction: RawPrediction, point: OperatingPoint) -> Candidates:
    """Detections, and where there is a mask its boxes as one more voter, fused class by class."""
    voters = [_voter(detections, point) for detections in prediction.detections]
    if prediction.mask is not None:
        found = _mask_candidates(prediction.mask, point)
        boxes = scale(found.boxes, found.space, (1, 1))
        voters.append(Voter(boxes, found.scores, prediction.mask_weight, found.labels))
    # One network's boxes are not fused: they were suppressed already.
    boxes, scores, labels = (
        fuse(voters, point.fusion_iou, point.fusion) if len(voters) > 1 else together(voters)
    )
    return Candidates(boxes, area(boxes.astype(np.float64)), scores, labels, (1, 1))


def _voter(detections: Detections, point: OperatingPoint) -> Voter:
    boxes = clip(detections.boxes, (1, 1))
    certain = detections.scores >= point.min_score
    rows, labels = np.nonzero(certain & (area(boxes) > 0)[:, None])
    boxes, scores = boxes[rows], detections.scores[rows, labels]
    kept = class_wise_suppression(boxes, scores, labels, point.nms_iou)
    return Voter(boxes[kept], scores[kept], detections.weight, labels[kept])


def _decide_as_reference(
    prediction: RawPrediction, size: tuple[int, int], point: OperatingPoint
) -> Decision:
    if prediction.mask is None:
        raise ValueError("the reference system's rule needs a mask")
    boxes, scores = reference_boxes(binarize(prediction.mask, point))
    order = np.argsort(-scores, kind="stable")
    scaled = scale(boxes[order], (RSNA_SIZE, RSNA_SIZE), size)
    return Decision(scaled, scores[order], np.zeros(len(order), np.int64))


def label_names(labels: Sequence[int] | NDArray, class_names: Sequence[str]) -> tuple[str, ...]:
    """The names of classes that are given by their index."""
    return tuple(class_names[int(label)] for label in labels)
