"""Losses and metrics. Those in Keras are imported lazily; the others need only numpy."""

from importlib import import_module
from typing import Any

from lungbox.metrics.average_precision import (
    CocoMatches,
    VocMatches,
    mean_over_classes,
    voc_map,
)
from lungbox.metrics.bootstrap import Draws, Estimate, mix_weights
from lungbox.metrics.classification import (
    auc,
    expected_calibration_error,
    reliability,
    roc_curve,
    sensitivity_specificity,
    weighted_auc,
    weighted_calibration_error,
)
from lungbox.metrics.coco import coco_average_precision
from lungbox.metrics.curves import DetectionCurve, froc
from lungbox.metrics.detection import rsna_image_score, rsna_image_scores, rsna_score
from lungbox.metrics.matching import BoxTable

# Imported lazily, by module.
_IN_KERAS = {
    "losses": (
        *("IoUBinaryCrossentropy", "MaskLoss", "binary_focal", "lovasz_softmax"),
        *("soft_dice", "soft_iou"),
    ),
    "mask_metrics": ("F1", "MeanIoU", "PixelAccuracy", "ReferenceMeanIoU"),
}

__all__ = [
    *_IN_KERAS["losses"],
    *_IN_KERAS["mask_metrics"],
    "BoxTable",
    "CocoMatches",
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
    "weighted_calibration_error",
]


def __getattr__(name: str) -> Any:
    for module, names in _IN_KERAS.items():
        if name in names:
            return getattr(import_module(f"lungbox.metrics.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
