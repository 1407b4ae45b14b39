"""Detections at every confidence: precision and recall, and FROC, in numpy.

One class; a prediction is a hit where it is matched with a true box, IoU >= threshold, as in the
RSNA metric. Every other is a false positive, also a second one on the same true box.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungbox.metrics.matching import BoxTable, match_predictions

# LUNA16's rates: https://luna16.grand-challenge.org/Evaluation/
FROC_RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)


@dataclass(frozen=True)
class DetectionCurve:
    """Hits and false positives of a detector at every confidence threshold.

    Attributes:
        scores: `(K,)` distinct confidences, descending.
        hits: `(K,)` matched true boxes.
        false_positives: `(K,)` unmatched predictions.
        truths: number of true boxes.
        images: number of images.
    """

    scores: NDArray[np.float64]
    hits: NDArray[np.int64]
    false_positives: NDArray[np.int64]
    truths: int
    images: int

    @classmethod
    def of(
        cls, truth: BoxTable, predicted: BoxTable, images: int, iou: float = 0.5
    ) -> "DetectionCurve":
        """Match all predictions at one IoU, and count them from the most confident on."""
        order = np.argsort(-predicted.scores, kind="stable")
        found = match_predictions(truth, predicted, [iou])[0][order]
        scores = predicted.scores[order]
        # Equal confidences have one threshold: only the last of them is a point.
        last = np.flatnonzero(np.diff(scores, append=-np.inf))
        true = np.cumsum(found)[last]
        return cls(scores[last], true, last + 1 - true, len(truth), images)

    @property
    def precision(self) -> NDArray[np.float64]:
        """`(K,)` share of the predictions that are hits."""
        return self.hits / (self.hits + self.false_positives)

    @property
    def recall(self) -> NDArray[np.float64]:
        """`(K,)` share of the truths that are found; NaN without truth."""
        return self.hits / self.truths if self.truths else np.full(len(self.hits), np.nan)


def froc(curve: DetectionCurve, rates: Sequence[float] = FROC_RATES) -> NDArray[np.float64]:
    """Sensitivity at given false positives an image (free-response ROC).

    Args:
        curve: all predictions, matched.
        rates: false positives an image.

    Returns:
        `(len(rates),)` the largest sensitivity that costs at most each rate; NaN without truth.
    """
    if not curve.truths:
        return np.full(len(rates), np.nan)
    per_image = np.concatenate([[0.0], curve.false_positives / curve.images])
    sensitivity = np.concatenate([[0.0], curve.recall])
    return sensitivity[np.searchsorted(per_image, rates, side="right") - 1]
