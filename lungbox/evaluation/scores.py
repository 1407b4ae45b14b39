"""Metrics of an ensemble on a labelled data set, with 95 % intervals by bootstrap over patients."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Decision, OperatingPoint
from lungbox.datasets import Dataset, info_of, mix_of
from lungbox.evaluation.estimates import MetricEstimate, Outcomes
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.metrics.classification import weighted_auc

# Names of metrics that other modules look up.
RAW, AT_MIX = "RSNA metric, raw", "RSNA metric, challenge's mix"
AGAINST_NORMAL, AGAINST_NOT_NORMAL = "image AUC against normal", "image AUC against not normal"
VIEW_ALONE = "AUC of the view alone (AP = 1)"


@dataclass(frozen=True)
class ScoredPredictions:
    """The boxes of a data set at an operating point, and their scores.

    Attributes:
        dataset: the images.
        image_scores: `(N,)` probabilities that there is any opacity.
        found: boxes and confidences of each image, in pixels of its file.
        outcomes: these boxes against the truth.
    """

    dataset: Dataset
    image_scores: NDArray[np.float64]
    found: tuple[Decision, ...]
    outcomes: Outcomes


def score_predictions(
    predictions: DatasetPredictions, points: Sequence[OperatingPoint]
) -> ScoredPredictions:
    """Boxes and scores of predictions, each image at an operating point of its own."""
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


def dataset_estimates(scored: ScoredPredictions) -> list[MetricEstimate]:
    """The metrics of a data set: RSNA metric, recall, false positives and AUC.

    Where its challenge has a mix of classes, the metric at that mix is among them; where it has
    several categories without finding, false positives and AUC are against each of them.
    """
    info = info_of(next((image.source for image in scored.dataset.images), ""))
    outcomes = scored.outcomes
    category = np.array([image.category for image in scored.dataset.images])
    figures = [outcomes.rsna_metric(RAW)]
    if info.mix:
        figures.append(metric_at_mix(scored, AT_MIX))
    figures += outcomes.recalls()
    if len(info.negatives) > 1:
        return figures + _by_negatives(scored, category, info.negatives)
    without = outcomes.truths == 0
    return [
        *figures,
        outcomes.false_positives("false-positive rate, negative", without),
        image_auc(scored, "image AUC against negative", np.ones(len(without), bool)),
    ]


def metric_at_mix(scored: ScoredPredictions, name: str) -> MetricEstimate:
    """The RSNA metric at the mix of classes of the challenge that the images are of."""
    categories = np.array([image.category for image in scored.dataset.images])
    return scored.outcomes.rsna_metric_at_mix(name, categories, mix_of(scored.dataset))


def _by_negatives(
    scored: ScoredPredictions, category: NDArray[np.str_], negatives: Mapping[str, str]
) -> list[MetricEstimate]:
    """False positives and AUC against each category without finding, and against all of them.

    The sickest are imaged lying down, so each AUC is followed by that of a score which only knows
    the view.
    """
    figures = [
        scored.outcomes.false_positives(f"false-positive rate, {name}", category == of_class)
        for name, of_class in negatives.items()
    ]
    for name, of_class in negatives.items():
        others = [other for other in negatives.values() if other != of_class]
        chosen = ~np.isin(category, others)
        figures += [
            image_auc(scored, f"image AUC against {name}", chosen),
            view_auc(scored, f"{VIEW_ALONE} against {name}", chosen),
        ]
    every = np.ones(len(category), bool)
    together = "both" if len(negatives) == 2 else "all"
    view = np.array([image.view for image in scored.dataset.images])
    return [
        *figures,
        image_auc(scored, f"image AUC against {together}", every),
        view_auc(scored, f"{VIEW_ALONE} against {together}", every),
        *(
            image_auc(scored, f"image AUC against {together}, within {one}", view == one)
            for one in ("AP", "PA")
        ),
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
