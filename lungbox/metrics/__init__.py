"""Losses and metrics. Those in Keras are imported when asked for; the others need only numpy."""

from typing import Any

from lungbox.metrics.classification import auc
from lungbox.metrics.detection import rsna_image_score, rsna_score

_IN_KERAS = ("F1", "IoUBinaryCrossentropy", "MeanIoU", "PixelAccuracy", "soft_iou")

__all__ = [*_IN_KERAS, "auc", "rsna_image_score", "rsna_score"]


def __getattr__(name: str) -> Any:
    if name in _IN_KERAS:
        from lungbox.metrics import losses

        return getattr(losses, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
