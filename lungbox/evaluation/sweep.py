"""The RSNA metric as a function of one value of an operating point, all others fixed."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import OperatingPoint
from lungbox.datasets import mix_of
from lungbox.evaluation.estimates import draws_of
from lungbox.evaluation.operating_point import has_mix, ungated_scores
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.metrics.bootstrap import Estimate

_THRESHOLDS = np.round(np.arange(0.05, 0.96, 0.05), 2)
_MIN_AREAS = np.round(np.arange(0, 0.0401, 0.0025), 4)
_SHRINKS = np.round(np.arange(0, 0.201, 0.0125), 4)
_GATES = np.linspace(0, 0.98, 41)  # quantiles of the image scores


@dataclass(frozen=True)
class Sweep:
    """The RSNA metric along one value of an operating point.

    Attributes:
        key: the name of the value.
        values: `(K,)` its settings, ascending.
        raw: the metric on the images as they are.
        mix: the metric at the challenge's mix of classes; as `raw` where one has no image.
    """

    key: str
    values: NDArray[np.floating]
    raw: list[Estimate]
    mix: list[Estimate]


def sweeps(predictions: DatasetPredictions, point: OperatingPoint) -> list[Sweep]:
    """A curve each for gate, threshold, least area and shrink, through `point`, on RSNA's images.

    Not cross-fitted: they show how much a value matters, and overestimate the best.
    """
    gates = np.unique(np.quantile(predictions.scores, _GATES).round(4))
    draws = draws_of(np.array([image.patient for image in predictions.dataset.images]))
    categories = [image.category for image in predictions.dataset.images]
    mixed, shares = has_mix(predictions.dataset), mix_of(predictions.dataset)

    def curve(key: str, values: NDArray[np.floating], parts: NDArray[np.float64]) -> Sweep:
        counted = ~np.isnan(parts)
        pairs = list(zip(np.nan_to_num(parts), counted, strict=True))
        raw = [draws.ratio(part, counts) for part, counts in pairs]
        if not mixed:
            return Sweep(key, values, raw, raw)
        mix = [draws.mix_ratio(part, c, categories, shares) for part, c in pairs]
        return Sweep(key, values, raw, mix)

    def gated(parts: NDArray[np.float64], gate: float) -> NDArray[np.float64]:
        return _behind_gate(predictions, parts, gate)

    (at_point,) = ungated_scores(predictions, [point])
    by_threshold = [
        ungated_scores(predictions, [replace(point, rule="threshold", threshold=float(value))])[0]
        for value in _THRESHOLDS
    ]
    by_area = ungated_scores(predictions, [replace(point, min_area=float(v)) for v in _MIN_AREAS])
    by_shrink = ungated_scores(predictions, [replace(point, shrink=float(v)) for v in _SHRINKS])
    return [
        curve("gate", gates, np.stack([gated(at_point, gate) for gate in gates])),
        curve("threshold", _THRESHOLDS, gated(np.stack(by_threshold), point.gate)),
        curve("min_area", _MIN_AREAS, gated(by_area, point.gate)),
        curve("shrink", _SHRINKS, gated(by_shrink, point.gate)),
    ]


def _behind_gate(
    predictions: DatasetPredictions, parts: NDArray[np.float64], gate: float
) -> NDArray[np.float64]:
    """`(..., images)` metric of each image with a gate: where it closes, truth is missed, and an
    image without truth does not count."""
    truth = np.array([len(image.boxes) > 0 for image in predictions.dataset.images])
    return np.where(predictions.scores >= gate, parts, np.where(truth, 0.0, np.nan))
