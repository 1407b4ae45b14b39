"""Whether image scores are probabilities: reliability and expected calibration error, on patients
that the calibration was not fitted on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungbox.evaluation.estimates import MetricEstimate, draws_of
from lungbox.evaluation.evaluator import DatasetResult, EvaluationResult
from lungbox.evaluation.operating_point import has_mix, mix_weights
from lungbox.metrics.bootstrap import mix_weights as weights_at_mix
from lungbox.metrics.classification import Reliability, reliability, weighted_calibration_error
from lungbox.weights.calibration import Calibration

BINS = 10


@dataclass(frozen=True)
class ScoreReliability:
    """How far the image scores of a data set are from the share of images with an opacity.

    Attributes:
        dataset: title of the data set.
        kind: which scores.
        bins: the reliability diagram.
        error: the expected calibration error, 10 bins of equal width, with its interval.
    """

    dataset: str
    kind: str
    bins: Reliability
    error: MetricEstimate


def score_reliability(result: EvaluationResult) -> list[ScoreReliability]:
    """The reliability of image scores as they are, and calibrated, for every data set that has
    images with and without an opacity.

    The challenge's images are weighted to its mix of classes, the prevalence of the calibration.
    Probabilities of other data sets are converted to the share of their own images with an
    opacity, as `predict --prevalence` does.
    """
    found = [_of(result.challenge, "image score", result.challenge.scored.image_scores)]
    if (calibrated := _of_challenge(result)) is not None:
        found.append(_of(result.challenge, "calibrated", calibrated))
    calibration = _held_out_calibration(result) or result.tuned.calibration
    for part in result.others.values():
        prevalence = float((part.scored.outcomes.truths > 0).mean())
        if not 0 < prevalence < 1:
            continue
        found.append(_of(part, "image score", part.scored.image_scores))
        if calibration and calibration.prevalence:
            converted = calibration.at_prevalence(prevalence)
            name = f"calibrated, at its prevalence {prevalence:.3f}"
            found.append(_of(part, name, converted.probabilities(part.scored.image_scores)))
    return found


def how_calibrated(result: EvaluationResult) -> str:
    """Which calibration the calibrated scores of `score_reliability` come from, in a sentence."""
    if own := _held_out_calibration(result):
        folds = ", ".join(map(str, own.folds))
        return f"By the ensemble's own calibration, which was fitted on fold {folds}."
    if result.tuned.fit is None:
        return "There is no calibration."
    return (
        f"Cross-fitted ({result.tuned.fit.method}): each patient's probability is by a calibration "
        "that was fitted on the fold's other patients. Other data sets: by the one fitted on all "
        f"{result.challenge.info.title} images of the fold."
    )


def _held_out_calibration(result: EvaluationResult) -> Calibration | None:
    """The ensemble's own calibration, where it is known not to be fitted on this fold."""
    own = result.own_calibration
    return own if own and own.folds and result.fold not in own.folds else None


def _of_challenge(result: EvaluationResult) -> NDArray[np.float64] | None:
    """Calibrated probabilities of the challenge's images, none by a calibration that was fitted on
    its own patient."""
    if own := _held_out_calibration(result):
        return own.probabilities(result.challenge.scored.image_scores)
    return result.tuned.fit.cross_fitted if result.tuned.fit else None


def _of(part: DatasetResult, kind: str, scores: NDArray[np.float64]) -> ScoreReliability:
    dataset, outcomes = part.scored.dataset, part.scored.outcomes
    truth = outcomes.truths > 0
    name = f"{part.info.title}, {kind}"
    estimate = draws_of(outcomes.patients).estimate(
        lambda counts: weighted_calibration_error(truth, scores, _weights(part)(counts), BINS)
    )
    return ScoreReliability(
        dataset=part.info.title,
        kind=kind,
        bins=reliability(truth, scores, BINS, mix_weights(dataset)),
        error=MetricEstimate.of(name, estimate, len(dataset)),
    )


def _weights(part: DatasetResult) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """From how often each image is drawn to its weight: at the challenge's mix where it has one."""
    dataset = part.scored.dataset
    if not has_mix(dataset):
        return lambda counts: counts
    categories = [image.category for image in dataset.images]
    return lambda counts: weights_at_mix(categories, part.info.mix, counts)
