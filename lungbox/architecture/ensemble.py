"""Ensembles: several networks as one, their masks and scores averaged, their boxes kept apart."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers, ops
from numpy.typing import NDArray

from lungbox.architecture.heads import top_k_mean
from lungbox.constants import MASK_SCORE_SHARE


def average(
    members: Sequence[tuple[keras.Model, float]],
    keep_members: bool = False,
    gates: Collection[int] = (),
    score_from_mask: bool = False,
) -> keras.Model:
    """Combine networks of any kind into one with named outputs.

    Args:
        members: networks of `(B, S, S, 1)` gray 0-255 and their weights, which sum to 1. The
            ensemble's input size is the largest of theirs; the image is downsampled for others.
        keep_members: whether each segmentation network's own mask is also an output.
        gates: indices of the members whose image scores are averaged; all where empty.
        score_from_mask: whether the image score of a segmentation network is the mean of the 5 %
            of its mask's pixels with the highest probability, instead of its image head.

    Returns:
        A network of `(B, S, S, 1)` with the outputs `image` `(B, 1)`, the weighted mean of image
        scores; `mask` `(B, h, w, 1 + C)`, the weighted mean of the segmentation networks' masks
        at the largest of their sizes, and with `keep_members` also `members`
        `(B, M, h, w, 1 + C)`; `boxes_I` `(B, K, 4)` and `scores_I` `(B, K, C)` of each detection
        network, I its index among the members; `classes` `(B, L)`, the weighted mean of the
        classification networks.
    """
    # 1. Input
    side = max(model.input_shape[1] for model, _ in members)
    inputs = keras.Input((side, side, 1), name="radiograph")
    # 2. Members
    outputs = [
        _member(model, index)(_smaller(inputs, model.input_shape[1], index))
        for index, (model, _) in enumerate(members)
    ]
    weights = [weight for _, weight in members]
    # 3. Outputs
    gating = gates or range(len(members))
    scores = {index: _image_score(outputs[index], index, score_from_mask) for index in gating}
    combined = {"image": _weighted_mean(scores, weights, "image")}
    for index, output in enumerate(outputs):
        if "boxes" in output:
            combined[f"boxes_{index}"] = output["boxes"]
            combined[f"scores_{index}"] = output["scores"]
    masks = {i: output["mask"] for i, output in enumerate(outputs) if "mask" in output}
    if masks:
        mask_side = max(mask.shape[1] for mask in masks.values())
        masks = {i: _larger(mask, mask_side, i) for i, mask in masks.items()}
        combined["mask"] = _weighted_mean(masks, weights, "mask")
        if keep_members:
            combined["members"] = ops.stack(list(masks.values()), axis=1)
    classes = {i: output["classes"] for i, output in enumerate(outputs) if "classes" in output}
    if classes:
        combined["classes"] = _weighted_mean(classes, weights, "classes")
    # 4. Model
    return keras.Model(inputs, combined, name="ensemble")


def _image_score(output: dict[str, KerasTensor], index: int, from_mask: bool) -> KerasTensor:
    """The output of the image head; without one, a score from the mask or the boxes."""
    if from_mask and "mask" in output:
        return top_k_mean(output["mask"], f"image_{index}", MASK_SCORE_SHARE)
    if "image" in output:
        return output["image"]
    if "mask" in output:
        return top_k_mean(output["mask"], f"image_{index}")
    return ops.max(output["scores"], axis=(1, 2))[:, None]


def _member(model: keras.Model, index: int) -> keras.Model:
    """The same layers under a unique name, as the names of layers must differ; the member itself
    keeps its name, which is written into its weight files."""
    return keras.Model(model.input, model.output, name=f"member{index}_{model.name}")


def _smaller(images: KerasTensor, side: int, index: int) -> KerasTensor:
    factor, rest = divmod(images.shape[1], side)
    if (factor, rest) == (1, 0):
        return images
    if rest == 0:
        return layers.AveragePooling2D(factor, name=f"smaller{index}", dtype="float32")(images)
    return AreaAverages(side, name=f"smaller{index}", dtype="float32")(images)


class AreaAverages(layers.Layer):
    """Downsampling by area averages: `(B, N, N, 1)` to `(B, side, side, 1)`, as
    `radiograph.resize_area`.

    It is two matrix products, because Keras has no such layer, and converters do not support the
    operation of its antialiased `Resizing`.
    """

    def __init__(self, side: int, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.side = side

    def call(self, inputs: KerasTensor) -> KerasTensor:
        weights = _area_weights(inputs.shape[1], self.side)
        rows = ops.matmul(weights, inputs[..., 0])
        return ops.matmul(rows, weights.T)[..., None]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"side": self.side}


def _area_weights(old: int, new: int) -> NDArray[np.float32]:
    """`(new, old)`: the share of each new pixel that each old one covers; rows sum to 1."""
    edges = np.arange(new + 1) * (old / new)
    pixels = np.arange(old)
    starts = np.maximum(edges[:-1, None], pixels)
    ends = np.minimum(edges[1:, None], pixels + 1)
    return (np.maximum(ends - starts, 0) * (new / old)).astype(np.float32)


def _larger(mask: KerasTensor, side: int, index: int) -> KerasTensor:
    if mask.shape[1] == side:
        return mask
    return layers.Resizing(side, side, name=f"larger{index}", dtype="float32")(mask)


def _weighted_mean(
    values: Mapping[int, KerasTensor], weights: Sequence[float], name: str
) -> KerasTensor:
    """The weighted mean over some of the members, by index, their weights normalized."""
    total = 1.0 if len(values) == len(weights) else sum(weights[index] for index in values)
    parts = [
        layers.Rescaling(weights[index] / total, name=f"{name}_share{index}", dtype="float32")(
            value
        )
        for index, value in values.items()
    ]
    if len(parts) == 1:
        return layers.Identity(name=f"{name}_mean", dtype="float32")(parts[0])
    return layers.Add(name=f"{name}_mean", dtype="float32")(parts)
