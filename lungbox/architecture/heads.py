"""Heads: from features to a segmentation network's outputs.

They compute in float32 whatever the dtype policy: bfloat16 rounds probabilities near 0 and 1, and
image scores rank images by such differences.
"""

from typing import Any, Literal

import keras
from keras import KerasTensor, layers, ops

from lungbox.constants import IMAGE_SCORE_SHARE, OPACITY, RSNA_CLASSES

Activation = Literal["softmax", "sigmoid"]
# So many classes of an image exclude each other; any other number are independent findings.
EXCLUSIVE_CLASSES = len(RSNA_CLASSES)


def mask(x: KerasTensor, activation: Activation = "softmax", classes: int = 1) -> KerasTensor:
    """`(B, h, w, C)` features to `(B, h, w, 1 + classes)` probabilities, background first.

    They sum to 1 with `softmax`; with `sigmoid`, which two of the reference system's networks use,
    channels are independent.
    """
    x = layers.Conv2D(1 + classes, 1, name="mask_logits", dtype="float32")(x)
    return layers.Activation(activation, name="mask", dtype="float32")(x)


def image_score(pooled: KerasTensor, mask: KerasTensor, dropout: float = 0.2) -> KerasTensor:
    """`(B, h, w, C)` features and a `(B, h', w', 1 + classes)` mask to `(B, 1)`: the probability
    that the radiograph shows any opacity.

    It is computed from the average-pooled features and from the mask: its mean, and the maximum of
    its means over 4 x 4 pixels, so that a single pixel has no effect.
    """
    features = layers.GlobalAveragePooling2D(name="image_pool", dtype="float32")(pooled)
    features = layers.Dropout(dropout, name="image_dropout", dtype="float32")(features)
    regions = layers.AveragePooling2D(4, name="image_regions", dtype="float32")(mask)
    certain = layers.GlobalMaxPooling2D(name="image_certain", dtype="float32")(regions)
    extent = layers.GlobalAveragePooling2D(name="image_extent", dtype="float32")(mask)
    x = layers.Concatenate(name="image_join", dtype="float32")([features, certain, extent])
    return layers.Dense(1, activation="sigmoid", name="image", dtype="float32")(x)


def classes(pooled: KerasTensor, count: int, dropout: float = 0.2) -> dict[str, KerasTensor]:
    """`(B, h, w, C)` features to the outputs of a classification network.

    The head follows from the number of classes:

    | count | `classes` `(B, count)` | `image` `(B, 1)` |
    | --- | --- | --- |
    | 1 | a sigmoid, as of normal against abnormal | the same |
    | 3 | a softmax of RSNA's classes: normal, not normal, opacity | the last, opacity |
    | others | independent sigmoids, one a finding | an output of its own: any of them |

    The probability of any finding has an output of its own because it does not follow from those of
    the findings: 1 - the product of complements holds for independent ones, but findings occur
    together, and 14 small probabilities would make a large one of a normal radiograph.
    """
    x = layers.GlobalAveragePooling2D(name="image_pool", dtype="float32")(pooled)
    x = layers.Dropout(dropout, name="image_dropout", dtype="float32")(x)
    logits = layers.Dense(count, name="classes_logits", dtype="float32")(x)
    activation = "softmax" if count == EXCLUSIVE_CLASSES else "sigmoid"
    probabilities = layers.Activation(activation, name="classes", dtype="float32")(logits)
    if derives_image_score(count):
        return {"classes": probabilities, "image": probabilities[:, -1:]}
    image = layers.Dense(1, activation="sigmoid", name="image", dtype="float32")(x)
    return {"classes": probabilities, "image": image}


def derives_image_score(count: int) -> bool:
    """Whether the image score of a classification network is one of its `count` classes."""
    return count in (1, EXCLUSIVE_CLASSES)


def top_k_mean(mask: KerasTensor, name: str, share: float = IMAGE_SCORE_SHARE) -> KerasTensor:
    """The image score of a network without an image head: `(B, h, w, 1 + classes)` to `(B, 1)`.

    The mean probability of the `share` of pixels with the highest probability of any class.
    """
    return TopKMeanPooling(share, name=name, dtype="float32")(mask)


@keras.saving.register_keras_serializable(package="lungbox")
class TopKMeanPooling(layers.Layer):
    """The layer of `top_k_mean`."""

    def __init__(self, share: float = IMAGE_SCORE_SHARE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.share = share

    # Keras gives an argument called `mask` a meaning of its own.
    def call(self, inputs: KerasTensor) -> KerasTensor:
        pixels = inputs.shape[1] * inputs.shape[2]
        opacity = ops.reshape(ops.max(inputs[..., OPACITY:], axis=-1), (-1, pixels))
        highest, _ = ops.top_k(opacity, max(1, round(self.share * pixels)))
        return ops.mean(highest, axis=-1, keepdims=True)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (input_shape[0], 1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"share": self.share}
