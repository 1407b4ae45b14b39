"""Heads: from features to the two outputs of every network.

Both compute in float32 whatever the policy: a probability near 0 or 1 does not survive
bfloat16's eight bits, and the image score only orders images by such differences.
"""

from typing import Literal

import keras
from keras import KerasTensor, layers, ops

from lungbox.constants import IMAGE_SCORE_SHARE, OPACITY

Activation = Literal["softmax", "sigmoid"]


def mask(x: KerasTensor, activation: Activation = "softmax") -> KerasTensor:
    """`(B, h, w, C)` to `(B, h, w, 2)`: probabilities of background and opacity.

    They sum to 1 under `softmax`; under `sigmoid`, which two of the reference system's networks
    have, each channel stands for itself.
    """
    x = layers.Conv2D(2, 1, name="mask_logits", dtype="float32")(x)
    return layers.Activation(activation, name="mask", dtype="float32")(x)


def image_score(pooled: KerasTensor, mask: KerasTensor, dropout: float = 0.2) -> KerasTensor:
    """`(B, h, w, C)` features and `(B, h', w', 2)` mask to `(B, 1)`: the probability that the
    radiograph shows any opacity at all.

    Beside the averaged features it sees the mask's own evidence: the mean over the image and the
    maximum over means of 4 x 4 mask pixels (so that one stray pixel says nothing).
    """
    features = layers.GlobalAveragePooling2D(name="image_pool", dtype="float32")(pooled)
    features = layers.Dropout(dropout, name="image_dropout", dtype="float32")(features)
    regions = layers.AveragePooling2D(4, name="image_regions", dtype="float32")(mask)
    certain = layers.GlobalMaxPooling2D(name="image_certain", dtype="float32")(regions)
    extent = layers.GlobalAveragePooling2D(name="image_extent", dtype="float32")(mask)
    x = layers.Concatenate(name="image_join", dtype="float32")([features, certain, extent])
    return layers.Dense(1, activation="sigmoid", name="image", dtype="float32")(x)


def certain_pixels(mask: KerasTensor, name: str) -> KerasTensor:
    """The image score of a network without an image head: `(B, h, w, 2)` to `(B, 1)`.

    The mean of the 0.5 % of mask pixels that are most certain of opacity.
    """
    return CertainPixels(name=name, dtype="float32")(mask)


@keras.saving.register_keras_serializable(package="lungbox")
class CertainPixels(layers.Layer):
    """See `certain_pixels`."""

    # Keras gives `mask` a meaning of its own, so the argument has another name.
    def call(self, inputs: KerasTensor) -> KerasTensor:
        pixels = inputs.shape[1] * inputs.shape[2]
        opacity = ops.reshape(inputs[..., OPACITY], (-1, pixels))
        certain, _ = ops.top_k(opacity, max(1, round(IMAGE_SCORE_SHARE * pixels)))
        return ops.mean(certain, axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], 1)
