"""Detection metrics, in numpy."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lungbox.boxes import Boxes
from lungbox.boxes.geometry import iou
from lungbox.constants import RSNA_IOU_THRESHOLDS


def rsna_image_score(
    truth: Boxes,
    predicted: Boxes,
    scores: NDArray[np.floating],
    thresholds: Sequence[float] = RSNA_IOU_THRESHOLDS,
) -> float:
    """One image's part in the RSNA metric: the mean over thresholds of TP / (TP + FP + FN).

    Predictions are matched in descending confidence, each with the truth of largest IoU that is
    still free; a hit has IoU >= threshold (the challenge's page says >; its kernels, and this,
    use >=).
    https://www.kaggle.com/competitions/rsna-pneumonia-detection-challenge/overview/evaluation

    Args:
        truth: `(N, 4)` `x1, y1, x2, y2`.
        predicted: `(M, 4)`, same space.
        scores: `(M,)` confidences; they only decide the order.
        thresholds: of IoU.

    Returns:
        0-1; NaN where there is neither truth nor prediction, for such an image does not count.
    """
    if len(truth) == 0:
        return 0.0 if len(predicted) else math.nan
    if len(predicted) == 0:
        return 0.0
    overlaps = iou(predicted, truth)[np.argsort(-np.asarray(scores), kind="stable")]
    total = 0.0
    for threshold in thresholds:
        hits = _matched(overlaps, threshold)
        total += hits / (len(predicted) + len(truth) - hits)
    return total / len(thresholds)


def _matched(overlaps: NDArray[np.floating], threshold: float) -> int:
    """How many rows (predictions, best first) find a column (truth) of their own."""
    free = overlaps.copy()
    hits = 0
    for row in free:
        best = int(row.argmax())
        if row[best] >= threshold:
            hits += 1
            free[:, best] = -1
    return hits


def rsna_score(
    image_scores: NDArray[np.floating], weights: NDArray[np.floating] | None = None
) -> float:
    """The RSNA metric of a set of images: the mean over those that count.

    Args:
        image_scores: `(N,)` as `rsna_image_score` gives them, NaN where an image does not count.
        weights: `(N,)` how often an image's kind occurs where the figure is meant for, for
            instance at the challenge's mix of classes; equal by default, as in the challenge.

    Returns:
        0-1; NaN where no image counts.
    """
    counts = ~np.isnan(image_scores)
    shares = counts if weights is None else np.where(counts, weights, 0.0)
    total = shares.sum()
    return float(np.where(counts, image_scores, 0.0) @ shares / total) if total else math.nan
