"""Several networks as one: their masks brought to one size and averaged."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers, ops
from numpy.typing import NDArray

from lungbox.architecture.heads import certain_pixels


def average(
    members: Sequence[tuple[keras.Model, float]], keep_members: bool = False
) -> keras.Model:
    """One network whose mask is the weighted mean of its members' masks.

    Args:
        members: networks of `(B, S, S, 1)` gray 0-255 and their shares, which sum to 1. Their
            input sizes may differ: the ensemble reads the largest, and the others are given the
            image made smaller.
        keep_members: whether each member's mask is an output of its own, too.

    Returns:
        A network of `(B, S, S, 1)`, S the largest of its members' sizes, to `mask`
        `(B, h, w, 2)`, h and w the largest of its members' masks, and `image` `(B, 1)`, the mean
        of their image scores; with `keep_members` also `members` `(B, N, h, w, 2)`.
    """
    # 1. Input
    side = max(model.input_shape[1] for model, _ in members)
    inputs = keras.Input((side, side, 1), name="radiograph")
    # 2. Members
    outputs = [
        _member(model, index)(_smaller(inputs, model.input_shape[1], index))
        for index, (model, _) in enumerate(members)
    ]
    shares = [share for _, share in members]
    mask_side = max(output["mask"].shape[1] for output in outputs)
    masks = [_larger(output["mask"], mask_side, i) for i, output in enumerate(outputs)]
    scores = [
        output["image"] if "image" in output else certain_pixels(output["mask"], f"image_{i}")
        for i, output in enumerate(outputs)
    ]
    # 3. Model
    means = {"mask": _weighted(masks, shares, "mask"), "image": _weighted(scores, shares, "image")}
    if keep_members:
        means["members"] = ops.stack(masks, axis=1)
    return keras.Model(inputs, means, name="ensemble")


def _member(model: keras.Model, index: int) -> keras.Model:
    """The same layers under a name of their own, for members' names have to differ; the caller's
    network keeps its own, which is written into its weight files."""
    return keras.Model(model.input, model.output, name=f"member{index}_{model.name}")


def _smaller(images: KerasTensor, side: int, index: int) -> KerasTensor:
    factor, rest = divmod(images.shape[1], side)
    if (factor, rest) == (1, 0):
        return images
    if rest == 0:
        return layers.AveragePooling2D(factor, name=f"smaller{index}", dtype="float32")(images)
    return AreaAverages(side, name=f"smaller{index}", dtype="float32")(images)


class AreaAverages(layers.Layer):
    """`(B, N, N, 1)` to `(B, side, side, 1)`, each pixel the mean of the square it covers, which
    `radiograph.resize_area` makes as well.

    As two products of matrices, for Keras has no such layer, and its antialiased `Resizing` is an
    operation of TensorFlow's that no converter knows.
    """

    def __init__(self, side: int, **kwargs: Any) -> None:
        super().__init__(trainable=False, **kwargs)
        self.side = side

    def call(self, inputs: KerasTensor) -> KerasTensor:
        shares = _shares(inputs.shape[1], self.side)
        rows = ops.matmul(shares, inputs[..., 0])
        return ops.matmul(rows, shares.T)[..., None]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"side": self.side}


def _shares(old: int, new: int) -> NDArray[np.float32]:
    """`(new, old)`: how much of each new pixel each old one covers; rows sum to 1."""
    edges = np.arange(new + 1) * (old / new)
    pixels = np.arange(old)
    starts = np.maximum(edges[:-1, None], pixels)
    ends = np.minimum(edges[1:, None], pixels + 1)
    return (np.maximum(ends - starts, 0) * (new / old)).astype(np.float32)


def _larger(mask: KerasTensor, side: int, index: int) -> KerasTensor:
    if mask.shape[1] == side:
        return mask
    return layers.Resizing(side, side, name=f"larger{index}", dtype="float32")(mask)


def _weighted(values: list[KerasTensor], shares: list[float], name: str) -> KerasTensor:
    parts = [
        layers.Rescaling(share, name=f"{name}_share{index}", dtype="float32")(value)
        for index, (value, share) in enumerate(zip(values, shares, strict=True))
    ]
    if len(parts) == 1:
        return layers.Identity(name=f"{name}_mean", dtype="float32")(parts[0])
    return layers.Add(name=f"{name}_mean", dtype="float32")(parts)
