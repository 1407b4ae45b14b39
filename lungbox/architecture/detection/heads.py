"""Heads of detection networks: class and box subnets that all levels of a pyramid share, and the
image score from pooled features."""

import math
from collections.abc import Sequence

import keras
from keras import KerasTensor, layers

from lungbox.architecture.blocks import normalise
from lungbox.architecture.detection.anchors import LEVELS

# So that at the start every anchor's probability is 0.01, and the many easy negatives do not make
# up the whole loss (Lin et al., *Focal Loss for Dense Object Detection*, ICCV 2017, section 4.1).
PRIOR = 0.01
PRIOR_BIAS = -math.log((1 - PRIOR) / PRIOR)


def predict_anchors(
    levels: Sequence[KerasTensor],
    classes: int,
    anchors: int,
    depth: int,
    name: str = "",
    *,
    separable: bool = False,
) -> tuple[KerasTensor, KerasTensor]:
    """RetinaNet's two subnets over all levels: logits `(B, A, classes)` and deltas `(B, A, 4)`.

    Args:
        levels: P3 to P7, of equal width.
        classes: number of classes; each has a sigmoid of its own.
        anchors: of each position.
        depth: 3x3 convolutions of each subnet before the last.
        name: prefix of the layers' names.
        separable: whether convolutions are depthwise-separable.
    """
    logits = _subnet(levels, classes, anchors, depth, f"{name}class", separable, PRIOR_BIAS)
    deltas = _subnet(levels, 4, anchors, depth, f"{name}box", separable, 0.0)
    return logits, deltas


def _subnet(
    levels: Sequence[KerasTensor],
    channels: int,
    anchors: int,
    depth: int,
    name: str,
    separable: bool,
    bias: float,
) -> KerasTensor:
    """`(B, A, channels)` of all anchors. Levels share convolutions, but not the normalisation, as
    their statistics differ (Tan et al., *EfficientDet*, CVPR 2020)."""
    kind = layers.SeparableConv2D if separable else layers.Conv2D
    width = levels[0].shape[-1]
    shared = [
        kind(width, 3, padding="same", use_bias=False, name=f"{name}_conv{number}")
        for number in range(1, depth + 1)
    ]
    last = layers.Conv2D(
        anchors * channels,
        1 if separable else 3,
        padding="same",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        bias_initializer=keras.initializers.Constant(bias),
        name=f"{name}_logits",
        dtype="float32",
    )
    outputs = []
    for level, x in zip(LEVELS, levels, strict=True):
        for number, layer in enumerate(shared, start=1):
            x = normalise(layer(x), f"{name}_conv{number}_p{level}")
        x = layers.Reshape((-1, channels), name=f"{name}_p{level}", dtype="float32")(last(x))
        outputs.append(x)
    return layers.Concatenate(axis=1, name=f"{name}_all", dtype="float32")(outputs)


def image_score(pooled: KerasTensor, dropout: float = 0.2) -> KerasTensor:
    """`(B, h, w, C)` features to `(B, 1)`: the probability that the radiograph shows any finding,
    from the average-pooled features, as a classifier has it."""
    x = layers.GlobalAveragePooling2D(name="image_pool", dtype="float32")(pooled)
    x = layers.Dropout(dropout, name="image_dropout", dtype="float32")(x)
    return layers.Dense(1, activation="sigmoid", name="image", dtype="float32")(x)
