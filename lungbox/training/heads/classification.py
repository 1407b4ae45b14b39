"""Heads of image-level targets: any opacity, the findings beside it as an auxiliary task, and the
labels of classification networks."""

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from lungbox.constants import UNKNOWN
from lungbox.datasets.findings import FINDINGS
from lungbox.datasets.label_sets import LabelSet
from lungbox.metrics.label_losses import KnownBinaryCrossentropy, PossibleClassesCrossentropy
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


class Classes(Head):
    """`classes` `(B, L)`: the labels of a classification network, each where it is known.

    Args:
        labels: their set, which decides whether they exclude each other.
    """

    name = "classes"

    def __init__(self, labels: LabelSet) -> None:
        self._labels = labels

    def target(self, sample: Sample, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return np.array(sample.labels, np.float32).reshape(shape)

    def is_labelled(self, sample: Sample) -> bool:
        return any(value != UNKNOWN for value in sample.labels)

    def loss(self, settings: Loss) -> keras.losses.Loss:
        if self._labels.exclusive:
            return PossibleClassesCrossentropy(reduction="mean_with_sample_weight")
        return KnownBinaryCrossentropy(
            settings.label_smoothing, reduction="mean_with_sample_weight"
        )


class AnyLabel(ImageScore):
    """`image` `(B, 1)` of a network of several findings: whether the image has any of them, as the
    largest of its known labels."""

    def target(self, sample: Sample, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return np.full(shape, max(0.0, *sample.labels), np.float32)

    def is_labelled(self, sample: Sample) -> bool:
        return any(value != UNKNOWN for value in sample.labels)
