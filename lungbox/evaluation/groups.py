"""Figures of parts of a data set: by class, view, sex, age, contrast, and size of the box."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import geometry
from lungbox.datasets.types import LabelledRadiograph
from lungbox.evaluation.figures import RECALL_IOU, Figure
from lungbox.evaluation.scores import Judged, image_auc, view_auc
from lungbox.metrics.bootstrap import Draws
from lungbox.metrics.matching import BoxTable, reached

# Years, the first in the band and the first after it. Nobody in these data sets can be older than
# 120: public tables have ages such as 412, which are mistakes.
_AGES = ((0, 18), (18, 40), (40, 60), (60, 75), (75, 121))
UNKNOWN = "unknown"
# Shares of the image; RSNA's median box covers 0.062.
_SIZES = ((0, 0.03), (0.03, 0.06), (0.06, 0.10), (0.10, 1.01))


@dataclass(frozen=True)
class Group:
    """Images that have something in common, and how a detector does on them.

    Attributes:
        by: what they are grouped by.
        name: what they have in common.
        images, positives: how many there are, and how many have truth.
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
    metric: Figure
    recall: Figure
    false_positives: Figure
    auc: Figure
    view_auc: Figure

    def under(self, heading: str) -> "Group":
        """The same, its kind of grouping named after a data set."""
        return replace(self, by=f"{heading}, {self.by}")


def groups(judged: Judged) -> list[Group]:
    """Every group of a data set that has an image.

    Each image is in exactly one group of each kind: in `unknown` where the value is not given or
    cannot be true, as an age over 120. A kind of grouping that leaves all images together is left
    out.
    """
    found = []
    for by, name_of in _KINDS.items():
        names = np.array([name_of(image) for image in judged.dataset.images])
        there = sorted(set(names.tolist()), key=_in_order)
        if len(there) > 1:
            found += [_group(judged, by, name, names == name) for name in there]
    return found


def whole(judged: Judged, by: str, name: str) -> Group:
    """All images as one group."""
    return _group(judged, by, name, np.ones(len(judged.dataset), bool))


def recall_by_size(judged: Judged) -> list[Figure]:
    """Share of the true boxes of a size that any box meets with IoU >= 0.4, size by size.

    A size is the box's share of the image; `images` counts those with such a box.
    """
    images = judged.dataset.images
    truth = BoxTable.of([image.boxes for image in images])
    predicted = BoxTable.of(*zip(*judged.found, strict=True))
    met = reached(truth, predicted, RECALL_IOU)
    area = np.array([image.size[0] * image.size[1] for image in images])[truth.images]
    share = geometry.area(truth.boxes) / area
    draws = Draws.over(judged.outcomes.patients)
    figures = []
    for low, high in _SIZES:
        of_size = (low <= share) & (share < high)
        there, hit = (
            np.bincount(truth.images[rows], minlength=len(images))
            for rows in (of_size, of_size & met)
        )
        name = f"{100 * low:g} to {100 * high:g} %" if high <= 1 else f"{100 * low:g} % and more"
        figures.append(Figure.of(name, draws.ratio(hit, there), int((there > 0).sum())))
    return figures


def _group(judged: Judged, by: str, name: str, chosen: NDArray[np.bool_]) -> Group:
    outcomes = judged.outcomes
    images, positives = int(chosen.sum()), int((outcomes.truths > 0)[chosen].sum())
    return Group(
        by=by,
        name=name,
        images=images,
        positives=positives,
        metric=outcomes.rsna_metric(name, chosen=chosen),
        recall=outcomes.recall_of_boxes(name, chosen),
        false_positives=outcomes.false_positives(name, chosen),
        auc=image_auc(judged, name, chosen),
        view_auc=view_auc(judged, name, chosen),
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
