"""Figures of an ensemble on a labelled data set, with 95 % intervals by bootstrap over patients."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import OperatingPoint
from lungbox.constants import RSNA_CLASS_MIX, RSNA_CLASSES
from lungbox.datasets.types import Dataset
from lungbox.evaluation.figures import Figure, Outcomes
from lungbox.evaluation.maps import Maps
from lungbox.metrics.bootstrap import mix_weights
from lungbox.metrics.classification import weighted_auc

_NORMAL, _NOT_NORMAL, _ = RSNA_CLASSES


@dataclass(frozen=True)
class Judged:
    """What an operating point makes of each image of a data set.

    Attributes:
        dataset: the images.
        image_scores: `(N,)` probabilities that there is any opacity.
        outcomes: what its boxes are worth.
    """

    dataset: Dataset
    image_scores: NDArray[np.float64]
    outcomes: Outcomes


def judge(maps: Maps, points: tuple[OperatingPoint, ...]) -> Judged:
    """Apply to each image of `maps` a point of its own."""
    images = maps.dataset.images
    found = [maps.boxes(row, points[row]) for row in range(len(images))]
    outcomes = Outcomes.of(
        patients=[image.patient for image in images],
        truth=[image.boxes for image in images],
        predicted=[boxes for boxes, _ in found],
        scores=[scores for _, scores in found],
    )
    return Judged(maps.dataset, maps.scores.astype(np.float64), outcomes)


def rsna_figures(judged: Judged) -> list[Figure]:
    """RSNA's figures: the metric raw and at the challenge's mix, recall, false positives, AUC."""
    outcomes = judged.outcomes
    category = np.array([image.category for image in judged.dataset.images])
    view = np.array([image.view for image in judged.dataset.images])
    normal, not_normal = category == _NORMAL, category == _NOT_NORMAL
    mix = mix_weights(category, RSNA_CLASS_MIX)
    return [
        outcomes.rsna_metric("RSNA metric, raw"),
        outcomes.rsna_metric("RSNA metric, challenge's mix", mix),
        *outcomes.recalls(),
        outcomes.false_positives("false-positive rate, normal", normal),
        outcomes.false_positives("false-positive rate, not normal", not_normal),
        _auc(judged, "image AUC against normal", ~not_normal),
        _auc(judged, "image AUC against not normal", ~normal),
        _auc(judged, "image AUC against both, within AP", view == "AP"),
        _auc(judged, "image AUC against both, within PA", view == "PA"),
        _auc(judged, "for comparison: AUC of the view alone (AP = 1)", view != "", view == "AP"),
    ]


def siim_figures(judged: Judged) -> list[Figure]:
    """SIIM-COVID's figures; images of positive studies without a box are left out before."""
    negative = judged.outcomes.truths == 0
    return [
        judged.outcomes.rsna_metric("RSNA metric, raw"),
        *judged.outcomes.recalls(),
        judged.outcomes.false_positives("false-positive rate, negative", negative),
        _auc(judged, "image AUC against negative", np.ones(len(negative), bool)),
    ]


def _auc(
    judged: Judged, name: str, chosen: NDArray[np.bool_], scores: NDArray | None = None
) -> Figure:
    values = (judged.image_scores if scores is None else scores)[chosen]
    positive = (judged.outcomes.truths > 0)[chosen]
    return judged.outcomes.weighted(
        name, chosen, lambda weights: weighted_auc(positive, values, weights)
    )
