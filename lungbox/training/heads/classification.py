"""The head of the image score: whether a radiograph shows any opacity."""

import keras
import numpy as np
from numpy.typing import NDArray

from lungbox.training.heads.base import Head, Sample
from lungbox.training.sections import Loss


class ImageScore(Head):
    """`image` `(B, 1)`: binary cross-entropy with label smoothing."""

    name = "image"

    def target(self, sample: Sample, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return np.full(shape, sample.target, np.float32)

    def loss(self, settings: Loss) -> keras.losses.Loss:
        return keras.losses.BinaryCrossentropy(
            label_smoothing=settings.label_smoothing,
            # The mean over real images only: a last batch may be padded with weights of 0.
            reduction="mean_with_sample_weight",
        )

    def weight(self, settings: Loss) -> float:
        return settings.image
