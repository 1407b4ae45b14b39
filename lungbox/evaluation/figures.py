"""Figures of a detector on a set of images, each with its 95 % interval over patients."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Boxes
from lungbox.constants import RSNA_CLASS_MIX
from lungbox.metrics.bootstrap import Draws, Estimate
from lungbox.metrics.detection import rsna_image_scores
from lungbox.metrics.matching import BoxTable, reached

RECALL_IOU = 0.4


def with_interval(value: float, low: float, high: float) -> str:
    """A figure and its 95 % interval as they are printed; a dash where it is not defined."""
    return "–" if math.isnan(value) else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _draws(patients: NDArray[np.str_]) -> Draws:
    """The resamples of these patients: always the very same, so that figures can be compared."""
    return _draws_of(tuple(patients.tolist()))


@lru_cache(maxsize=64)
def _draws_of(patients: tuple[str, ...]) -> Draws:
    return Draws.over(patients)


@dataclass(frozen=True)
class Figure:
    """A figure, its 95 % interval, and the images behind it.

    Attributes:
        estimate: what it comes from, so that it can be compared; None where it is not defined.
    """

    name: str
    value: float
    low: float
    high: float
    images: int
    estimate: Estimate | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, name: str, estimate: Estimate, images: int) -> "Figure":
        """From an estimate."""
        return cls(name, estimate.value, *estimate.interval, images, estimate)

    @classmethod
    def undefined(cls, name: str, images: int) -> "Figure":
        """A figure that these images cannot have."""
        return cls(name, math.nan, math.nan, math.nan, images)

    def __str__(self) -> str:
        return with_interval(self.value, self.low, self.high)

    def __sub__(self, other: "Figure") -> "Figure":
        """The paired difference from another detector's figure of the same images.

        Raises:
            ValueError: they are of other patients.
        """
        if self.estimate is None or other.estimate is None:
            return Figure.undefined(self.name, self.images)
        return Figure.of(self.name, self.estimate - other.estimate, self.images)

    @property
    def interval(self) -> str:
        """Its interval alone, as it is printed."""
        return "–" if math.isnan(self.low) else f"{self.low:.3f} to {self.high:.3f}"

    @property
    def rounded(self) -> str:
        """The figure alone, as it is printed."""
        return "–" if math.isnan(self.value) else f"{self.value:.3f}"


@dataclass(frozen=True)
class Outcomes:
    """What boxes are worth, image by image.

    Attributes:
        patients: `(N,)` names; intervals are over these.
        parts: `(N,)` each image's part in the RSNA metric, NaN where it does not count.
        boxes: `(N,)` how many boxes it was given.
        truths: `(N,)` how many it has.
        recalled: `(N,)` how many of these a box of it meets with IoU >= 0.4.
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
        """Judge all images.

        Args:
            patients: N names.
            truth: N times `(n, 4)` `x1, y1, x2, y2`.
            predicted: N times `(m, 4)`, same space.
            scores: N times `(m,)` confidences.
        """
        true, found = BoxTable.of(truth), BoxTable.of(predicted, scores)
        met = true.images[reached(true, found, RECALL_IOU)]
        return cls(
            patients=np.array(patients),
            parts=rsna_image_scores(truth, predicted, scores),
            boxes=np.array([len(boxes) for boxes in predicted]),
            truths=np.array([len(boxes) for boxes in truth]),
            recalled=np.bincount(met, minlength=len(truth)),
        )

    def rsna_metric(self, name: str, chosen: NDArray[np.bool_] | None = None) -> Figure:
        """The RSNA metric of the `chosen` images; of all by default.

        NaN where none of the images has truth.
        """
        rows = np.ones(len(self.parts), bool) if chosen is None else chosen
        if not self.truths[rows].any():
            # It could only be 0 or undefined, which would say nothing.
            return Figure.undefined(name, int(rows.sum()))
        return self._ratio(name, np.nan_to_num(self.parts), ~np.isnan(self.parts), rows)

    def rsna_metric_at_mix(
        self, name: str, categories: NDArray[np.str_], mix: Mapping[str, float] = RSNA_CLASS_MIX
    ) -> Figure:
        """The RSNA metric with every class weighted to its share of `mix`, in each resample anew.

        NaN where a class of the mix has no image, since no weights make the mix then, or where none
        has truth.
        """
        if not set(mix) <= set(categories.tolist()) or not self.truths.any():
            return Figure.undefined(name, len(self.parts))
        parts, counted = np.nan_to_num(self.parts), ~np.isnan(self.parts)
        estimate = _draws(self.patients).mix_ratio(parts, counted, categories, mix)
        return Figure.of(name, estimate, len(parts))

    def recalls(self) -> list[Figure]:
        """Share of the images with truth that have a box, and of the truths that a box meets."""
        positive = self.truths > 0
        any_box = (self.boxes > 0).astype(float)
        return [
            self._ratio("recall of images (any box on a positive)", any_box, positive, positive),
            self.recall_of_boxes("recall of boxes (IoU >= 0.4)", positive),
        ]

    def recall_of_boxes(self, name: str, chosen: NDArray[np.bool_]) -> Figure:
        """Share of the truths of the `chosen` images that a box meets."""
        return self._ratio(name, self.recalled, self.truths, chosen & (self.truths > 0))

    def false_positives(self, name: str, chosen: NDArray[np.bool_]) -> Figure:
        """Share of the `chosen` images without truth that have a box."""
        any_box = (self.boxes > 0).astype(float)
        return self._ratio(name, any_box, np.ones(len(any_box)), chosen & (self.truths == 0))

    def weighted(
        self,
        name: str,
        chosen: NDArray[np.bool_],
        compute: Callable[[NDArray[np.float64]], NDArray],
    ) -> Figure:
        """Any other figure of the `chosen` images; `compute` as in `Draws.estimate`."""
        return Figure.of(name, _draws(self.patients[chosen]).estimate(compute), int(chosen.sum()))

    def _ratio(
        self,
        name: str,
        numerator: NDArray,
        denominator: NDArray,
        chosen: NDArray[np.bool_] | None = None,
    ) -> Figure:
        rows = np.ones(len(self.parts), bool) if chosen is None else chosen
        draws = _draws(self.patients[rows])
        estimate = draws.ratio(numerator[rows], denominator[rows])
        return Figure.of(name, estimate, int(rows.sum()))
