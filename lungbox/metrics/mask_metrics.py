"""Metrics of masks, in Keras: counted pixel by pixel, after each is given its class.

All take masks of two channels, background and opacity, `(B, h, w, 2)`.
"""

from typing import Any

import keras
from keras import ops

from lungbox.constants import BACKGROUND, OPACITY


class _Confusion(keras.metrics.Metric):
    """Counts of pixels by true and predicted class, over everything seen since the last reset.

    A pixel's class is its larger channel, in truth and prediction alike; background where equal.
    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.counts = self.add_variable((2, 2), initializer="zeros", name="counts")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch of `(B, h, w, 2)` masks; `sample_weight` is `(B,)` where given."""
        truth, predicted = (self._classes(mask) for mask in (y_true, y_pred))
        if sample_weight is not None:
            weights = ops.cast(ops.reshape(sample_weight, (-1, 1, 1, 1)), self.dtype)
            truth = truth * weights
        self.counts.assign_add(ops.einsum("bhwi,bhwj->ij", truth, predicted))

    def _classes(self, mask: Any) -> Any:
        mask = ops.convert_to_tensor(mask)
        opacity = ops.cast(mask[..., OPACITY] > mask[..., BACKGROUND], self.dtype)
        return ops.stack([1 - opacity, opacity], axis=-1)


@keras.saving.register_keras_serializable(package="lungbox")
class MeanIoU(_Confusion):
    """Intersection over union of background and of opacity, averaged; an absent class counts 1."""

    def __init__(self, name: str = "mean_iou", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def result(self) -> Any:
        """A scalar in 0-1."""
        hits = ops.diagonal(self.counts)
        union = ops.sum(self.counts, axis=0) + ops.sum(self.counts, axis=1) - hits
        return ops.mean(ops.where(union > 0, hits / ops.maximum(union, 1), 1.0))


@keras.saving.register_keras_serializable(package="lungbox")
class ReferenceMeanIoU(keras.metrics.Mean):
    """Mean IoU as the reference system defines it, which is not Keras': a mean over images.

    Of each image, both channels are rounded to 0 or 1 and taken as one set of pixels:
    `(intersection + 1) / (union + 1)`. So background counts as much as its area, and a sigmoid's
    pixel may be of both classes or of none.
    """

    def __init__(self, name: str = "reference_mean_iou", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Add a batch of `(B, h, w, 2)` masks; `sample_weight` is `(B,)` where given."""
        truth = ops.cast(y_true, self.dtype)
        predicted = ops.round(ops.cast(y_pred, self.dtype))
        intersection = ops.sum(truth * predicted, axis=(1, 2, 3))
        union = ops.sum(truth, axis=(1, 2, 3)) + ops.sum(predicted, axis=(1, 2, 3)) - intersection
        super().update_state((intersection + 1) / (union + 1), sample_weight)


@keras.saving.register_keras_serializable(package="lungbox")
class PixelAccuracy(_Confusion):
    """Share of pixels whose class is right."""

    def __init__(self, name: str = "pixel_accuracy", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def result(self) -> Any:
        """A scalar in 0-1; 0 before anything is seen."""
        return ops.sum(ops.diagonal(self.counts)) / ops.maximum(ops.sum(self.counts), 1)


@keras.saving.register_keras_serializable(package="lungbox")
class F1(_Confusion):
    """Harmonic mean of precision and recall of opacity pixels; 0 where there are none."""

    def __init__(self, name: str = "f1", **kwargs: Any) -> None:
        super().__init__(name, **kwargs)

    def result(self) -> Any:
        """A scalar in 0-1."""
        hits = self.counts[OPACITY, OPACITY]
        errors = self.counts[OPACITY, BACKGROUND] + self.counts[BACKGROUND, OPACITY]
        return 2 * hits / ops.maximum(2 * hits + errors, 1)
