"""Losses and metrics of masks, in Keras; `metrics.py` at the root opens them.

All take masks of two channels, background and opacity, `(B, h, w, 2)`: truth one-hot (or the
share of a pixel that is covered), prediction as probabilities.
"""

from typing import Any, Literal

import keras
from keras import ops

from lungbox.constants import BACKGROUND, OPACITY

Over = Literal["batch", "image"]
Channels = Literal["all", "foreground", "each"]


def soft_iou(
    y_true: Any,
    y_pred: Any,
    smooth: float = 1.0,
    over: Over = "batch",
    channels: Channels = "all",
) -> Any:
    """Intersection over union of probabilities.

    `(I + smooth) / (U + smooth)` with `I` the sum of products and `U` the sum of both less `I`.

    Args:
        y_true: `(B, h, w, 2)`.
        y_pred: `(B, h, w, 2)`.
        smooth: keeps empty masks at 1.
        over: sums run over the whole flattened batch, as in the reference system, or over each
            image, whose ratios are then averaged.
        channels: both channels together, as in the reference system, opacity alone, or the mean
            over both channels' own ratios, as `segmentation-models` has it.

    Returns:
        A scalar in 0-1.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.cast(y_true, y_pred.dtype)
    if channels == "foreground":
        y_true, y_pred = y_true[..., OPACITY:], y_pred[..., OPACITY:]
    axes = (() if over == "image" else (0,)) + ((1, 2) if channels == "each" else (1, 2, 3))
    intersection = ops.sum(y_true * y_pred, axis=axes)
    union = ops.sum(y_true, axis=axes) + ops.sum(y_pred, axis=axes) - intersection
    return ops.mean((intersection + smooth) / (union + smooth))


@keras.saving.register_keras_serializable(package="lungbox")
class IoUBinaryCrossentropy(keras.losses.Loss):
    """`bce * BCE + iou * (1 - IoU)`, both weights 0.5 as in the reference system.

    Args:
        bce: weight of the binary cross-entropy, the mean over pixels and channels.
        iou: weight of `1 - soft_iou`.
        smooth, over, channels: see `soft_iou`.
    """

    def __init__(
        self,
        bce: float = 0.5,
        iou: float = 0.5,
        smooth: float = 1.0,
        over: Over = "batch",
        channels: Channels = "all",
        name: str = "iou_binary_crossentropy",
        **kwargs: Any,
    ) -> None:
        # The IoU of a batch is one number, so there is nothing left to reduce.
        super().__init__(name=name, reduction=None, **kwargs)
        self.bce, self.iou = bce, iou
        self.smooth, self.over, self.channels = smooth, over, channels

    def call(self, y_true: Any, y_pred: Any) -> Any:
        y_true = ops.cast(y_true, y_pred.dtype)
        crossentropy = ops.mean(keras.losses.binary_crossentropy(y_true, y_pred))
        overlap = soft_iou(y_true, y_pred, self.smooth, self.over, self.channels)
        return self.bce * crossentropy + self.iou * (1 - overlap)

    def get_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "bce": self.bce,
            "iou": self.iou,
            "smooth": self.smooth,
            "over": self.over,
            "channels": self.channels,
        }


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
