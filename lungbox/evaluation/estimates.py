"""Metrics of a detector on a set of images, each with its 95 % interval over patients."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Boxes
from lungbox.metrics.bootstrap import Draws, Estimate
from lungbox.metrics.detection import rsna_image_scores
from lungbox.metrics.matching import BoxTable, matched_truths

RECALL_IOU = 0.4


def draws_of(patients: NDArray[np.str_]) -> Draws:
    """The resamples of these patients: always the same ones, so that differences are paired."""
    return _cached_draws(tuple(patients.tolist()))


@lru_cache(maxsize=64)
def _cached_draws(patients: tuple[str, ...]) -> Draws:
    return Draws.over(patients)


@dataclass(frozen=True)
class MetricEstimate:
    """A metric with its 95 % interval and its number of images.

    Attributes:
        estimate: its bootstrap samples, for paired differences; None where it is not defined.
    """

    name: str
    value: float
    low: float
    high: float
    images: int
    estimate: Estimate | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, name: str, estimate: Estimate, images: int) -> "MetricEstimate":
        """From an estimate."""
        return cls(name, estimate.value, *estimate.interval, images, estimate)

    @classmethod
    def undefined(cls, name: str, images: int) -> "MetricEstimate":
        """A metric that is not defined on these images."""
        return cls(name, math.nan, math.nan, math.nan, images)

    def __str__(self) -> str:
        return "–" if math.isnan(self.value) else f"{self.rounded} ({self.interval})"

    def __sub__(self, other: "MetricEstimate") -> "MetricEstimate":
        """The paired difference from another detector's metric on the same images.

        Raises:
            ValueError: they are of other patients.
        """
        if self.estimate is None or other.estimate is None:
            return MetricEstimate.undefined(self.name, self.images)
        return MetricEstimate.of(self.name, self.estimate - other.estimate, self.images)

    @property
    def interval(self) -> str:
        """The interval alone, as it is printed."""
        return "–" if math.isnan(self.low) else f"{self.low:.3f} to {self.high:.3f}"

    @property
    def rounded(self) -> str:
        """The value alone, as it is printed."""
        return "–" if math.isnan(self.value) else f"{self.value:.3f}"


@dataclass(frozen=True)
class Outcomes:
    """Predicted boxes against the truth, image by image.

    Attributes:
        patients: `(N,)` names; intervals are over these.
        parts: `(N,)` RSNA metric of each image, NaN where it does not count.
        boxes: `(N,)` number of predicted boxes.
        truths: `(N,)` number of true boxes.
        recalled: `(N,)` number of true boxes that a predicted box meets with IoU >= 0.4.
    """

    patients: NDArray[np.str_]
    parts: NDArray[np.float64]
    boxes: NDArray[np.int64]
    truths: NDArray[np.int64]
    recalled: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        patients: Sequence[str],
        truth: Sequence[Boxes],
        predicted: Sequence[Boxes],
        scores: Sequence[NDArray[np.floating]],
    ) -> "Outcomes":
        """Match predicted boxes with true ones.

        Args:
            patients: N names.
            truth: N times `(n, 4)` `x1, y1, x2, y2`.
            predicted: N times `(m, 4)`, same space.
            scores: N times `(m,)` confidences.
        """
        truth_table, predicted_table = BoxTable.of(truth), BoxTable.of(predicted, scores)
        matched = matched_truths(truth_table, predicted_table, RECALL_IOU)
        return cls(
            patients=np.array(patients),
            parts=rsna_image_scores(truth, predicted, scores),
            boxes=np.array([len(boxes) for boxes in predicted]),
            truths=np.array([len(boxes) for boxes in truth]),
            recalled=np.bincount(truth_table.images[matched], minlength=len(truth)),
        )

    def rsna_metric(self, name: str, chosen: NDArray[np.bool_] | None = None) -> MetricEstimate:
        """The RSNA metric of the `chosen` images; of all by default.

        NaN where none of the images has truth.
        """
        rows = np.ones(len(self.parts), bool) if chosen is None else chosen
        if not self.truths[rows].any():
            # It could only be 0 or undefined.
            return MetricEstimate.undefined(name, int(rows.sum()))
        return self._ratio(name, np.nan_to_num(self.parts), ~np.isnan(self.parts), rows)

    def rsna_metric_at_mix(
        self, name: str, categories: NDArray[np.str_], mix: Mapping[str, float]
    ) -> MetricEstimate:
        """The RSNA metric with every class weighted to its share of `mix`, in each resample anew.

        NaN where a class of the mix has no image, since no weights make the mix then, or where none
        has truth.
        """
        if not set(mix) <= set(categories.tolist()) or not self.truths.any():
            return MetricEstimate.undefined(name, len(self.parts))
        parts, counted = np.nan_to_num(self.parts), ~np.isnan(self.parts)
        estimate = draws_of(self.patients).mix_ratio(parts, counted, categories, mix)
        return MetricEstimate.of(name, estimate, len(parts))

    def recalls(self) -> list[MetricEstimate]:
        """Share of the images with truth that have a box, and of the truths that a box meets."""
        positive = self.truths > 0
        any_box = (self.boxes > 0).astype(float)
        return [
            self._ratio("recall of images (any box on a positive)", any_box, positive, positive),
            self.recall_of_boxes("recall of boxes (IoU >= 0.4)", positive),
        ]

    def recall_of_boxes(self, name: str, chosen: NDArray[np.bool_]) -> MetricEstimate:
        """Share of the truths of the `chosen` images that a box meets."""
        return self._ratio(name, self.recalled, self.truths, chosen & (self.truths > 0))

    def false_positives(self, name: str, chosen: NDArray[np.bool_]) -> MetricEstimate:
        """Share of the `chosen` images without truth that have a box."""
        any_box = (self.boxes > 0).astype(float)
        return self._ratio(name, any_box, np.ones(len(any_box)), chosen & (self.truths == 0))

    def weighted(
        self,
        name: str,
        chosen: NDArray[np.bool_],
        compute: Callable[[NDArray[np.float64]], NDArray],
    ) -> MetricEstimate:
        """Any other metric of the `chosen` images; `compute` as in `Draws.estimate`."""
        return MetricEstimate.of(
            name, draws_of(self.patients[chosen]).estimate(compute), int(chosen.sum())
        )

    def _ratio(
        self, name: str, numerator: NDArray, denominator: NDArray, chosen: NDArray[np.bool_]
    ) -> MetricEstimate:
        draws = draws_of(self.patients[chosen])
        estimate = draws.ratio(numerator[chosen], denominator[chosen])
        return MetricEstimate.of(name, estimate, int(chosen.sum()))
