"""Detailed results: metrics by class, view, sex, age, contrast and box size, and example images."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import geometry
from lungbox.datasets.types import LabelledRadiograph
from lungbox.evaluation.estimates import RECALL_IOU, MetricEstimate, draws_of
from lungbox.evaluation.scores import ScoredPredictions, image_auc, view_auc
from lungbox.metrics.matching import BoxTable, matched_truths

# Years, the first in the band and the first after it. Nobody in these data sets can be older than
# 120: public tables have ages such as 412, which are mistakes.
_AGES = ((0, 18), (18, 40), (40, 60), (60, 75), (75, 121))
UNKNOWN = "unknown"
# Shares of the image; RSNA's median box covers 0.062.
_SIZES = ((0, 0.03), (0.03, 0.06), (0.06, 0.10), (0.10, 1.01))


@dataclass(frozen=True)
class Group:
    """Metrics of a detector on images that have something in common.

    Attributes:
        by: the attribute they are grouped by.
        name: its value.
        images, positives: number of images, and of those with truth.
        metric: the RSNA metric, raw; NaN where no image has truth.
        recall: of boxes, IoU >= 0.4.
        false_positives: share of the images without truth that have a box.
        auc: of the image score, within the group.
        view_auc: of a score that only knows the view, on the same images.
    """

    by: str
    name: str
    images: int
    positives: int
    metric: MetricEstimate
    recall: MetricEstimate
    false_positives: MetricEstimate
    auc: MetricEstimate
    view_auc: MetricEstimate

    def under(self, heading: str) -> "Group":
        """A copy whose attribute is named after a data set."""
        return replace(self, by=f"{heading}, {self.by}")


def groups(scored: ScoredPredictions) -> list[Group]:
    """Every group of a data set that has an image.

    Each image is in exactly one group by each attribute: in `unknown` where the value is missing or
    impossible, such as an age over 120. Attributes with one value for all images are left out.
    """
    found = []
    for by, name_of in _KINDS.items():
        names = np.array([name_of(image) for image in scored.dataset.images])
        there = sorted(set(names.tolist()), key=_in_order)
        if len(there) > 1:
            found += [_group(scored, by, name, names == name) for name in there]
    return found


def all_images(scored: ScoredPredictions, by: str, name: str) -> Group:
    """All images as one group."""
    return _group(scored, by, name, np.ones(len(scored.dataset), bool))


def recall_by_size(scored: ScoredPredictions) -> list[MetricEstimate]:
    """Recall of the true boxes (IoU >= 0.4) by size, the box's share of the image.

    `images` counts those with such a box.
    """
    images = scored.dataset.images
    truth = BoxTable.of([image.boxes for image in images])
    predicted = BoxTable.of(*zip(*scored.found, strict=True))
    matched = matched_truths(truth, predicted, RECALL_IOU)
    area = np.array([image.size[0] * image.size[1] for image in images])[truth.images]
    share = geometry.area(truth.boxes) / area
    draws = draws_of(scored.outcomes.patients)
    figures = []
    for low, high in _SIZES:
        of_size = (low <= share) & (share < high)
        there, hit = (
            np.bincount(truth.images[rows], minlength=len(images))
            for rows in (of_size, of_size & matched)
        )
        name = f"{100 * low:g} to {100 * high:g} %" if high <= 1 else f"{100 * low:g} % and more"
        figures.append(MetricEstimate.of(name, draws.ratio(hit, there), int((there > 0).sum())))
    return figures


def _group(scored: ScoredPredictions, by: str, name: str, chosen: NDArray[np.bool_]) -> Group:
    outcomes = scored.outcomes
    images, positives = int(chosen.sum()), int((outcomes.truths > 0)[chosen].sum())
    return Group(
        by=by,
        name=name,
        images=images,
        positives=positives,
        metric=outcomes.rsna_metric(name, chosen=chosen),
        recall=outcomes.recall_of_boxes(name, chosen),
        false_positives=outcomes.false_positives(name, chosen),
        auc=image_auc(scored, name, chosen),
        view_auc=view_auc(scored, name, chosen),
    )


def _age_band(image: LabelledRadiograph) -> str:
    band = next((band for band in _AGES if band[0] <= image.age < band[1]), None)
    if band is None:
        return UNKNOWN
    low, high = band
    return f"{low} to {high - 1}" if high < _AGES[-1][1] else f"{low} and more"


def _in_order(name: str) -> tuple[bool, int, str]:
    """Bands by their first number, all else by the alphabet, `unknown` last."""
    first = name.split(" ")[0]
    return name == UNKNOWN, int(first) if first.isdigit() else 0, name


_KINDS: dict[str, Callable[[LabelledRadiograph], str]] = {
    "class": lambda image: image.category or UNKNOWN,
    "view": lambda image: image.view or UNKNOWN,
    "sex": lambda image: {"F": "female", "M": "male"}.get(image.sex, UNKNOWN),
    "age": _age_band,
    "contrast": lambda image: "equalised before" if image.equalised else "natural",
    "boxes": lambda image: {0: "none", 1: "one"}.get(len(image.boxes), "two and more"),
}


@dataclass(frozen=True)
class Cases:
    """Rows of example images of a data set, where a detector does best and where it fails.

    Attributes:
        best: with truth, the highest RSNA metric first.
        worst: with truth and boxes, the lowest RSNA metric first.
        false_positives: without truth but with a box, by the image score.
        missed: with truth but without a box, by the image score from the lowest on.
    """

    best: NDArray[np.int64]
    worst: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    missed: NDArray[np.int64]


def example_cases(scored: ScoredPredictions, each: int) -> Cases:
    """At most `each` images of every kind; ties in order of their image score."""
    outcomes, scores = scored.outcomes, scored.image_scores
    positive, boxed = outcomes.truths > 0, outcomes.boxes > 0
    parts = np.nan_to_num(outcomes.parts)

    def first(chosen: NDArray[np.bool_], *keys: NDArray[np.float64]) -> NDArray[np.int64]:
        rows = np.flatnonzero(chosen)
        # The last key decides first.
        return rows[np.lexsort([key[rows] for key in reversed(keys)])][:each]

    return Cases(
        best=first(positive & (parts > 0), -parts, -scores),
        worst=first(positive & boxed, parts, -scores),
        false_positives=first(~positive & boxed, -scores),
        missed=first(positive & ~boxed, scores),
    )
