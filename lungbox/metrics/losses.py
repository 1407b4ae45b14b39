"""Losses and metrics of masks, in Keras; `metrics.py` at the root opens them.

All take masks of two channels, background and opacity, `(B, h, w, 2)`: truth one-hot (or the
share of a pixel that is covered), prediction as probabilities.
"""

from typing import Any, Literal

import keras
from keras import ops

from lungbox.constants import OPACITY

Over = Literal["batch", "image"]
Channels = Literal["all", "foreground"]


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
        channels: both channels together, as in the reference system, or opacity alone.

    Returns:
        A scalar in 0-1.
    """
    y_pred = ops.convert_to_tensor(y_pred)
    y_true = ops.cast(y_true, y_pred.dtype)
    if channels == "foreground":
        y_true, y_pred = y_true[..., OPACITY:], y_pred[..., OPACITY:]
    axes = None if over == "batch" else (1, 2, 3)
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
