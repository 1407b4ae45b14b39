"""Anchors: the boxes that predictions start from, a fixed set for each position of a pyramid."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers, ops
from numpy.typing import NDArray

LEVELS = (3, 4, 5, 6, 7)


@dataclass(frozen=True)
class Anchors:
    """The anchors of each position of the pyramid's levels P3 to P7.

    Attributes:
        size: side of the smallest square anchor of a level, in its strides. RetinaNet's is 4, for
            images of 800 px; smaller images need smaller ones, as opacities shrink with them.
        per_octave: sizes between this one and the next level's.
        ratios: height over width.

    Example:
        >>> Anchors(size=2.0, per_octave=1, ratios=(1.0,)).boxes(128)[0].tolist()
        [-0.03125, -0.03125, 0.09375, 0.09375]
    """

    size: float = 4.0
    per_octave: int = 3
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        if not self.size > 0:
            raise ValueError("anchor_size: give a number above 0")

    @property
    def count(self) -> int:
        """Anchors of a position."""
        return self.per_octave * len(self.ratios)

    def boxes(self, image_size: int) -> NDArray[np.float32]:
        """All anchors of a square image, `(A, 4)` in 0-1, not clipped; by level, row, column, size
        and ratio."""
        return np.concatenate([self._of_level(image_size, level) for level in LEVELS])

    def _of_level(self, image_size: int, level: int) -> NDArray[np.float32]:
        stride = 2**level
        cells = -(-image_size // stride)
        y, x = np.meshgrid(np.arange(cells) + 0.5, np.arange(cells) + 0.5, indexing="ij")
        centres = np.stack([x, y], axis=-1)[:, :, None] * stride
        sides = self.size * stride * 2 ** (np.arange(self.per_octave) / self.per_octave)
        roots = np.sqrt(self.ratios)
        half = np.stack([np.outer(sides, 1 / roots), np.outer(sides, roots)], axis=-1) / 2
        half = half.reshape(1, 1, self.count, 2)
        boxes = np.concatenate([centres - half, centres + half], axis=-1)
        return (boxes.reshape(-1, 4) / image_size).astype(np.float32)


@keras.saving.register_keras_serializable(package="lungbox")
class WithAnchors(layers.Layer):
    """Joins the anchors with what was predicted for them, so that a loss needs one tensor alone.

    `(B, A, C)` class logits and `(B, A, 4)` deltas to `(B, A, 4 + C + 4)`: anchor, logits, deltas.

    Args:
        image_size: side of the network's input, in pixels.
        anchors: which anchors there are.
    """

    def __init__(self, image_size: int, anchors: Anchors, **kwargs: Any) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.image_size, self.anchors = image_size, anchors

    def call(self, logits: KerasTensor, deltas: KerasTensor) -> KerasTensor:
        boxes = ops.convert_to_tensor(self.anchors.boxes(self.image_size))[None]
        boxes = ops.broadcast_to(boxes, ops.shape(deltas))
        return ops.concatenate([boxes, logits, deltas], axis=-1)

    def compute_output_shape(self, logits_shape: tuple, deltas_shape: tuple) -> tuple:
        return (*deltas_shape[:2], logits_shape[-1] + 8)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("dtype")
        return config | {"image_size": self.image_size, "anchors": vars(self.anchors)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WithAnchors":
        settings = config.pop("anchors")
        anchors = Anchors(**settings | {"ratios": tuple(settings["ratios"])})
        return cls(anchors=anchors, **config)
