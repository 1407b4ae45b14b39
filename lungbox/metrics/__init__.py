"""Losses and metrics. Those in Keras are imported lazily; the others need only numpy."""

from typing import Any

from lungbox.metrics.average_precision import VocMatches, mean_over_classes, voc_map
from lungbox.metrics.bootstrap import Draws, Estimate, mix_weights
from lungbox.metrics.classification import (
    auc,
    expected_calibration_error,
    reliability,
    roc_curve,
    sensitivity_specificity,
    weighted_auc,
)
from lungbox.metrics.coco import coco_average_precision
from lungbox.metrics.curves import DetectionCurve, froc
from lungbox.metrics.detection import rsna_image_score, rsna_image_scores, rsna_score
from lungbox.metrics.matching import BoxTable

_IN_KERAS = (
    "F1",
    "IoUBinaryCrossentropy",
    "MaskLoss",
    "MeanIoU",
    "PixelAccuracy",
    "ReferenceMeanIoU",
    "binary_focal",
    "lovasz_softmax",
    "soft_dice",
    "soft_iou",
)

__all__ = [
    *_IN_KERAS,
    "BoxTable",
    "DetectionCurve",
    "Draws",
    "Estimate",
    "VocMatches",
    "auc",
    "coco_average_precision",
    "expected_calibration_error",
    "froc",
    "mean_over_classes",
    "mix_weights",
    "reliability",
    "roc_curve",
    "rsna_image_score",
    "rsna_image_scores",
    "rsna_score",
    "sensitivity_specificity",
    "voc_map",
    "weighted_auc",
]


def __getattr__(name: str) -> Any:
    if name in _IN_KERAS:
        from lungbox.metrics import losses

        return getattr(losses, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
