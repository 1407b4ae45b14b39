"""Figures with 95 % intervals, by bootstrap over patients."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import OperatingPoint
from lungbox.boxes.geometry import iou
from lungbox.constants import RSNA_CLASSES
from lungbox.datasets.types import Dataset
from lungbox.evaluation.maps import Maps
from lungbox.evaluation.operating_point import image_scores, mix_weights
from lungbox.metrics.classification import auc
from lungbox.metrics.detection import rsna_score

RESAMPLES = 1000
_NORMAL, _NOT_NORMAL, _OPACITY = RSNA_CLASSES
_RECALL_IOU = 0.4


@dataclass(frozen=True)
class Figure:
    """A figure, its 95 % interval, and the images behind it."""

    name: str
    value: float
    low: float
    high: float
    images: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True)
class Judged:
    """What an operating point makes of each image of a data set.

    Attributes:
        dataset: the images.
        image_scores: `(N,)` probabilities that there is any opacity.
        parts: `(N,)` each image's part in the RSNA metric, NaN where it does not count.
        boxes: `(N,)` how many boxes it was given.
        truths: `(N,)` how many it has.
        recalled: `(N,)` how many of these a box of it meets with IoU >= 0.4.
    """

    dataset: Dataset
    image_scores: NDArray[np.float64]
    parts: NDArray[np.float64]
    boxes: NDArray[np.int64]
    truths: NDArray[np.int64]
    recalled: NDArray[np.int64]


def judge(maps: Maps, points: tuple[OperatingPoint, ...]) -> Judged:
    """Apply to each image of `maps` a point of its own."""
    images = maps.dataset.images
    found = [maps.boxes(row, points[row])[0] for row in range(len(images))]
    recalled = [
        int((iou(image.boxes, boxes) >= _RECALL_IOU).any(axis=1).sum())
        for image, boxes in zip(images, found, strict=True)
    ]
    return Judged(
        dataset=maps.dataset,
        image_scores=maps.scores.astype(np.float64),
        parts=image_scores(maps, points),
        boxes=np.array([len(boxes) for boxes in found]),
        truths=np.array([len(image.boxes) for image in images]),
        recalled=np.array(recalled),
    )


def rsna_figures(judged: Judged) -> list[Figure]:
    """RSNA's figures: the metric raw and at the challenge's mix, recall, false positives, AUC."""
    category = np.array([image.category for image in judged.dataset.images])
    view = np.array([image.view for image in judged.dataset.images])
    normal, not_normal = category == _NORMAL, category == _NOT_NORMAL
    mix = mix_weights(judged.dataset)
    return [
        _rsna_score(judged, "RSNA metric, raw", np.ones(len(mix))),
        _rsna_score(judged, "RSNA metric, challenge's mix", mix),
        *_detection(judged),
        _false_positives(judged, "false-positive rate, normal", normal),
        _false_positives(judged, "false-positive rate, not normal", not_normal),
        _auc(judged, "image AUC against normal", ~not_normal),
        _auc(judged, "image AUC against not normal", ~normal),
        _auc(judged, "image AUC against both, within AP", view == "AP"),
        _auc(judged, "image AUC against both, within PA", view == "PA"),
        _auc(judged, "for comparison: AUC of the view alone (AP = 1)", view != "", view == "AP"),
    ]


def siim_figures(judged: Judged) -> list[Figure]:
    """SIIM-COVID's figures; images of positive studies without a box are left out before."""
    negative = judged.truths == 0
    return [
        _rsna_score(judged, "RSNA metric, raw", np.ones(len(negative))),
        *_detection(judged),
        _false_positives(judged, "false-positive rate, negative", negative),
        _auc(judged, "image AUC against negative", np.ones(len(negative), bool)),
    ]


def bootstrap(
    judged: Judged,
    name: str,
    chosen: NDArray[np.bool_],
    compute: Callable[[NDArray[np.int64]], float],
) -> Figure:
    """A figure of the `chosen` images with its interval.

    Patients are drawn with replacement, each with all its images, 1,000 times.

    Args:
        judged: all images.
        name: of the figure.
        chosen: `(N,)` the images it is about.
        compute: rows of images, some more than once, to the figure.
    """
    rows = np.flatnonzero(chosen)
    patients = np.array([judged.dataset.images[row].patient for row in rows])
    _, member = np.unique(patients, return_inverse=True)
    groups = [rows[member == patient] for patient in range(member.max() + 1 if len(rows) else 0)]
    random = np.random.default_rng(2024)
    values = []
    for _ in range(RESAMPLES if groups else 0):
        drawn = random.integers(len(groups), size=len(groups))
        values.append(compute(np.concatenate([groups[patient] for patient in drawn])))
    low, high = np.nanquantile(values, [0.025, 0.975]) if values else (np.nan, np.nan)
    value = compute(rows) if len(rows) else float("nan")
    return Figure(name, value, float(low), float(high), len(rows))


def _rsna_score(judged: Judged, name: str, weights: NDArray[np.float64]) -> Figure:
    everything = np.ones(len(weights), bool)
    return bootstrap(
        judged, name, everything, lambda rows: rsna_score(judged.parts[rows], weights[rows])
    )


def _detection(judged: Judged) -> list[Figure]:
    positive = judged.truths > 0
    return [
        bootstrap(
            judged,
            "recall of images (any box on a positive)",
            positive,
            lambda rows: float((judged.boxes[rows] > 0).mean()),
        ),
        bootstrap(
            judged,
            "recall of boxes (IoU >= 0.4)",
            positive,
            lambda rows: float(judged.recalled[rows].sum() / judged.truths[rows].sum()),
        ),
    ]


def _false_positives(judged: Judged, name: str, chosen: NDArray[np.bool_]) -> Figure:
    return bootstrap(judged, name, chosen, lambda rows: float((judged.boxes[rows] > 0).mean()))


def _auc(
    judged: Judged, name: str, chosen: NDArray[np.bool_], scores: NDArray | None = None
) -> Figure:
    values = judged.image_scores if scores is None else scores
    positive = judged.truths > 0
    return bootstrap(judged, name, chosen, lambda rows: auc(positive[rows], values[rows]))
