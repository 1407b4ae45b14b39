"""The metric of the RSNA Pneumonia Detection Challenge, in numpy."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes.geometry import Boxes
from lungbox.constants import RSNA_IOU_THRESHOLDS
from lungbox.metrics.matching import BoxTable, match_predictions


def rsna_image_scores(
    truth: Sequence[Boxes],
    predicted: Sequence[Boxes],
    scores: Sequence[NDArray[np.floating]],
    thresholds: Sequence[float] = RSNA_IOU_THRESHOLDS,
) -> NDArray[np.float64]:
    """The RSNA metric of each image: the mean over thresholds of TP / (TP + FP + FN).

    Predictions are matched in descending confidence, each with the truth of largest IoU that is
    still free; a hit has IoU >= threshold (the challenge's page says >; its kernels, and this,
    use >=).
    https://www.kaggle.com/competitions/rsna-pneumonia-detection-challenge/overview/evaluation

    Args:
        truth: N times `(n, 4)` `x1, y1, x2, y2`.
        predicted: N times `(m, 4)`, same space.
        scores: N times `(m,)` confidences; they only decide the order.
        thresholds: of IoU.

    Returns:
        `(N,)` 0-1; NaN where there is neither truth nor prediction, for such an image does not
        count.
    """
    predictions = BoxTable.of(predicted, scores)
    found = match_predictions(BoxTable.of(truth), predictions, thresholds)
    true_positives = np.stack(
        [np.bincount(predictions.images[hit], minlength=len(truth)) for hit in found]
    )
    both = np.array([len(t) + len(p) for t, p in zip(truth, predicted, strict=True)])
    empty = np.full(true_positives.shape, math.nan)
    parts = np.divide(true_positives, both - true_positives, out=empty, where=both > 0)
    return parts.sum(axis=0) / len(thresholds)


def rsna_image_score(
    truth: Boxes,
    predicted: Boxes,
    scores: NDArray[np.floating],
    thresholds: Sequence[float] = RSNA_IOU_THRESHOLDS,
) -> float:
    """The RSNA metric of one image; see `rsna_image_scores`, which is far faster for many.

    Args:
        truth: `(N, 4)` `x1, y1, x2, y2`.
        predicted: `(M, 4)`, same space.
        scores: `(M,)` confidences.
        thresholds: of IoU.
    """
    return float(rsna_image_scores([truth], [predicted], [scores], thresholds)[0])


def rsna_score(
    image_scores: NDArray[np.floating], weights: NDArray[np.floating] | None = None
) -> float:
    """The RSNA metric of a set of images: the mean over those that count.

    Args:
        image_scores: `(N,)` as `rsna_image_scores` gives them, NaN where an image does not count.
        weights: `(N,)` how often an image's kind occurs where the figure is meant for, for
            instance at the challenge's mix of classes; equal by default, as in the challenge.

    Returns:
        0-1; NaN where no image counts.
    """
    counts = ~np.isnan(image_scores)
    shares = counts if weights is None else np.where(counts, weights, 0.0)
    total = shares.sum()
    return float(np.where(counts, image_scores, 0.0) @ shares / total) if total else math.nan
