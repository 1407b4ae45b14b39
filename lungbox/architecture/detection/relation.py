"""Object relation module: the features of each box see those of all others in the image."""

import math
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers, ops

# Sine and cosine of 8 frequencies for each of four numbers, as the authors have it.
_FREQUENCIES = (100.0 / 1000.0 ** (np.arange(8) / 8)).astype(np.float32)
# Centres closer than this share of a box count as this far apart, so that no logarithm is infinite.
_CLOSEST = 1e-3


@keras.saving.register_keras_serializable(package="lungbox")
class ObjectRelation(layers.Layer):
    """Features `(B, N, D)` of N boxes `(B, N, 4)` to `(B, N, D)`: each plus what it takes from all
    boxes, by attention weighted with how the two boxes lie.

    Source: Hu et al., *Relation Networks for Object Detection*, CVPR 2018. The weight of box m for
    box n is `w exp(k_m q_n / sqrt(key))`, normalised over m, with `w` from the boxes' geometry. It
    is unchanged where all boxes are moved or scaled together.

    Args:
        heads: relations; each makes `D / heads` of the features.
        key: dimensions of a relation's keys and queries.
    """

    def __init__(self, heads: int = 16, key: int = 64, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.heads, self.key = heads, key
        self.queries = layers.Dense(heads * key, name="queries", dtype="float32")
        self.keys = layers.Dense(heads * key, name="keys", dtype="float32")
        self.geometry = layers.Dense(heads, activation="relu", name="geometry", dtype="float32")

    def build(self, features_shape: tuple, boxes_shape: tuple) -> None:
        width = features_shape[-1]
        if width % self.heads:
            raise ValueError(f"{self.name}: {width} features do not divide by {self.heads} heads")
        self.values = layers.Dense(width, name="values", dtype="float32")
        for layer in (self.queries, self.keys, self.values):
            layer.build(features_shape)
        self.geometry.build((*boxes_shape[:2], boxes_shape[1], 8 * len(_FREQUENCIES)))

    def call(self, features: KerasTensor, boxes: KerasTensor) -> KerasTensor:
        queries, keys, values = (
            self._by_head(layer(features)) for layer in (self.queries, self.keys, self.values)
        )
        weights = ops.transpose(self.geometry(_embedded(boxes)), (0, 3, 1, 2))
        logits = ops.matmul(queries, ops.transpose(keys, (0, 1, 3, 2))) / math.sqrt(self.key)
        shares = ops.softmax(logits + ops.log(ops.maximum(weights, 1e-6)), axis=-1)
        taken = ops.transpose(ops.matmul(shares, values), (0, 2, 1, 3))
        return features + ops.reshape(taken, (-1, *features.shape[1:]))

    def _by_head(self, x: KerasTensor) -> KerasTensor:
        """`(B, N, heads * d)` to `(B, heads, N, d)`."""
        parts = ops.reshape(x, (-1, x.shape[1], self.heads, x.shape[2] // self.heads))
        return ops.transpose(parts, (0, 2, 1, 3))

    def compute_output_shape(self, features_shape: tuple, boxes_shape: tuple) -> tuple:
        del boxes_shape
        return features_shape

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"heads": self.heads, "key": self.key}
        config.pop("dtype")
        return config


def _embedded(boxes: Any) -> Any:
    """`(B, N, N, 64)`: how box m lies to box n, in sines and cosines, for n and m."""
    centres, sides = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    sides = ops.maximum(sides, 1e-6)
    of_m = sides[:, None]
    apart = ops.absolute(centres[:, :, None] - centres[:, None]) / of_m
    lie = ops.concatenate(
        [ops.log(ops.maximum(apart, _CLOSEST)), ops.log(sides[:, :, None] / of_m)], axis=-1
    )
    angles = lie[..., None] * _FREQUENCIES
    waves = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.reshape(waves, (-1, boxes.shape[1], boxes.shape[1], 8 * len(_FREQUENCIES)))
