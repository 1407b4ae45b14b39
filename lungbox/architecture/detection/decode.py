"""Decoding: from a detection network's raw outputs to its most confident boxes, inside the graph.

Overlapping boxes stay: `boxes.decide` removes or fuses them, so that its settings can be tuned on
predictions that are kept.
"""

from typing import Any, Literal

import keras
from keras import KerasTensor, layers, ops

from lungbox.architecture.detection.boxes import decode


@keras.saving.register_keras_serializable(package="lungbox")
class Decode(layers.Layer):
    """`(B, A, 4 + C + 4)` anchors, logits and deltas to the boxes `(B, K, 4)` of the K anchors with
    the highest score of any class, clipped to 0-1, and their scores `(B, K, C)`.

    Args:
        top: K; all where there are fewer.
        activation: `sigmoid`, or `softmax` where the first class is the background, which is left
            out of the scores.
    """

    def __init__(
        self, top: int = 100, activation: Literal["sigmoid", "softmax"] = "sigmoid", **kwargs: Any
    ) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.top, self.activation = top, activation

    def call(self, inputs: KerasTensor) -> tuple[KerasTensor, KerasTensor]:
        scores = inputs[..., 4:-4]
        if self.activation == "sigmoid":
            scores = ops.sigmoid(scores)
        else:
            scores = ops.softmax(scores, axis=-1)[..., 1:]
        _, rows = ops.top_k(ops.max(scores, axis=-1), min(self.top, inputs.shape[1]))
        chosen = take_rows(inputs, rows)
        boxes = decode(chosen[..., :4], chosen[..., -4:])
        return ops.clip(boxes, 0.0, 1.0), take_rows(scores, rows)

    def compute_output_shape(self, input_shape: tuple) -> tuple[tuple, tuple]:
        batch, anchors, width = input_shape
        count, background = min(self.top, anchors), self.activation == "softmax"
        return (batch, count, 4), (batch, count, width - 8 - background)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config() | {"top": self.top, "activation": self.activation}
        config.pop("dtype")
        return config


def take_rows(values: KerasTensor, rows: KerasTensor) -> KerasTensor:
    """`(B, K, D)`: of each image's `(A, D)` values the rows `(K,)`, by one gather from all images
    (`ops.take_along_axis` would need the rows D times)."""
    count, width = values.shape[1], values.shape[2]
    starts = ops.arange(ops.shape(values)[0], dtype="int32")[:, None] * count
    flat = ops.reshape(values, (-1, width))
    return ops.take(flat, ops.cast(rows, "int32") + starts, axis=0)
