"""Fitting the calibration of an ensemble's image scores on held-out images."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungbox.datasets import info_of
from lungbox.evaluation.operating_point import PARTS, has_mix, mix_weights, patient_parts
from lungbox.evaluation.predictions import DatasetPredictions
from lungbox.weights.calibration import EDGE, Calibration, sigmoid

_STEPS = 100
# Digits that are kept of a fitted value.
_DIGITS = 4


@dataclass(frozen=True)
class CalibrationFit:
    """A calibration, and its probabilities for patients that it was not fitted on.

    Attributes:
        calibration: fitted on all images.
        method: `Platt scaling` or `beta calibration`, whichever has the lower log loss.
        cross_fitted: `(N,)` probability of each image, by the calibration that was fitted on the
            other patients.
        log_losses: of the cross-fitted probabilities of each method, at the challenge's mix.
    """

    calibration: Calibration
    method: str
    cross_fitted: NDArray[np.float64]
    log_losses: dict[str, float]


def fit_calibration(
    scores: NDArray[np.floating],
    truth: NDArray[np.bool_],
    weights: NDArray[np.floating],
    beta: bool = False,
) -> Calibration | None:
    """The calibration with the greatest likelihood, in Platt's sense.

    As Platt has it, the targets are `(P + 1) / (P + 2)` and `1 / (N + 2)` instead of 1 and 0, for P
    images with and N without an opacity, so that scores that separate the two exactly have a
    calibration, too. The likelihood is maximised by Newton's method.

    Args:
        scores: `(N,)` image scores, 0-1.
        truth: `(N,)` whether each image shows an opacity.
        weights: `(N,)` of the images, 0 or more.
        beta: beta calibration, which has a slope more, instead of Platt scaling.

    Returns:
        None where it would reverse the order of scores, or there are no images of both kinds.
    """
    positives, negatives = weights[truth].sum(), weights[~truth].sum()
    if positives <= 0 or negatives <= 0:
        return None
    scaled = weights * np.count_nonzero(weights) / (positives + negatives)
    high = (scaled[truth].sum() + 1) / (scaled[truth].sum() + 2)
    low = 1 / (scaled[~truth].sum() + 2)
    values = np.clip(scores.astype(np.float64), EDGE, 1 - EDGE)
    of_score, of_complement = np.log(values), -np.log1p(-values)
    slopes = [of_score, of_complement] if beta else [of_score + of_complement]
    found = _newton(np.column_stack([*slopes, np.ones(len(values))]), truth, (low, high), scaled)
    *fitted, intercept = np.round(found, _DIGITS).tolist()
    if min(fitted) <= 0:
        return None
    return Calibration(
        slope=fitted[0],
        slope_of_complement=fitted[1] if beta else None,
        intercept=intercept,
        prevalence=round(float(positives / (positives + negatives)), _DIGITS),
    )


def _newton(
    features: NDArray[np.float64],
    truth: NDArray[np.bool_],
    targets: tuple[float, float],
    weights: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Coefficients of a logistic regression on targets between 0 and 1, by Newton's method with
    step halving (Lin, Lin and Weng, *A note on Platt's probabilistic outputs*, 2007)."""
    target = np.where(truth, targets[1], targets[0])

    def loss(coefficients: NDArray[np.float64]) -> float:
        logits = features @ coefficients
        return float(weights @ (np.logaddexp(0, logits) - target * logits))

    found = np.zeros(features.shape[1])
    for _ in range(_STEPS):
        predicted = sigmoid(features @ found)
        gradient = features.T @ (weights * (predicted - target))
        curvature = (features.T * (weights * predicted * (1 - predicted))) @ features
        # Never singular, for instance where all scores are alike.
        step = np.linalg.solve(curvature + 1e-10 * np.eye(len(found)), gradient)
        size, before = 1.0, loss(found)
        while loss(found - size * step) > before and size > 1e-10:
            size /= 2
        found = found - size * step
        if np.abs(size * step).max() < 1e-10:
            break
    return found


def cross_fit_calibration(
    predictions: DatasetPredictions, fold: int, seed: int = 2024
) -> CalibrationFit | None:
    """Fit a calibration at the challenge's mix of classes, and one for each part of the patients on
    all others.

    Platt scaling or beta calibration: whichever has the lower log loss on the patients that are
    left out, at the mix.

    Args:
        predictions: of the challenge's images of the fold, which is not one the weights were
            trained on.
        fold: its number, for the record.
        seed: decides which patients are left out together, as in `cross_fit`.

    Returns:
        None where neither can be fitted on each of the parts.
    """
    dataset = predictions.dataset
    truth = np.array([len(image.boxes) > 0 for image in dataset.images])
    weights, parts = mix_weights(dataset), patient_parts(dataset, PARTS, seed)
    found: list[tuple[float, str, bool, NDArray[np.float64]]] = []
    for beta, name in ((False, "Platt scaling"), (True, "beta calibration")):
        left_out = _of_other_patients(predictions.scores, truth, weights, parts, beta)
        if left_out is not None:
            of_truth = np.clip(np.where(truth, left_out, 1 - left_out), EDGE, 1)
            loss = float(-(weights @ np.log(of_truth)) / weights.sum())
            found.append((loss, name, beta, left_out))
    if not found:
        return None
    _, method, beta, cross_fitted = min(found, key=lambda one: one[0])
    calibration = fit_calibration(predictions.scores, truth, weights, beta)
    if calibration is None:
        return None
    title = info_of(dataset.images[0].source).title
    mixed = ", at the challenge's mix of classes" if has_mix(dataset) else ""
    note = f"{method} on the {len(dataset)} {title} images of fold {fold}{mixed}"
    return CalibrationFit(
        calibration=calibration.model_copy(update={"folds": (fold,), "note": note}),
        method=method,
        cross_fitted=cross_fitted,
        log_losses={name: loss for loss, name, _, _ in found},
    )


def _of_other_patients(
    scores: NDArray[np.floating],
    truth: NDArray[np.bool_],
    weights: NDArray[np.floating],
    parts: NDArray[np.int64],
    beta: bool,
) -> NDArray[np.float64] | None:
    """`(N,)` probability of each image by the calibration fitted on the other parts."""
    probabilities = np.empty(len(scores))
    for part in np.unique(parts):
        chosen = parts == part
        fitted = fit_calibration(scores[~chosen], truth[~chosen], weights[~chosen], beta)
        if fitted is None:
            return None
        probabilities[chosen] = fitted.probabilities(scores[chosen])
    return probabilities
