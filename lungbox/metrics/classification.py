"""Image-level metrics, in numpy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


def auc(targets: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive image scores above a negative one.

    Ties count half (Mann-Whitney U).

    Args:
        targets: `(N,)` booleans.
        scores: `(N,)` floats.

    Returns:
        0-1; NaN where one of the classes is missing.
    """
    return float(weighted_auc(targets, scores, np.ones((1, np.size(targets))))[0])


def weighted_auc(
    targets: ArrayLike, scores: ArrayLike, weights: NDArray[np.floating]
) -> NDArray[np.float64]:
    """`auc` of weighted images.

    Args:
        targets: `(N,)` booleans.
        scores: `(N,)` floats.
        weights: `(R, N)` of the images, in R resamples.

    Returns:
        `(R,)` 0-1; NaN where one of the classes has no weight.
    """
    positive = np.asarray(targets, bool)
    values = np.asarray(scores, np.float64)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=np.nan))
    if not len(starts):
        return np.full(len(weights), np.nan)
    ordered = np.asarray(weights, np.float64)[:, order]
    # A column for each distinct score, ascending.
    positives = np.add.reduceat(ordered * positive[order], starts, axis=1)
    negatives = np.add.reduceat(ordered * ~positive[order], starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives / 2
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    wins = (positives * below).sum(axis=1)
    return np.divide(wins, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def sensitivity_specificity(
    targets: ArrayLike, scores: ArrayLike, threshold: float
) -> tuple[float, float]:
    """Share of the positives called positive, and of the negatives called negative.

    Args:
        targets: `(N,)` booleans.
        scores: `(N,)` floats; an image is called positive at `threshold` or above.
        threshold: of the score.

    Returns:
        Sensitivity and specificity, 0-1; NaN where the class is missing.
    """
    positive = np.asarray(targets, bool)
    called = np.asarray(scores) >= threshold
    return _share(called[positive]), _share(~called[~positive])


@dataclass(frozen=True)
class RocCurve:
    """A ROC curve: both rates at every distinct score.

    Attributes:
        false_positive_rate: `(K,)` ascending from 0 to 1.
        sensitivity: `(K,)` ascending from 0 to 1.
        thresholds: `(K,)` descending; scores at or above are positive; the first is infinite.
    """

    false_positive_rate: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    thresholds: NDArray[np.float64]


def roc_curve(targets: ArrayLike, scores: ArrayLike) -> RocCurve:
    """The ROC curve; a rate is NaN where its class is missing.

    Args:
        targets: `(N,)` booleans.
        scores: `(N,)` floats.
    """
    positive = np.asarray(targets, bool)
    values = np.asarray(scores, np.float64)
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.diff(values[order], append=np.nan))
    true = np.concatenate([[0], np.cumsum(positive[order])[last]])
    false = np.concatenate([[0], last + 1]) - true
    thresholds = np.concatenate([[np.inf], values[order][last]])
    return RocCurve(_shares(false), _shares(true), thresholds)


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: share of positives by score, equal for calibrated probabilities.

    Attributes:
        confidence: `(bins,)` mean score in each bin, NaN where it is empty.
        observed: `(bins,)` share of positives in each bin, NaN where it is empty.
        counts: `(bins,)` images in each bin.
    """

    confidence: NDArray[np.float64]
    observed: NDArray[np.float64]
    counts: NDArray[np.int64]


def reliability(
    targets: ArrayLike, scores: ArrayLike, bins: int = 10, weights: ArrayLike | None = None
) -> Reliability:
    """Scores in bins of equal width over 0-1; an edge belongs to the bin above it, 1 to the last.

    Args:
        targets: `(N,)` booleans.
        scores: `(N,)` probabilities.
        bins: how many.
        weights: `(N,)` of the images in the means and shares; all 1 by default.
    """
    values = np.asarray(scores, np.float64)
    times = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    index = _bin_of(values, bins)
    counts = np.bincount(index, minlength=bins)
    total = np.bincount(index, weights=times, minlength=bins)
    sums = np.bincount(index, weights=times * values, minlength=bins)
    positives = np.bincount(index, weights=times * np.asarray(targets, bool), minlength=bins)
    empty = np.full((2, bins), np.nan)
    confidence, observed = np.divide([sums, positives], total, out=empty, where=total > 0)
    return Reliability(confidence, observed, counts)


def _bin_of(values: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(edges, values, side="right")


def expected_calibration_error(targets: ArrayLike, scores: ArrayLike, bins: int = 10) -> float:
    """Mean distance between score and share of positives over `reliability`'s bins, by images.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017, for two classes.

    Args:
        targets: `(N,)` booleans.
        scores: `(N,)` probabilities.
        bins: of equal width.

    Returns:
        0-1; NaN without images.
    """
    ones = np.ones((1, np.size(targets)))
    return float(weighted_calibration_error(targets, scores, ones, bins)[0])


def weighted_calibration_error(
    targets: ArrayLike, scores: ArrayLike, weights: NDArray[np.floating], bins: int = 10
) -> NDArray[np.float64]:
    """`expected_calibration_error` of weighted images.

    Args:
        targets: `(N,)` booleans.
        scores: `(N,)` probabilities.
        weights: `(R, N)` of the images, in R resamples.
        bins: of equal width.

    Returns:
        `(R,)` 0-1; NaN where no image has weight.
    """
    values = np.asarray(scores, np.float64)
    times = np.asarray(weights, np.float64)
    # In each bin the sum of its scores less its positives; divided by all images together.
    in_bin = np.eye(bins)[_bin_of(values, bins)]
    distance = np.abs(times @ (in_bin * (values - np.asarray(targets, bool))[:, None])).sum(axis=1)
    total = times.sum(axis=1)
    return np.divide(distance, total, out=np.full(len(total), np.nan), where=total > 0)


def _share(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Cumulated counts as shares of the last."""
    return counts / counts[-1] if counts[-1] else np.full(len(counts), np.nan)
