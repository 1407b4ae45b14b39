"""Heads of image-level targets: any opacity, and the findings beside it as an auxiliary task."""

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from lungbox.datasets.findings import FINDINGS
from lungbox.metrics.losses import UNKNOWN, KnownBinaryCrossentropy
from lungbox.training.heads.base import Head, Sample
from lungbox.training.sections import Loss


class ImageScore(Head):
    """`image` `(B, 1)`: binary cross-entropy with label smoothing."""

    name = "image"

    def target(self, sample: Sample, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return np.full(shape, sample.target, np.float32)

    def is_labelled(self, sample: Sample) -> bool:
        return sample.has_target

    def loss(self, settings: Loss) -> keras.losses.Loss:
        return keras.losses.BinaryCrossentropy(
            label_smoothing=settings.label_smoothing,
            # The mean over real images only: a last batch may be padded with weights of 0.
            reduction="mean_with_sample_weight",
        )

    def weight(self, settings: Loss) -> float:
        return settings.image


class Findings(Head):
    """`findings` `(B, F)`: probabilities of `datasets.findings.FINDINGS`, from the features that
    the image score is computed from. It exists only in training.

    Images have labels of their own data set's findings; the others are `UNKNOWN` in the target and
    have no part in the loss.
    """

    name = "findings"

    def target(self, sample: Sample, shape: tuple[int, ...]) -> NDArray[np.float32]:
        known = dict(sample.findings)
        values = [known.get(name, UNKNOWN) for name in FINDINGS]
        return np.array(values, np.float32).reshape(shape)

    def is_labelled(self, sample: Sample) -> bool:
        return bool(sample.findings)

    def loss(self, settings: Loss) -> keras.losses.Loss:
        del settings
        return KnownBinaryCrossentropy(reduction="mean_with_sample_weight")

    def weight(self, settings: Loss) -> float:
        return settings.findings

    def auxiliary_output(self, model: keras.Model) -> keras.KerasTensor | None:
        pooled = model.get_layer("image_dropout").output
        return layers.Dense(len(FINDINGS), activation="sigmoid", name="findings", dtype="float32")(
            pooled
        )
