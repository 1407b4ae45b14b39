"""The operating points that an ensemble has by name: `rsna`, `balanced` and `sensitive`.

An image is positive at an operating point where it gets a box. Sensitivity and specificity are of
images, and the specificity is at the challenge's mix of the classes without an opacity.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Decision, OperatingPoint, find_candidates, select
from lungbox.datasets import info_of
from lungbox.evaluation.estimates import RECALL_IOU
from lungbox.evaluation.operating_point import (
    PARTS,
    CrossFit,
    has_mix,
    mix_weights,
    patient_parts,
    resampled_weights,
)
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.metrics.matching import BoxTable, match_predictions
from lungbox.weights.points import NamedPoint, PointFigures

RSNA, BALANCED, SENSITIVE = "rsna", "balanced", "sensitive"
# The sensitivity that `sensitive` has at least, where any point has it.
MIN_SENSITIVITY = 0.95
# What `sensitive` is searched over, beside the gate: lower thresholds find more images' boxes.
_THRESHOLDS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6)
_MIN_AREAS = (0.0025, 0.005, 0.0075, 0.01)
_DIGITS = 4


def named_points(
    predictions: DatasetPredictions, rsna: CrossFit, fold: int, seed: int = 2024
) -> dict[str, NamedPoint]:
    """Choose the operating points by name, and estimate how often their boxes are right.

    - `rsna`: the best RSNA metric at the challenge's mix, as it is given.
    - `balanced`: as `rsna`, but for the gate, which has the largest Youden index (sensitivity +
      specificity - 1): the median of the best gates of 100 resamples of the patients. Of gates that
      are alike, the highest.
    - `sensitive`: of the points with a sensitivity of at least 0.95, the one of largest
      specificity; where no point has it, of those with the largest sensitivity there is. Gate,
      threshold and least area are searched.

    Each is chosen on all images. Its figures are cross-fitted: those of each part of the patients
    at the point that is chosen on the others.

    Args:
        predictions: of the challenge's images of the fold.
        rsna: the point for the RSNA metric.
        fold: its number, for the record.
        seed: decides which patients are held out together, as in `cross_fit`.
    """
    search = _Search(predictions)
    parts = patient_parts(predictions.dataset, PARTS, seed)
    everything = np.ones(len(parts), bool)
    first_of = [int(np.flatnonzero(parts == part)[0]) for part in np.unique(parts)]

    def fitted(choose: "_Choice") -> CrossFit:
        of_part = {
            int(parts[row]): choose(rsna.points[row], parts != parts[row]) for row in first_of
        }
        return CrossFit(choose(rsna.point, everything), tuple(of_part[int(part)] for part in parts))

    found = {RSNA: rsna, BALANCED: fitted(search.balanced), SENSITIVE: fitted(search.sensitive)}
    return {
        name: NamedPoint(**vars(fit.point), figures=point_figures(predictions, fit.points, fold))
        for name, fit in found.items()
    }


def point_figures(
    predictions: DatasetPredictions, points: Sequence[OperatingPoint], fold: int
) -> PointFigures:
    """Sensitivity, specificity and false positives of boxes, each image at a point of its own."""
    dataset, weights = predictions.dataset, mix_weights(predictions.dataset)
    found = [predictions.boxes(row, point) for row, point in enumerate(points)]
    truth = np.array([len(image.boxes) > 0 for image in dataset.images])
    boxed = np.array([len(decision.boxes) > 0 for decision in found])
    title = info_of(dataset.images[0].source).title
    mixed = " at the challenge's mix of classes" if has_mix(dataset) else ""
    wrong = false_positives([image.boxes for image in dataset.images], found)
    return PointFigures(
        sensitivity=_rounded(_share(boxed, weights * truth)),
        specificity=_rounded(_share(~boxed, weights * ~truth)),
        false_positives=_rounded(float(weights @ wrong / weights.sum())),
        images=len(dataset),
        on=f"{title} images of fold {fold}{mixed}, cross-fitted",
    )


def false_positives(
    truth: Sequence[NDArray[np.float32]], found: Sequence[Decision]
) -> NDArray[np.int64]:
    """`(N,)` boxes of each image that are matched with no true box, IoU >= 0.4; a second box on a
    true box is one, too."""
    table = BoxTable.of([one.boxes for one in found], [one.scores for one in found])
    hits = match_predictions(BoxTable.of(truth), table, [RECALL_IOU])[0]
    return np.bincount(table.images[~hits], minlength=len(truth))


# From the point for the RSNA metric and the images that may be looked at, to another point.
_Choice = Callable[[OperatingPoint, NDArray[np.bool_]], OperatingPoint]


class _Search:
    """Chooses points by sensitivity and specificity.

    Attributes:
        gates: `(G,)` every gate that differs on these images.
        open: `(G, N)` whether each lets an image through.
    """

    def __init__(self, predictions: DatasetPredictions) -> None:
        self._predictions, self._dataset = predictions, predictions.dataset
        self._truth = np.array([len(image.boxes) > 0 for image in self._dataset.images])
        # Rounded down, so that the image whose score it is passes.
        scores = np.floor(predictions.scores.astype(np.float64) * 10**_DIGITS) / 10**_DIGITS
        self.gates = np.unique(np.concatenate([[0.0], scores]))
        self.open = predictions.scores >= self.gates[:, None]
        self._boxed = lru_cache(maxsize=None)(self._boxed_without_gate)

    def balanced(self, rsna: OperatingPoint, chosen: NDArray[np.bool_]) -> OperatingPoint:
        """`rsna` with the gate of largest Youden index, see `named_points`."""
        boxed = self.open & self._boxed(replace(rsna, gate=0.0))
        best = []
        for weights in resampled_weights(self._dataset, chosen):
            sensitivity, specificity = self._rates(boxed, weights)
            index = np.round(sensitivity + specificity, 9)
            best.append(int(np.flatnonzero(index == index.max())[-1]))
        gate = int(np.percentile(best, 50, method="nearest"))
        return replace(rsna, gate=float(self.gates[gate]))

    def sensitive(self, rsna: OperatingPoint, chosen: NDArray[np.bool_]) -> OperatingPoint:
        """The point of largest specificity that is sensitive enough, see `named_points`."""
        points = self._sensitive_points(rsna)
        weights = mix_weights(self._dataset, chosen.astype(np.float64))
        # Point by point: all at once would take gigabytes on the complete challenge.
        rates = [self._rates(self.open & self._boxed(point), weights) for point in points]
        sensitivity, specificity = (np.stack(values) for values in zip(*rates, strict=True))
        enough = sensitivity >= min(MIN_SENSITIVITY, sensitivity.max()) - 1e-9
        best = np.unravel_index(np.where(enough, specificity, -1).argmax(), enough.shape)
        return replace(points[int(best[0])], gate=float(self.gates[best[1]]))

    def _sensitive_points(self, rsna: OperatingPoint) -> list[OperatingPoint]:
        """Without a gate; those nearest to `rsna` first, which decide where several are alike."""
        thresholds = sorted(_THRESHOLDS, key=lambda value: abs(value - rsna.threshold))
        areas = sorted(_MIN_AREAS, key=lambda value: abs(value - rsna.min_area))
        return [
            replace(rsna, rule="threshold", threshold=threshold, min_area=area, gate=0.0)
            for threshold in thresholds
            for area in areas
        ]

    def _rates(
        self, boxed: NDArray[np.bool_], weights: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Sensitivity and specificity over the last axis, the images."""
        return _share(boxed, weights * self._truth), _share(~boxed, weights * ~self._truth)

    def _boxed_without_gate(self, point: OperatingPoint) -> NDArray[np.bool_]:
        """`(N,)` whether each image gets a box at a point without a gate."""
        boxed = []
        for row, image in enumerate(self._dataset.images):
            regions = find_candidates(self._predictions.prediction(row), point)
            boxed.append(len(select(regions, image.size, point).boxes) > 0)
        return np.array(boxed)


def _share(chosen: NDArray[np.bool_], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the weights that the chosen images have, over the last axis; 0 without any."""
    total = weights.sum()
    return chosen @ weights / total if total > 0 else np.zeros(chosen.shape[:-1])


def _rounded(value: float | NDArray[np.float64]) -> float:
    return round(float(value), _DIGITS)
