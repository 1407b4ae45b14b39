"""RoIAlign over all levels of a pyramid at once, also position-sensitive and deformable."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import KerasTensor, layers, ops

# Deformable pooling: offsets are this share of the box's size for each unit (Dai et al., 2017).
_OFFSET_SCALE = 0.1


@keras.saving.register_keras_serializable(package="lungbox")
class RoIAlign(layers.Layer):
    """RoIAlign (He et al., *Mask R-CNN*, ICCV 2017): boxes `(B, K, 4)` and the levels P3, P4, ...
    of a pyramid `(B, h, w, C)` to features `(B, K, bins, bins, C)`.

    A bin is the mean of `samples` x `samples` points, interpolated bilinearly between the centres
    of a level's cells and equal to the nearest beyond them. Boxes are pooled from the level where a
    bin is one to two cells wide, by the root of their area; the smaller and larger ones from the
    first and the last.

    Args:
        bins: of each side.
        samples: points of each side of a bin.
        position_sensitive: whether each bin has channels of its own (Dai et al., *R-FCN*, 2016): of
            `bins * bins * C` channels, the bin in row i and column j has the C from
            `(i * bins + j) * C` on, and the features are `(B, K, bins, bins, C)` again.
    """

    def __init__(
        self, bins: int = 7, samples: int = 1, position_sensitive: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.bins, self.samples, self.position_sensitive = bins, samples, position_sensitive

    def call(
        self, boxes: KerasTensor, levels: Sequence[KerasTensor], offsets: KerasTensor | None = None
    ) -> KerasTensor:
        """Pool; `offsets` `(B, K, bins, bins, 2)` shift each bin, x and y in tenths of the box's
        size (Dai et al., *Deformable Convolutional Networks*, ICCV 2017)."""
        sides = np.array([level.shape[1] for level in levels], np.int32)
        bins, count = self.bins**2, boxes.shape[1]
        groups = bins if self.position_sensitive else 1
        maps = [
            ops.reshape(level, (-1, int(side * side) * groups, level.shape[-1] // groups))
            for level, side in zip(levels, sides, strict=True)
        ]
        features = ops.concatenate(maps, axis=1)
        rows, weights = self._corners(boxes, sides, offsets)
        if self.position_sensitive:
            rows = rows * groups + self._bins[:, None]
        batch, channels = ops.shape(boxes)[0], features.shape[-1]
        starts = ops.arange(batch, dtype="int32") * features.shape[1]
        rows = ops.reshape(rows, (batch, -1)) + starts[:, None]
        taken = ops.take(ops.reshape(features, (-1, channels)), rows, axis=0)
        taken = taken * ops.reshape(weights, (batch, -1, 1))
        pooled = ops.sum(
            ops.reshape(taken, (-1, count * bins, 4 * self.samples**2, channels)), axis=2
        )
        return ops.reshape(pooled / self.samples**2, (-1, count, self.bins, self.bins, channels))

    @property
    def _bins(self) -> np.ndarray:
        """`(P,)` int32: the bin of each point, by row and column; points of a bin follow each
        other."""
        return np.repeat(np.arange(self.bins**2, dtype=np.int32), self.samples**2)

    def _corners(
        self, boxes: KerasTensor, sides: np.ndarray, offsets: KerasTensor | None
    ) -> tuple[Any, Any]:
        """Of each point the four cells around it, as rows of the maps behind each other, and their
        weights; both `(B, K, P, 4)`."""
        starts = (np.cumsum(sides**2) - sides**2).astype(np.int32)
        level = self._levels(boxes, sides)[..., None, None]
        first = ops.take(ops.convert_to_tensor(starts), level)
        side = ops.take(ops.convert_to_tensor(sides.astype(np.float32)), level)
        # A level's last cells reach beyond the image where its side is no multiple of the stride.
        scale = float(sides[0]) / ops.cast(2**level, "float32")
        points = self._points(boxes, offsets) * scale - 0.5
        points = ops.maximum(ops.minimum(points, side - 1), 0.0)
        low = ops.floor(points)
        high = ops.minimum(low + 1, side - 1)
        left, top = low[..., 0], low[..., 1]
        right, bottom = high[..., 0], high[..., 1]
        a, b = points[..., 0] - left, points[..., 1] - top
        width = side[..., 0]
        cells = [top * width + left, top * width + right,
                 bottom * width + left, bottom * width + right]  # fmt: skip
        weights = [(1 - b) * (1 - a), (1 - b) * a, b * (1 - a), b * a]
        rows = ops.cast(ops.stack(cells, axis=-1), "int32") + first
        return rows, ops.stack(weights, axis=-1)

    def _levels(self, boxes: KerasTensor, sides: np.ndarray) -> Any:
        """`(B, K)` int32: the level each box is pooled from, 0 for the first."""
        extent = ops.sqrt(ops.prod(ops.maximum(boxes[..., 2:] - boxes[..., :2], 1e-6), axis=-1))
        # Cells of the first level in a bin, to the base of 2.
        octave = ops.log2(extent * float(sides[0]) / self.bins)
        return ops.cast(ops.clip(ops.floor(octave), 0, len(sides) - 1), "int32")

    def _points(self, boxes: KerasTensor, offsets: KerasTensor | None) -> Any:
        """`(B, K, P, 2)`: x and y of each point, in 0-1 of the image."""
        inside = np.arange(self.samples**2)
        inside = np.stack([inside % self.samples, inside // self.samples], axis=-1)
        corners = np.stack([self._bins % self.bins, self._bins // self.bins], axis=-1)
        shares = corners + (np.tile(inside, (self.bins**2, 1)) + 0.5) / self.samples
        shares = ops.convert_to_tensor((shares / self.bins).astype(np.float32))[None, None]
        if offsets is not None:
            of_bins = ops.reshape(offsets, (-1, boxes.shape[1], self.bins**2, 2))
            shares = shares + _OFFSET_SCALE * ops.take(of_bins, self._bins, axis=2)
        return boxes[:, :, None, :2] + shares * (boxes[:, :, None, 2:] - boxes[:, :, None, :2])

    def compute_output_shape(self, boxes_shape: tuple, levels_shape: Sequence[tuple],
                             offsets_shape: tuple | None = None) -> tuple:  # fmt: skip
        del offsets_shape
        channels = levels_shape[0][-1] // (self.bins**2 if self.position_sensitive else 1)
        return (*boxes_shape[:2], self.bins, self.bins, channels)

    def get_config(self) -> dict[str, Any]:
        names = ("bins", "samples", "position_sensitive")
        config = super().get_config() | {name: getattr(self, name) for name in names}
        config.pop("dtype")
        return config
