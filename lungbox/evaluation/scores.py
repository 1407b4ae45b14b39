"""Figures of an ensemble on a labelled data set, with 95 % intervals by bootstrap over patients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Boxes, OperatingPoint
from lungbox.constants import RSNA_CLASSES
from lungbox.datasets.types import Dataset
from lungbox.evaluation.figures import Figure, Outcomes
from lungbox.evaluation.maps import Maps
from lungbox.metrics.classification import weighted_auc

_NORMAL, _NOT_NORMAL, _ = RSNA_CLASSES

# Names of figures that others look up.
RAW, AT_MIX = "RSNA metric, raw", "RSNA metric, challenge's mix"
AGAINST_NORMAL, AGAINST_NOT_NORMAL = "image AUC against normal", "image AUC against not normal"
VIEW_ALONE = "AUC of the view alone (AP = 1)"


@dataclass(frozen=True)
class Judged:
    """What an operating point makes of each image of a data set.

    Attributes:
        dataset: the images.
        image_scores: `(N,)` probabilities that there is any opacity.
        found: boxes and confidences of each image, in pixels of its file.
        outcomes: what these boxes are worth.
    """

    dataset: Dataset
    image_scores: NDArray[np.float64]
    found: tuple[tuple[Boxes, NDArray[np.float32]], ...]
    outcomes: Outcomes


def judge(maps: Maps, points: Sequence[OperatingPoint]) -> Judged:
    """Apply to each image of `maps` a point of its own."""
    images = maps.dataset.images
    found = tuple(maps.boxes(row, points[row]) for row in range(len(images)))
    outcomes = Outcomes.of(
        patients=[image.patient for image in images],
        truth=[image.boxes for image in images],
        predicted=[boxes for boxes, _ in found],
        scores=[scores for _, scores in found],
    )
    return Judged(maps.dataset, maps.scores.astype(np.float64), found, outcomes)


def rsna_figures(judged: Judged) -> list[Figure]:
    """RSNA's figures: the metric raw and at the challenge's mix, recall, false positives, AUC.

    The sickest are imaged lying down, so beside each AUC stands what a score that only knew the
    view would have.
    """
    outcomes = judged.outcomes
    category = np.array([image.category for image in judged.dataset.images])
    view = np.array([image.view for image in judged.dataset.images])
    normal, not_normal = category == _NORMAL, category == _NOT_NORMAL
    return [
        outcomes.rsna_metric(RAW),
        outcomes.rsna_metric_at_mix(AT_MIX, category),
        *outcomes.recalls(),
        outcomes.false_positives("false-positive rate, normal", normal),
        outcomes.false_positives("false-positive rate, not normal", not_normal),
        image_auc(judged, AGAINST_NORMAL, ~not_normal),
        view_auc(judged, f"{VIEW_ALONE} against normal", ~not_normal),
        image_auc(judged, AGAINST_NOT_NORMAL, ~normal),
        view_auc(judged, f"{VIEW_ALONE} against not normal", ~normal),
        image_auc(judged, "image AUC against both", normal | ~normal),
        view_auc(judged, f"{VIEW_ALONE} against both", normal | ~normal),
        image_auc(judged, "image AUC against both, within AP", view == "AP"),
        image_auc(judged, "image AUC against both, within PA", view == "PA"),
    ]


def siim_figures(judged: Judged) -> list[Figure]:
    """SIIM-COVID's figures; images of positive studies without a box are left out before."""
    negative = judged.outcomes.truths == 0
    return [
        judged.outcomes.rsna_metric(RAW),
        *judged.outcomes.recalls(),
        judged.outcomes.false_positives("false-positive rate, negative", negative),
        image_auc(judged, "image AUC against negative", np.ones(len(negative), bool)),
    ]


def image_auc(
    judged: Judged, name: str, chosen: NDArray[np.bool_], scores: NDArray | None = None
) -> Figure:
    """How well the `chosen` images' scores, or others, tell those with truth from the rest."""
    values = (judged.image_scores if scores is None else scores)[chosen]
    positive = (judged.outcomes.truths > 0)[chosen]
    return judged.outcomes.weighted(
        name, chosen, lambda weights: weighted_auc(positive, values, weights)
    )


def view_auc(judged: Judged, name: str, chosen: NDArray[np.bool_]) -> Figure:
    """`image_auc` of a score that is 1 for AP, on the `chosen` images whose view is known."""
    view = np.array([image.view for image in judged.dataset.images])
    return image_auc(judged, name, chosen & (view != ""), view == "AP")
