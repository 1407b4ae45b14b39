"""Losses of image-level labels of which only some are known."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="lungbox")
class KnownBinaryCrossentropy(keras.losses.Loss):
    """Binary cross-entropy of `(B, F)` probabilities, the mean over those of an image's F targets
    that are known.

    A target is 0-1, or `constants.UNKNOWN`, -1; an image without any known target has a loss of 0.

    >>> loss = KnownBinaryCrossentropy()
    >>> round(float(loss([[1.0, -1.0, 0.0]], [[0.8, 0.1, 0.2]])), 4)
    0.2231

    Args:
        label_smoothing: moves targets to 0.5 by this share.
    """

    def __init__(self, label_smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss `(B,)` of each image."""
        y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        known = ops.cast(y_true >= 0, "float32")
        each = keras.losses.binary_crossentropy(
            ops.maximum(y_true, 0.0)[..., None],
            y_pred[..., None],
            label_smoothing=self.label_smoothing,
        )
        return ops.sum(known * each, axis=-1) / ops.maximum(ops.sum(known, axis=-1), 1.0)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable(package="lungbox")
class PossibleClassesCrossentropy(keras.losses.Loss):
    """Cross-entropy of `(B, L)` probabilities of classes that exclude each other, where of some
    images only a set of possible classes is known.

    A target is 1 for each possible class and 0 for the others; the loss is the negative logarithm
    of their probabilities' sum, which with one possible class is the usual cross-entropy. Where all
    targets are `UNKNOWN` it is 0.

    >>> loss = PossibleClassesCrossentropy()
    >>> round(float(loss([[1.0, 1.0, 0.0]], [[0.3, 0.2, 0.5]])), 4)  # -log(0.3 + 0.2)
    0.6931
    """

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """The loss `(B,)` of each image."""
        y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        known = ops.cast(ops.max(y_true, axis=-1) > 0, "float32")
        possible = ops.sum(ops.maximum(y_true, 0.0) * y_pred, axis=-1)
        return -known * ops.log(ops.maximum(possible, keras.config.epsilon()))
