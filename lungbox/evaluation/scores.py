"""Figures of an ensemble on a labelled data set, with 95 % intervals by bootstrap over patients."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Decision, OperatingPoint
from lungbox.constants import RSNA_CLASSES
from lungbox.datasets.types import Dataset
from lungbox.evaluation.estimates import MetricEstimate, Outcomes
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.metrics.classification import weighted_auc

_NORMAL, _NOT_NORMAL, _ = RSNA_CLASSES

# Names of figures that others look up.
RAW, AT_MIX = "RSNA metric, raw", "RSNA metric, challenge's mix"
AGAINST_NORMAL, AGAINST_NOT_NORMAL = "image AUC against normal", "image AUC against not normal"
VIEW_ALONE = "AUC of the view alone (AP = 1)"


@dataclass(frozen=True)
class ScoredPredictions:
    """What an operating point makes of each image of a data set.

    Attributes:
        dataset: the images.
        image_scores: `(N,)` probabilities that there is any opacity.
        found: boxes and confidences of each image, in pixels of its file.
        outcomes: what these boxes are worth.
    """

    dataset: Dataset
    image_scores: NDArray[np.float64]
    found: tuple[Decision, ...]
    outcomes: Outcomes


def score_predictions(
    predictions: DatasetPredictions, points: Sequence[OperatingPoint]
) -> ScoredPredictions:
    """Apply to each image of `predictions` a point of its own."""
    images = predictions.dataset.images
    found = tuple(predictions.boxes(row, points[row]) for row in range(len(images)))
    outcomes = Outcomes.of(
        patients=[image.patient for image in images],
        truth=[image.boxes for image in images],
        predicted=[decision.boxes for decision in found],
        scores=[decision.scores for decision in found],
    )
    return ScoredPredictions(
        predictions.dataset, predictions.scores.astype(np.float64), found, outcomes
    )


def rsna_estimates(scored: ScoredPredictions) -> list[MetricEstimate]:
    """RSNA's figures: the metric raw and at the challenge's mix, recall, false positives, AUC.

    The sickest are imaged lying down, so beside each AUC stands what a score that only knew the
    view would have.
    """
    outcomes = scored.outcomes
    category = np.array([image.category for image in scored.dataset.images])
    view = np.array([image.view for image in scored.dataset.images])
    normal, not_normal = category == _NORMAL, category == _NOT_NORMAL
    return [
        outcomes.rsna_metric(RAW),
        outcomes.rsna_metric_at_mix(AT_MIX, category),
        *outcomes.recalls(),
        outcomes.false_positives("false-positive rate, normal", normal),
        outcomes.false_positives("false-positive rate, not normal", not_normal),
        image_auc(scored, AGAINST_NORMAL, ~not_normal),
        view_auc(scored, f"{VIEW_ALONE} against normal", ~not_normal),
        image_auc(scored, AGAINST_NOT_NORMAL, ~normal),
        view_auc(scored, f"{VIEW_ALONE} against not normal", ~normal),
        image_auc(scored, "image AUC against both", normal | ~normal),
        view_auc(scored, f"{VIEW_ALONE} against both", normal | ~normal),
        image_auc(scored, "image AUC against both, within AP", view == "AP"),
        image_auc(scored, "image AUC against both, within PA", view == "PA"),
    ]


def siim_estimates(scored: ScoredPredictions) -> list[MetricEstimate]:
    """SIIM-COVID's figures; images of positive studies without a box are left out before."""
    negative = scored.outcomes.truths == 0
    return [
        scored.outcomes.rsna_metric(RAW),
        *scored.outcomes.recalls(),
        scored.outcomes.false_positives("false-positive rate, negative", negative),
        image_auc(scored, "image AUC against negative", np.ones(len(negative), bool)),
    ]


def image_auc(
    scored: ScoredPredictions, name: str, chosen: NDArray[np.bool_], scores: NDArray | None = None
) -> MetricEstimate:
    """How well the `chosen` images' scores, or others, tell those with truth from the rest."""
    values = (scored.image_scores if scores is None else scores)[chosen]
    positive = (scored.outcomes.truths > 0)[chosen]
    return scored.outcomes.weighted(
        name, chosen, lambda weights: weighted_auc(positive, values, weights)
    )


def view_auc(scored: ScoredPredictions, name: str, chosen: NDArray[np.bool_]) -> MetricEstimate:
    """`image_auc` of a score that is 1 for AP, on the `chosen` images whose view is known."""
    view = np.array([image.view for image in scored.dataset.images])
    return image_auc(scored, name, chosen & (view != ""), view == "AP")
